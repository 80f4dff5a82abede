"""Options of a second, for the tests that walk the catalogue."""

from pathlib import Path
from typing import Any

from tiny_checkpoint import tiny_inputs


def options(folder: Path) -> list[dict[str, Any]]:
    """A model of a few thousand weights and a short text."""
    model, text = tiny_inputs(folder)
    small = {"steps": 3, "batch_size": 2, "length": 16, "evaluation_sequences": 4, "target": "0.8p"}
    uniform = {"uniform_export": True, "uniform_multiple": 1, "round_to": 4}
    return [{"model": model, "text": text, "evaluation": text, "lora_rank": 2, "keep_adapter": True, **uniform} | small]
