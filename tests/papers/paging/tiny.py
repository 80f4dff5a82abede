"""Options of a second, for the tests that walk the catalogue."""

from pathlib import Path
from typing import Any


def options(folder: Path) -> list[dict[str, Any]]:
    """A short trace, with learned bits."""
    return [{"limit": 300, "k": 8, "runs": 2, "noise": [0.25], "policies": ["lru", "flush"], "sizes": [4, 8]}]
