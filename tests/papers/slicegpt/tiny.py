"""Options of a second, for the tests that walk the catalogue."""

from pathlib import Path
from typing import Any

from tiny_checkpoint import tiny_inputs


def options(folder: Path) -> list[dict[str, Any]]:
    """A model of a few thousand weights and a short text."""
    model, text = tiny_inputs(folder)
    small = {"sequences": 4, "length": 16, "evaluation_sequences": 4, "recovery_steps": 2, "lora_rank": 2}
    return [{"model": model, "calibration": text, "evaluation": text, "batch_size": 4, "round_to": 1} | small]
