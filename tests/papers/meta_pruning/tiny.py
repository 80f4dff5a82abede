"""Options of a second, for the tests that walk the catalogue."""

from pathlib import Path
from typing import Any


def options(folder: Path) -> list[dict[str, Any]]:
    """A few digits; a network pruned with a metanetwork that is trained on two others, and a training by itself."""
    small = {
        "limit": 80,
        "epochs": 1,
        "meta_epochs": 1,
        "select_every": 1,
        "n_models": 2,
        "finetune_epochs": 1,
        "final_epochs": 1,
        "hidden": 4,
        "layers": 1,
        "steps": 10,
    }
    return [small, small | {"action": "train"}]
