"""Options of a second, for the tests that walk the catalogue."""

from pathlib import Path
from typing import Any


def options(folder: Path) -> list[dict[str, Any]]:
    """Few narrow networks, with their weights kept."""
    return [{"permutation": "2,0,1", "members": 8, "width": 16, "keep_weights": True}]
