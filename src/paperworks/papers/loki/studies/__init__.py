"""The studies of Loki, by what they measure."""
