"""The studies, by what they need."""
