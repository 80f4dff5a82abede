"""Options of a second, for the tests that walk the catalogue."""

from pathlib import Path
from typing import Any


def options(folder: Path) -> list[dict[str, Any]]:
    """A perceptron on a few digits, pruned, and made to forget one."""
    small = {"limit": 120, "epochs": 0.5, "samples": 4, "device": "cpu"}
    return [
        {**small, "model": "mlp", "compare": False},
        {**small, "model": "small-cnn", "task": "unlearn", "forget": "3", "compare": False},
    ]
