"""Recovery fine-tuning: low-rank adapters on a pruned model's attention and feed-forward matrices, then merged."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from paperworks.errors import InputError
from paperworks.language import perplexity
from paperworks.parameters import check_seed
from paperworks.runs import Progress, no_progress
from paperworks.training import TrainResult, TrainSettings, add_lora, merge_lora, train

EVALUATION_SHARE = 0.1
"""Share of the windows that is kept from training, to choose the best weights and to stop early."""


def recover(
    model: torch.nn.Module,
    windows: torch.Tensor,
    targets: Sequence[str],
    *,
    steps: int,
    rank: int = 32,
    alpha: float = 10.0,
    dropout: float = 0.05,
    learning_rate: float = 2e-4,
    batch_size: int = 8,
    eval_every: int | None = None,
    patience: int = 5,
    seed: int = 0,
    device: str = "auto",
    checkpoint_dir: Path | None = None,
    progress: Progress = no_progress,
) -> tuple[torch.nn.Module, TrainResult]:
    """Fine-tune a pruned or sliced causal language model with LoRA and merge the adapters (SliceGPT's RFT).

    The schedule is SliceGPT's official code's: AdamW (0.9, 0.95), weight decay 0.01, linear with warm-up, early
    stopping, the best weights by evaluation loss. Embeddings, head and residual matrices stay fixed.

    Parameters
    ----------
    windows : int64 ``[n, T]``, n of at least 2; a tenth of them (at most 64) is kept for evaluation.
    targets : last parts of the names of the matrices that get adapters.
    steps : optimiser steps.
    eval_every : steps between evaluations; None: 16, or a quarter of a short training.
    patience : evaluations in a row without a better loss after which it stops; 0 takes every step.

    Returns
    -------
    the merged model (the same object, edited in place) and the course of the training.
    """
    check_seed("seed", seed)
    if len(windows) < 2:
        raise InputError("calibration", f"{len(windows)} windows", "at least 2, one of them for evaluation")
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(windows)))
    held = min(64, max(1, int(EVALUATION_SHARE * len(windows))))
    evaluation, training = windows[order[:held]], windows[order[held:]]
    adapted = add_lora(model, targets, r=rank, alpha=alpha, dropout=dropout, seed=seed)
    settings = TrainSettings(
        steps=steps,
        batch_size=min(batch_size, len(training)),
        learning_rate=learning_rate,
        schedule="linear",
        warmup_steps=min(400, steps // 10),
        eval_every=eval_every or max(1, min(16, steps // 4)),
        patience=patience,
        checkpoint_every=max(1, steps // 10),
        device=device,
        seed=seed,
    )
    result = train(
        adapted,
        training,
        settings,
        evaluate=lambda m: math.log(perplexity(m, evaluation, batch_size=batch_size)),
        checkpoint_dir=checkpoint_dir,
        progress=progress,
    )
    return merge_lora(adapted), result
