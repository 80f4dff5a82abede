"""``python -m paperworks``."""

from paperworks.cli import main

main()
