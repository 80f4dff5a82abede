"""The penalty on the remaining size, the relaxed masks' group terms, and the growth of the proximal threshold."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch

from paperworks.errors import InputError
from paperworks.structure.units import Key
from paperworks.training.losses import IGNORED, Batch, labels_of

TaskLoss = Callable[[torch.nn.Module, Batch], Any]
"""``loss(model, batch)``: a mean loss (a scalar), the pair (sum over targets, their number), or an output with
``.loss``."""

PROXIMAL_STRENGTH = 50_000.0
"""mu at the last step (second generation)."""


def ratio_loss(share: torch.Tensor | float, target: float) -> torch.Tensor:
    """R(x, y) = log(max(x, y) / min(x, y)) of the remaining and the wanted share: a scalar, 0 where they agree.

    It is symmetric, and its gradient in log x is +1 or -1. Raises InputError for a target outside (0, 1].
    """
    if not 0 < target <= 1:
        raise InputError("target", target, "a share above 0 and up to 1")
    share = torch.as_tensor(share)
    return (share.log() - math.log(target)).abs()


def growth(progress: float) -> float:
    """mu(t) = 50000 (e^t - 1) / (e - 1), t in [0, 1]: how the proximal threshold grows over the training."""
    return PROXIMAL_STRENGTH * math.expm1(progress) / math.expm1(1.0)


def thresholds(dropped: Mapping[Key, torch.Tensor], rate: float, progress: float) -> dict[Key, float]:
    """tau = eta rho mu(t) for every set: rho is the set's share of all dropped units."""
    zeros = {key: len(ids) for key, ids in dropped.items()}
    whole = max(sum(zeros.values()), 1)
    return {key: rate * n / whole * growth(progress) for key, n in zeros.items()}


def summed_loss(task: TaskLoss, model: torch.nn.Module, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss summed over the targets of a batch, and their number, whatever form the task gives it in.

    A task that gives a mean is taken to give it over the batch's labels. Raises InputError for any other form.
    """
    found = task(model, batch)
    found = getattr(found, "loss", found)
    if isinstance(found, tuple):
        return found
    if not isinstance(found, torch.Tensor) or found.numel() != 1:
        raise InputError("task_loss", type(found).__name__, "a scalar, (sum, number of targets), or an output's .loss")
    number = (labels_of(batch)[:, 1:] != IGNORED).sum()
    return found.reshape(()) * number, number


def mean_loss(task: TaskLoss, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
    """The mean loss of a batch, whatever form the task gives it in. Raises InputError for any other form."""
    total, number = summed_loss(task, model, batch)
    return total / number
