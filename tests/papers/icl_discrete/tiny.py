"""Options of a second, for the tests that walk the catalogue."""

from pathlib import Path
from typing import Any


def options(folder: Path) -> list[dict[str, Any]]:
    """A small network that is trained first."""
    small = {"steps": 3, "width": 16, "layers": 1, "heads": 2, "batch": 4}
    return [{"dims": 4, "points": 6, "prompts": 4} | small]


def beside(folder: Path) -> dict[str, dict[str, Any]]:
    """Options beside which one that no set has is read."""
    short = {"points": 6, "prompts": 4, "steps": 0}
    return {"input": short, "checkpoint": short | {"dims": 4}}
