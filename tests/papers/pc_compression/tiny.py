"""Options of a second, for the tests that walk the catalogue."""

from pathlib import Path
from typing import Any

import numpy as np


def options(folder: Path) -> list[dict[str, Any]]:
    """A small table of numbers."""
    rows = np.random.default_rng(0).integers(0, 4, (60, 6)).astype(np.uint8)
    np.save(folder / "rows.npy", rows)
    return [{"input": str(folder / "rows.npy"), "latents": 2, "epochs": 3}]


def beside(folder: Path) -> dict[str, dict[str, Any]]:
    """Options beside which one that no set has is read."""
    return {"model": options(folder)[0] | {"action": "compress"}}
