"""Training and testing a classifier around a cut: one protocol for every method, so that only the cut differs."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import TensorDataset

from paperworks.classification import fit, predict_logits
from paperworks.errors import InputError
from paperworks.nn import preserved_modes
from paperworks.parameters import check_seed
from paperworks.runs import Progress, no_progress
from paperworks.training import TrainingCallback, TrainResult, TrainSettings

BATCH = 64


def train_classifier(
    model: nn.Module,
    data: TensorDataset,
    *,
    epochs: float | None = None,
    steps: int | None = None,
    learning_rate: float = 0.05,
    weight_decay: float = 0.0,
    batch_size: int = BATCH,
    seed: int = 0,
    device: str = "auto",
    teacher: nn.Module | None = None,
    alpha: float = 0.9,
    callbacks: Sequence[TrainingCallback] = (),
    settle_norms: bool = False,
    schedule: tuple[int, int] | None = None,
    checkpoint_dir: Path | None = None,
    progress: Progress = no_progress,
) -> TrainResult | None:
    """Train in place with SGD: momentum 0.9, a rate that falls along a cosine, gradients cut to norm 1.

    Parameters
    ----------
    data : inputs and labels.
    epochs, steps : one of them; 0 trains nothing and returns None.
    teacher : the recovery is distillation from it: ``alpha`` of the loss is the teacher's, at temperature 4.
    settle_norms : end with the batch norms' statistics of all inputs under the final weights. The running ones are a
        mean over some 10 steps, begun at 0 and 1: after few steps they are neither the data's nor the final network's.
    schedule : (steps done before, steps of all together) where this is a part of a longer training, under one cosine.
    """
    check_seed("seed", seed)
    if (epochs is None) == (steps is None):
        raise InputError("epochs", epochs, "one of epochs and steps")
    if not (epochs or steps):
        return None
    start, whole = schedule or (0, None)
    settings = TrainSettings(
        steps=steps,
        epochs=1.0 if epochs is None else epochs,
        batch_size=min(batch_size, len(data)),
        optimizer="sgd",
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        clip_norm=1.0,
        schedule="cosine",
        schedule_start=start,
        schedule_steps=whole,
        device=device,
        seed=seed,
    )
    inputs, labels = data.tensors
    result = fit(
        model,
        inputs,
        labels,
        settings=settings,
        teacher=teacher,
        alpha=alpha if teacher is not None else 0.0,
        callbacks=callbacks,
        checkpoint_dir=checkpoint_dir,
        progress=progress,
    )
    if settle_norms:
        reestimate_norms(model, inputs)
    return result


def steps_of(epochs: float, data: TensorDataset, batch_size: int = BATCH) -> int:
    """Optimiser steps of so many epochs."""
    return TrainSettings(epochs=epochs, batch_size=min(batch_size, len(data))).total_steps(len(data)) if epochs else 0


def accuracy(model: nn.Module, data: TensorDataset, device: str = "auto") -> float:
    """Share of right classes."""
    inputs, labels = data.tensors
    found = torch.from_numpy(predict_logits(model, inputs, device=device)).argmax(1)
    return float((found == labels.cpu()).double().mean())


@torch.no_grad()
def reestimate_norms(
    model: nn.Module,
    inputs: torch.Tensor | Sequence[Any],
    *,
    batch_size: int = 256,
    passes: int = 1,
    skip: Sequence[str] = (),
    progress: Progress = no_progress,
) -> int:
    """Set the running statistics of all batch norms to those of ``inputs``; returns how many norms there are.

    The plain mean over batches (of unbiased variances), in the manner of the first cumulative average. Nothing else of
    the model changes; only the norms are in training mode meanwhile.

    Parameters
    ----------
    inputs : a tensor ``[n, ...]``, or batches: tensors, or mappings of the model's arguments. Batches of one are left.
    passes : how often all are gone through.
    skip : patterns of paths of norms that stay as they are (``"head.*"``).

    Raises
    ------
    InputError : no batch of two or more, or statistics that are not finite.
    """
    norms = {
        path: m
        for path, m in model.named_modules()
        if isinstance(m, nn.modules.batchnorm._BatchNorm)
        and m.track_running_stats
        and not any(fnmatch.fnmatch(path, pattern) for pattern in skip)
    }
    if not norms:
        return 0
    batches = inputs.split(batch_size) if isinstance(inputs, torch.Tensor) else inputs
    usable = [b for b in batches if len(next(iter(b.values())) if isinstance(b, Mapping) else b) > 1]
    if not usable:
        raise InputError("inputs", "no batch of two examples or more", "examples to take statistics of")
    place = next(model.parameters()).device
    momenta = {path: norm.momentum for path, norm in norms.items()}
    with preserved_modes(model):
        model.eval()
        try:
            for norm in norms.values():
                norm.reset_running_stats()
                norm.momentum = None
                norm.train()
            for batch in (b for _ in progress(range(passes), "batch statistics", passes) for b in usable):
                if isinstance(batch, Mapping):
                    model(**{name: value.to(place) for name, value in batch.items()})
                else:
                    model(batch.to(place))
        finally:
            for path, norm in norms.items():
                norm.momentum = momenta[path]
    for path, norm in norms.items():
        if not all(s is not None and bool(torch.isfinite(s).all()) for s in (norm.running_mean, norm.running_var)):
            raise InputError("inputs", f"statistics of {path} that are not finite", "finite activations")
    return len(norms)
