"""Options of a second, for the tests that walk the catalogue."""

from pathlib import Path
from typing import Any


def options(folder: Path) -> list[dict[str, Any]]:
    """A few digits, few steps, one training for each set."""
    return [
        {
            "limit": 100,
            "steps": 3,
            "epochs": 1,
            "test_epochs": 1,
            "ratios": (1.0,),
        }
    ]
