"""The studies; each file says its setting."""
