"""Options of a second, for the tests that walk the catalogue."""

from pathlib import Path
from typing import Any


def options(folder: Path) -> list[dict[str, Any]]:
    """A few scenes of shapes, few steps."""
    return [{"scenes": 8, "steps": 3, "batch_size": 4, "points": 64}]
