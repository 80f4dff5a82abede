"""Options of a second, for the tests that walk the catalogue."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd


def options(folder: Path) -> list[dict[str, Any]]:
    """The bundled pairs, and a table of the user's."""
    rng = np.random.default_rng(0)
    site = rng.integers(0, 6, 300)
    table = pd.DataFrame({"site": site.astype(str), "age": rng.integers(18, 90, 300), "price": rng.normal(size=300)})
    table["clicked"] = np.where(rng.random(300) < 0.2 + 0.1 * site, "yes", "no")
    table.to_csv(folder / "clicks.csv", index=False)
    short = {"epochs": 1, "generations": 2, "mutations": 3, "crossovers": 3, "dim": 4, "hidden": (8,), "batch_size": 64}
    return [
        {"pairs": 300, "compare": False, **short},
        {"data": str(folder / "clicks.csv"), "label": "clicked", **short},
    ]
