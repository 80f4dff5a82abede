"""Options of a second, for the tests that walk the catalogue."""

from pathlib import Path
from typing import Any


def options(folder: Path) -> list[dict[str, Any]]:
    """A few scenes of shapes, few steps, each class with one name: names are what costs time here."""
    return [{"scenes": 8, "steps": 2, "batch_size": 2, "points": 32, "synonyms": "none"}]
