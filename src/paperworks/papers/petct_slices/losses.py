"""Losses of one logit per slice, computed from the logit: no probability is ever rounded to 0 or 1."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from paperworks.errors import InputError
from paperworks.training import Batch, Loss


def focal_terms(logits: Tensor, labels: Tensor, gamma: float = 2.0, alpha: float = 0.25) -> Tensor:
    """Binary focal loss of every slice (Lin et al. 2017), ``-alpha_t (1 - p_t)^gamma log p_t``.

    Parameters
    ----------
    logits : floating point ``[n]``. labels : 0 or 1 ``[n]``.
    gamma : 0 is the cross-entropy, times alpha_t. alpha : weight of positive slices; 1 - alpha is that of the others.
    """
    signed = logits * (2 * labels - 1)
    weight = torch.where(labels > 0.5, alpha, 1 - alpha)
    return -weight * torch.exp(gamma * logsigmoid(-signed)) * logsigmoid(signed)


def bce_terms(logits: Tensor, labels: Tensor, pos_weight: float = 1.0) -> Tensor:
    """Binary cross-entropy of every slice, positive ones times ``pos_weight``."""
    return -(pos_weight * labels * logsigmoid(logits) + (1 - labels) * logsigmoid(-logits))


def slice_loss(kind: str = "focal", *, gamma: float = 2.0, alpha: float = 0.25, pos_weight: float = 1.0) -> Loss:
    """The loss for ``paperworks.training.train``: batches have ``inputs``, ``labels``, and perhaps ``center``.

    Raises InputError for another kind, or options out of bounds.
    """
    if kind not in ("focal", "bce"):
        raise InputError("loss", repr(kind), "focal or bce")
    for name, value, right in (
        ("gamma", gamma, gamma >= 0),
        ("alpha", alpha, 0 < alpha < 1),
        ("pos_weight", pos_weight, pos_weight > 0),
    ):
        if not right:
            raise InputError(name, value, "gamma of 0 or more, alpha between 0 and 1, pos_weight above 0")

    def loss(model: torch.nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        logits = model(batch["inputs"], batch.get("center")).float()
        labels = batch["labels"].float()
        terms = focal_terms(logits, labels, gamma, alpha) if kind == "focal" else bce_terms(logits, labels, pos_weight)
        return terms.sum(), torch.tensor(len(labels), device=logits.device)

    return loss
