"""The studies, by what they train."""
