"""Parts of ``study.py``."""
