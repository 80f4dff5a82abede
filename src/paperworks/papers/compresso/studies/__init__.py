"""The claims, measured again."""
