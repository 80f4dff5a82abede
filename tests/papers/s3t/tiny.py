"""Options of a second, for the tests that walk the catalogue."""

from pathlib import Path
from typing import Any

import numpy as np


def options(folder: Path) -> list[dict[str, Any]]:
    """A small table; one shard of two slices. And a plan."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 3))
    lines = [f"{a:.4f},{b:.4f},{c:.4f},{'yes' if a + b > 0 else 'no'}" for a, b, c in x]
    (folder / "table.csv").write_text("a,b,c,kind\n" + "\n".join(lines) + "\n")
    small = {"width": 4, "layers": 2, "rank": 1, "epochs": 0.5, "batch_size": 16, "streams": 10}
    return [
        {"data": str(folder / "table.csv"), "label": "kind", "shards": 1, "slices": 2, **small},
        {"action": "plan", "records": 1000, "gpu_hours": 1},
    ]


def beside(folder: Path) -> dict[str, dict[str, Any]]:
    """Options beside which one that no set has is read."""
    trained = {"action": "delete", "folder": str(folder)}
    return {"ids_file": trained, "folder": {"action": "status"}}
