"""Maximum-likelihood training on solved instances (equation 1), through the shared training loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from paperworks.papers.pointer_networks.instances import PAD, Instances
from paperworks.runs import Progress, no_progress
from paperworks.training import Batch, Grouped, Rows, TrainResult, TrainSettings, train

CLIP_NORM = 2.0
"""The gradient's L2 norm is cut to this (section 4.1)."""


def pointer_loss(network: nn.Module, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross-entropy of the pointers and of the stop, teacher forcing: (sum in nats, number of them).

    ``batch`` has rows of ``Instances.columns``. What is padding in every row is cut off first.
    """
    points, lengths, targets = batch["points"], batch["lengths"], batch["targets"]
    points = points[:, : int(lengths.max())]
    targets = targets[:, : int((targets != PAD).sum(1).max())]
    logits = network(points, lengths, targets)
    total = functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=PAD, reduction="sum")
    return total, (targets != PAD).sum()


def training_settings(
    *,
    steps: int,
    batch_size: int = 128,
    learning_rate: float = 2e-3,
    seed: int = 0,
    checkpoint_every: int = 500,
    eval_every: int = 0,
    device: str = "cpu",
) -> TrainSettings:
    """Adam without weight decay, at a rate that falls to a tenth over the last 40% of the steps."""
    return TrainSettings(
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        betas=(0.9, 0.999),
        weight_decay=0.0,
        clip_norm=CLIP_NORM,
        schedule="wsd",
        warmup_steps=min(100, steps // 10),
        decay_fraction=0.4,
        final_factor=0.1,
        checkpoint_every=checkpoint_every,
        eval_every=eval_every,
        device=device,
        seed=seed,
    )


def fit(
    network: nn.Module,
    instances: Instances,
    settings: TrainSettings,
    *,
    held_out: Instances | None = None,
    checkpoint_dir: Path | None = None,
    progress: Progress = no_progress,
    on_step: Callable[[int, float, float], None] | None = None,
) -> TrainResult:
    """Train a pointer network or a fixed-dictionary model in place on solved instances.

    The instances of a step have one length, so that the encoder has no padding to step around. Where no length has
    ``settings.batch_size`` instances, a step has as many as the most frequent length.

    ``held_out`` instances decide which evaluation's weights are kept; ``checkpoint_dir`` makes it resumable. See
    ``paperworks.training.train`` for the rest.
    """

    def evaluate(trained: nn.Module) -> float:
        assert held_out is not None
        return mean_loss(trained, held_out)

    largest = int(np.unique(instances.lengths, return_counts=True)[1].max())
    return train(
        network,
        Rows(instances.columns(), Grouped(instances.lengths)),
        replace(settings, batch_size=min(settings.batch_size, largest)),
        loss=pointer_loss,
        evaluate=evaluate if held_out is not None else None,
        checkpoint_dir=checkpoint_dir,
        progress=progress,
        on_step=on_step,
    )


def mean_loss(network: nn.Module, instances: Instances, batch_size: int = 512) -> float:
    """Mean cross-entropy per output, stops included, in nats."""
    columns = instances.columns()
    device = next(network.parameters()).device
    total = count = 0.0
    with torch.no_grad():
        for start in range(0, len(instances), batch_size):
            batch = {name: tensor[start : start + batch_size].to(device) for name, tensor in columns.items()}
            loss, number = pointer_loss(network, batch)
            total, count = total + float(loss), count + float(number)
    return total / count
