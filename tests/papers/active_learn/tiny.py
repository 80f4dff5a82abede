"""Options of a second, for the tests that walk the catalogue."""

from pathlib import Path
from typing import Any


def options(folder: Path) -> list[dict[str, Any]]:
    """A table of questions, ratings, and arms; few steps of small networks."""
    (folder / "animals.csv").write_text(
        "name,fur,legs,flies\ncat,yes,4,no\nhen,no,2,yes\ncod,no,0,no\nbat,yes,2,yes\n", encoding="utf-8"
    )
    rows = ["a,b,c"] + [f"{5 - 4 * (i % 2)},{1 + 4 * (i % 2)},{(7 * i) % 5}" for i in range(12)]
    (folder / "ratings.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    short = {
        "classes": 2,
        "iterations": 2,
        "robust_iterations": 2,
        "hidden": (4,),
        "draws": 2,
        "roll_outs": 2,
        "test_rollouts": 100,
        "budget": 2,
    }
    return [
        {"table": str(folder / "animals.csv"), **short},
        {"ratings": str(folder / "ratings.csv"), "archetypes": 2, **short},
        {"arms": "2", "particles": 2, "radii": (4.0, 20.0), **short},
    ]
