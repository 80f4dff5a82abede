"""Training and testing a classifier around a cut: one protocol for every method, so that only the cut differs."""

from __future__ import annotations

import copy
from collections.abc import Sequence
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
    return fit(
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


def steps_of(epochs: float, data: TensorDataset, batch_size: int = BATCH) -> int:
    """Optimiser steps of so many epochs."""
    return TrainSettings(epochs=epochs, batch_size=min(batch_size, len(data))).total_steps(len(data)) if epochs else 0


def accuracy(model: nn.Module, data: TensorDataset, device: str = "auto") -> float:
    """Share of right classes."""
    inputs, labels = data.tensors
    found = torch.from_numpy(predict_logits(model, inputs, device=device)).argmax(1)
    return float((found == labels.cpu()).double().mean())


def new_weights(model: nn.Module, seed: int) -> nn.Module:
    """A copy of the same sizes with new weights: what each module's ``reset_parameters`` gives, Kaiming's for ReLU.

    Raises InputError for a module that has parameters of its own and cannot make new ones.
    """
    check_seed("seed", seed)
    made = copy.deepcopy(model)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        for name, module in made.named_modules():
            if not list(module.parameters(recurse=False)) and not list(module.buffers(recurse=False)):
                continue
            reset: Any = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
            if reset is None:
                if not list(module.parameters(recurse=False)):
                    continue
                kind = type(module).__name__
                raise InputError("model", f"{name} ({kind}), without reset_parameters", "modules that can start anew")
            reset()
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
    return made


@torch.no_grad()
def reestimate_norms(model: nn.Module, inputs: torch.Tensor, *, batch_size: int = 256) -> int:
    """Set the running statistics of all batch norms to those of ``inputs``; returns how many norms there are.

    The plain mean over batches, in the manner of the first cumulative average. Nothing else of the model changes.
    """
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    if not norms:
        return 0
    place = next(model.parameters()).device
    momenta = [norm.momentum for norm in norms]
    with preserved_modes(model):
        model.eval()
        try:
            for norm in norms:
                norm.reset_running_stats()
                norm.momentum = None
                norm.train()
            for batch in inputs.split(batch_size):
                if len(batch) > 1:
                    model(batch.to(place))
        finally:
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum
    return len(norms)
