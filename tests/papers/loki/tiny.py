"""Options of a second, for the tests that walk the catalogue."""

from pathlib import Path
from typing import Any


def options(folder: Path) -> list[dict[str, Any]]:
    """A table of probabilities on a small taxonomy."""
    (folder / "taxonomy.csv").write_text("parent,child\nanimal,cat\nanimal,dog\ndog,poodle\nanimal,bird\nbird,crow\n")
    rows = "0.7,0.2,0.1,cat\n0.1,0.6,0.3,bird\n0.2,0.2,0.6,crow\n0.4,0.5,0.1,poodle\n"
    (folder / "probabilities.csv").write_text("poodle,cat,crow,label\n" + rows)
    return [{"probabilities": str(folder / "probabilities.csv"), "space": str(folder / "taxonomy.csv")}]


def beside(folder: Path) -> dict[str, dict[str, Any]]:
    """Options beside which one is read that the sets read another input in place of."""
    return {"data": {}}
