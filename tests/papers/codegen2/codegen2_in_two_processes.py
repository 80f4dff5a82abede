"""What tests/training/test_processes.py runs in one process and in two: CodeGen2's mixture, in full and with LoRA."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from paperworks.papers.codegen2 import train
from paperworks.papers.codegen2.fitting import Lora
from paperworks.papers.codegen2.models import small_model
from paperworks.papers.codegen2.tokens import InfillTokens
from paperworks.training import TrainSettings

TOKENS = InfillTokens(256, 257, 258, tuple(range(259, 267)), vocabulary=267)


def train_losses(batch_size: int, folder: Path) -> dict[str, list[float]]:
    """Losses by step with as many rows a step in each process."""
    rng = np.random.default_rng(0)
    documents = [np.append(rng.integers(97, 107, int(n)), TOKENS.end) for n in rng.integers(20, 60, 30)]
    settings = TrainSettings(steps=4, batch_size=batch_size, learning_rate=3e-3, device="cpu", seed=1)
    found = {}
    for name, lora in (("full", None), ("lora", Lora(r=2))):
        model = small_model(267, layers=2, width=32, context=64, end=TOKENS.end)
        found[name] = list(
            train(
                model, TOKENS, np.concatenate(documents), settings=settings, length=32, least=4, lora=lora
            ).result.losses
        )
    return found
