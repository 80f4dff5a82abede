"""Options of a second, for the tests that walk the catalogue."""

from pathlib import Path
from typing import Any

from tiny_checkpoint import tiny_inputs


def options(folder: Path) -> list[dict[str, Any]]:
    """A model of a few thousand weights and a short text."""
    model, text = tiny_inputs(folder)
    small = {"tuning_steps": 1, "pruning_steps": 3, "final_steps": 1, "batch_size": 2, "length": 32, "lora_rank": 2}
    return [{"model": model, "text": text, "evaluation": text, "prompt": "none", "evaluation_sequences": 4} | small]
