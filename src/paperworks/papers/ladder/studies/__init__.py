"""The studies, by what they need: digits on coloured ground, texts, tables."""
