"""Training of the full and of the found network, with knowledge transfer from the one to the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from paperworks.classification import fit
from paperworks.errors import InputError
from paperworks.inputs.transforms import Transform
from paperworks.parameters import check_number, check_seed, check_whole
from paperworks.runs import Progress, no_progress
from paperworks.training import TrainingCallback, TrainResult, TrainSettings


@dataclass(frozen=True)
class TransferSettings:
    """Options of a network's training; the defaults are the paper's for CIFAR, but for the number of epochs.

    Attributes
    ----------
    epochs : passes over the training examples (the paper: 300).
    batch_size, learning_rate, momentum, weight_decay : of SGD with Nesterov's momentum; the rate falls along a cosine.
        Weight decay acts on kernels and matrices only.
    warmup_epochs : epochs in which the rate rises (the released code: 5 of 305).
    alpha : share of the teacher in the loss (CIFAR: 0.9).
    temperature : of the softened distributions.
    label_smoothing : without a teacher only.
    """

    epochs: int = 25
    batch_size: int = 64
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warmup_epochs: int = 0
    alpha: float = 0.9
    temperature: float = 4.0
    label_smoothing: float = 0.0
    device: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        check_seed("seed", self.seed)
        for name in ("epochs", "batch_size"):
            check_whole(name, getattr(self, name), 1)
        check_whole("warmup_epochs", self.warmup_epochs)
        check_number("alpha", self.alpha, 0.0, 1.0)
        check_number("label_smoothing", self.label_smoothing, 0.0, 0.999)
        if not self.temperature > 0:
            raise InputError("temperature", self.temperature, "a number above 0")


def train_network(
    network: torch.nn.Module,
    data: Any,
    labels: Any = None,
    *,
    teacher: torch.nn.Module | None = None,
    settings: TransferSettings | None = None,
    augment: Transform | None = None,
    callbacks: Sequence[TrainingCallback] = (),
    checkpoint_dir: Path | None = None,
    progress: Progress = no_progress,
) -> TrainResult:
    """Train a network in place; with a ``teacher`` by distillation (Hinton et al. 2015).

    ::

        L = (1 - alpha) cross-entropy + alpha T^2 KL(softmax(teacher / T) || softmax(network / T))

    The teacher runs in evaluation mode on the very batch, augmented alike. ``data`` and ``labels`` are as in
    ``paperworks.classification.fit``.
    """
    chosen = settings or TransferSettings()
    steps_per_epoch = -(-_rows(data, labels) // chosen.batch_size)
    training = TrainSettings(
        epochs=chosen.epochs,
        batch_size=chosen.batch_size,
        optimizer="sgd",
        learning_rate=chosen.learning_rate,
        momentum=chosen.momentum,
        nesterov=chosen.momentum > 0,
        weight_decay=chosen.weight_decay,
        schedule="cosine",
        warmup_steps=chosen.warmup_epochs * steps_per_epoch,
        clip_norm=0.0,
        device=chosen.device,
        seed=chosen.seed,
    )
    return fit(
        network,
        data,
        labels,
        settings=training,
        teacher=teacher,
        alpha=chosen.alpha if teacher is not None else 0.0,
        temperature=chosen.temperature,
        label_smoothing=0.0 if teacher is not None else chosen.label_smoothing,
        augment=augment,
        callbacks=callbacks,
        checkpoint_dir=checkpoint_dir,
        progress=progress,
    )


def _rows(data: Any, labels: Any) -> int:
    if labels is not None:
        return len(labels)
    return len(next(iter(data.values()))) if isinstance(data, dict) else len(data)
