"""Options of a second, for the tests that walk the catalogue."""

from pathlib import Path
from typing import Any


def options(folder: Path) -> list[dict[str, Any]]:
    """A folder of three short tunes in ABC and one that is broken."""
    scores = folder / "scores"
    scores.mkdir()
    for number, key in enumerate(("C", "G", "F"), 1):
        notes = "[CEG]2 [FAc]2 | [GBd]2 [CEG]2 | [Ace]2 [DFA]2 | [GBd]2 [CEG]2 |"
        (scores / f"tune{number}.abc").write_text(f"X:{number}\nT:tune {number}\nM:4/4\nL:1/4\nK:{key}\n{notes}\n")
    (scores / "broken.musicxml").write_text("<score-partwise>")
    return [
        {
            "scores": str(scores),
            "vary": str(scores / "tune1.abc"),
            "steps": 2100,
            "vector_size": 8,
            "negatives": 4,
            "vocab_size": 20,
            "neighbours": 2,
        }
    ]
