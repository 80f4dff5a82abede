"""Options of a second, for the tests that walk the catalogue."""

from pathlib import Path
from typing import Any

from tiny_checkpoint import tiny_inputs


def options(folder: Path) -> list[dict[str, Any]]:
    """A model of a few thousand weights and a short text."""
    model, text = tiny_inputs(folder)
    small = {"steps": 3, "examples": 4, "length": 16, "train_length": 16, "evaluation_sequences": 4, "batch_size": 2}
    one = {"model": model, "text": text, "evaluation": text} | small
    return [one, one | {"train_steps": 4, "stages": 2, "uniform_export": True, "uniform_multiple": 1}]
