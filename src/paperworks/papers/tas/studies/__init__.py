"""The studies, by kind."""
