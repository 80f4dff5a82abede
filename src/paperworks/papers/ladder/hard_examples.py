"""Two rivals that know no groups and weigh examples by their loss: CVaR-DRO, and learning from failure (LfF)."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from paperworks.errors import InputError
from paperworks.papers.ladder.checks import class_codes
from paperworks.runs import Progress, no_progress
from paperworks.training import Batch, Loss, TrainSettings, model_logits, train
from paperworks.training.losses import required_labels


def cvar_dro(
    model: torch.nn.Module,
    data: Any,
    y: Any,
    *,
    settings: TrainSettings,
    alpha: float = 0.1,
    progress: Progress = no_progress,
) -> torch.nn.Module:
    """CVaR-DRO (Levy et al. 2020): the mean loss of the worst ``alpha`` of each batch is minimised.

    Parameters
    ----------
    model : trained in place and returned.
    data : an array ``[n, ...]``. y : class codes ``[n]``.
    alpha : share of the rows, above 0 and at most 1; 1 is plain training.
    """
    train(model, _rows(data, y), settings, loss=cvar_loss(alpha), progress=progress)
    return model


def cvar_loss(alpha: float) -> Loss:
    """The loss of CVaR-DRO for ``paperworks.training.train``: conditional value at risk of the batch's losses.

    It is the largest mean under weights of at most ``1 / (alpha n)`` each. Where ``alpha n`` is no whole number, the
    last row of the worst share counts in part.
    """
    if not 0 < alpha <= 1:
        raise InputError("alpha", alpha, "a share above 0 and at most 1")

    def loss(model: torch.nn.Module, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        each = _each(model_logits(model, batch), required_labels(batch))
        worst = each.sort(descending=True).values
        share = alpha * len(each)
        weights = (share - torch.arange(len(each), device=each.device)).clamp(0, 1).to(each) / share
        return (weights * worst).sum(), torch.ones((), dtype=each.dtype, device=each.device)

    return loss


def learning_from_failure(
    model: torch.nn.Module,
    data: Any,
    y: Any,
    *,
    settings: TrainSettings,
    q: float = 0.7,
    progress: Progress = no_progress,
) -> torch.nn.Module:
    """LfF (Nam et al. 2020): a second copy learns what is easy, and rows that it finds hard weigh more for the model.

    The copy has the generalised cross-entropy ``(1 - p^q) / q``. A row's weight for the model is
    ``ce_copy / (ce_copy + ce_model)`` of the current losses; the running means of losses that the authors' code keeps
    for every row are left out, as SubpopBench does. Both are trained side by side, and the copy is thrown away.

    Parameters
    ----------
    model : untrained; it is trained in place and returned.
    q : above 0 and at most 1; near 0 the copy has plain cross-entropy.
    """
    pair = _Pair(model, copy.deepcopy(model))
    train(pair, _rows(data, y), settings, loss=failure_loss(q), progress=progress)
    return model


def failure_loss(q: float) -> Loss:
    """The loss of LfF for a module whose output is ``[2, n, c]``: logits of the model, and of the biased copy."""
    if not 0 < q <= 1:
        raise InputError("q", q, "a number above 0 and at most 1")

    def loss(model: torch.nn.Module, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        labels = required_labels(batch)
        fair, biased = (_each(logits, labels) for logits in model_logits(model, batch))
        hard, own = biased.detach(), fair.detach()
        weights = hard / (hard + own).clamp(min=1e-8)
        generalised = -torch.expm1(-q * biased) / q
        total = (weights * fair).sum() + generalised.sum()
        return total, torch.tensor(len(labels), device=total.device)

    return loss


class _Pair(torch.nn.Module):
    """Two classifiers of the same rows."""

    def __init__(self, fair: torch.nn.Module, biased: torch.nn.Module) -> None:
        super().__init__()
        self.fair, self.biased = fair, biased

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Logits of both, ``[2, n, c]``."""
        return torch.stack([model_logits(part, {"inputs": inputs}) for part in (self.fair, self.biased)])


def _each(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(logits.float(), labels, reduction="none")


def _rows(data: Any, y: Any) -> dict[str, torch.Tensor]:
    labels = class_codes("y", y)
    inputs = np.asarray(data, np.float32)
    if len(inputs) != len(labels):
        raise InputError("data and y", f"{len(inputs)} and {len(labels)} rows", "one label for each row")
    return {"inputs": torch.from_numpy(inputs), "labels": torch.from_numpy(labels)}
