"""Options of a second, for the tests that walk the catalogue."""

from pathlib import Path
from typing import Any

import numpy as np


def options(folder: Path) -> list[dict[str, Any]]:
    """A small table; scores of early trainings, and a student with a teacher."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 3))
    lines = [f"{a:.4f},{b:.4f},{c:.4f},{'yes' if a + b > 0 else 'no'}" for a, b, c in x]
    (folder / "table.csv").write_text("a,b,c,kind\n" + "\n".join(lines) + "\n")
    return [
        {
            "data": str(folder / "table.csv"),
            "label": "kind",
            "method": "el2n",
            "fraction": 0.5,
            "width": 4,
            "steps": 6,
            "teacher_steps": 6,
            "early_runs": 1,
            "early_steps": 2,
            "batch_size": 8,
        }
    ]
