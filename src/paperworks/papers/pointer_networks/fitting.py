"""Maximum-likelihood training on solved instances (equation 1), through the shared training loop."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import Dataset

from paperworks.errors import InputError
from paperworks.papers.pointer_networks.instances import PAD, Instances
from paperworks.runs import Progress, no_progress
from paperworks.training import TrainResult, TrainSettings, train
from paperworks.training.losses import Batch

CLIP_NORM = 2.0
"""The gradient's L2 norm is cut to this (section 4.1)."""


def pointer_loss(network: nn.Module, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross-entropy of the pointers and of the stop, teacher forcing: (sum in nats, number of them).

    ``batch`` has the columns of ``Instances.columns``, or one item of ``LengthBatches``, with one axis in front. What
    is padding in every row is cut off first.
    """
    points, lengths, targets = batch["points"], batch["lengths"], batch["targets"]
    if points.ndim == 4:
        points, lengths, targets = points.flatten(0, 1), lengths.flatten(), targets.flatten(0, 1)
    points = points[:, : int(lengths.max())]
    targets = targets[:, : int((targets != PAD).sum(1).max())]
    logits = network(points, lengths, targets)
    total = functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=PAD, reduction="sum")
    return total, (targets != PAD).sum()


class LengthBatches(Dataset[dict[str, torch.Tensor]]):
    """Solved instances in batches of one input length each, so that the encoder has no padding to step around.

    Item i is a batch: points [b, n, d], lengths [b] and targets [b, m]. Which instances share a batch is drawn anew in
    every epoch from the seed and the epoch's number. What does not fill a batch waits for another epoch, unless its
    length has no full batch at all.
    """

    def __init__(self, instances: Instances, batch_size: int, seed: int = 0) -> None:
        if batch_size < 1:
            raise InputError("batch_size", batch_size, "1 or more")
        self.columns = instances.columns()
        self.batch_size, self.seed = batch_size, seed
        lengths = instances.lengths
        self.by_length = [np.flatnonzero(lengths == n) for n in np.unique(lengths)]
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Draw the batches of an epoch."""
        rng = np.random.default_rng([self.seed, epoch])
        self.batches = []
        for rows in self.by_length:
            order, size = rng.permutation(rows), min(self.batch_size, len(rows))
            self.batches += [order[i : i + size] for i in range(0, len(order) - size + 1, size)]

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        rows = torch.from_numpy(self.batches[index])
        return {name: column[rows] for name, column in self.columns.items()}


def training_settings(
    *,
    steps: int,
    learning_rate: float = 2e-3,
    seed: int = 0,
    checkpoint_every: int = 500,
    eval_every: int = 0,
    device: str = "cpu",
) -> TrainSettings:
    """Adam without weight decay, at a rate that falls to a tenth over the last 40% of the steps.

    One example of the loop is a whole batch of ``LengthBatches``, hence ``batch_size=1``.
    """
    return TrainSettings(
        steps=steps, batch_size=1, learning_rate=learning_rate, betas=(0.9, 0.999), weight_decay=0.0,
        clip_norm=CLIP_NORM, schedule="wsd", warmup_steps=min(100, steps // 10), decay_fraction=0.4, final_factor=0.1,
        checkpoint_every=checkpoint_every, eval_every=eval_every, device=device, seed=seed,
    )  # fmt: skip


def fit(
    network: nn.Module,
    instances: Instances,
    settings: TrainSettings,
    *,
    batch_size: int = 128,
    held_out: Instances | None = None,
    checkpoint_dir: Path | None = None,
    progress: Progress = no_progress,
    on_step: Callable[[int, float, float], None] | None = None,
) -> TrainResult:
    """Train a pointer network or a fixed-dictionary model in place on solved instances.

    ``held_out`` instances decide which evaluation's weights are kept; ``checkpoint_dir`` makes it resumable. See
    ``paperworks.training.train`` for the rest.
    """

    def evaluate(trained: nn.Module) -> float:
        assert held_out is not None
        return mean_loss(trained, held_out)

    return train(
        network,
        LengthBatches(instances, batch_size, settings.seed),
        settings,
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
