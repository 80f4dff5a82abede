"""Options of a second, for the tests that walk the catalogue."""

from pathlib import Path
from typing import Any


def options(folder: Path) -> list[dict[str, Any]]:
    """A bundled network on few instances; a small network that is trained first."""
    squares = (f"0.{i} 0.1 0.9 0.{i} 0.8 0.9 0.1 0.8 output 1 2 3 4 1" for i in range(1, 8))
    (folder / "hulls.txt").write_text("\n".join(squares) + "\n")
    trained = {"input": str(folder / "hulls.txt"), "train": True, "steps": 3, "hidden": 8}
    return [{"problem": "hull", "uniform": 3, "beams": 1}, {"problem": "hull", "uniform": 3} | trained]
