"""Options of a second, for the tests that walk the catalogue."""

from pathlib import Path
from typing import Any


def options(folder: Path) -> list[dict[str, Any]]:
    """A few digits, few epochs, no rivals."""
    small = {"limit": 80, "epochs": 2, "training_epochs": 1, "batch_size": 32, "ratios": (0.5, 1.0), "compare": False}
    return [small]
