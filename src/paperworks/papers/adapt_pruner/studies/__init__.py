"""The studies, by what they measure."""
