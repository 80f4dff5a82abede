"""Options of a second, for the tests that walk the catalogue."""

from pathlib import Path
from typing import Any


def options(folder: Path) -> list[dict[str, Any]]:
    """A few digits, few epochs, no rivals."""
    return [{"limit": 80, "epochs": 2, "training_epochs": 1, "compare": False}]
