"""Options of a second, for the tests that walk the catalogue."""

from pathlib import Path
from typing import Any


def options(folder: Path) -> list[dict[str, Any]]:
    """A few digits, few steps, one seed."""
    return [
        {
            "contrast": "initialised-vs-pretrained",
            "limit": 120,
            "model": "mlp",
            "epochs": 1.0,
            "recovery_epochs": 1.0,
            "ratios": (0.5,),
            "seeds": 1,
        }
    ]
