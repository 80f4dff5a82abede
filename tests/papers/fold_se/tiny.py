"""Options of a second, for the tests that walk the catalogue."""

from pathlib import Path
from typing import Any


def options(folder: Path) -> list[dict[str, Any]]:
    """A bundled table with few folds."""
    return [{"data": "wine", "folds": 2}]


def beside(folder: Path) -> dict[str, dict[str, Any]]:
    """Options beside which one that no set has is read."""
    return {"predict": options(folder)[0]}
