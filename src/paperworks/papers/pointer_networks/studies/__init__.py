"""The studies, by their problems."""
