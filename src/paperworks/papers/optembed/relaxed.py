"""Two rivals that choose by gradient what stays: AutoDim a dimension for each field, AutoField whole fields.

Both relax a choice to a softmax with noise, train the table on the training rows and the choice on the validation rows
in turns, and train again under the choice. These are our own small versions of the published ideas: all dimensions of a
field share one table, of which a choice takes the first coordinates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from paperworks.errors import InputError
from paperworks.papers.optembed.bags import Bags
from paperworks.papers.optembed.fitting import Clicks
from paperworks.training import TrainingCallback

CHOICE_RATE = 1e-2
"""Of Adam, for the choices."""


class RelaxedTable(nn.Module):
    """A table of which every field keeps a mixture of masks: ``e * sum_k p_k mask_k``, p with Gumbel noise in training.

    Parameters
    ----------
    field_dims : number of values of each field. masks : the choices, float ``[K, dim]``.
    bags : of fields of several values.

    Attributes
    ----------
    logits : ``[n, K]``, zeros at first; ``ChoiceTraining`` changes them, the optimiser of the weights does not.
    temperature : of the softmax.
    """

    logits: torch.Tensor
    masks: torch.Tensor
    offsets: torch.Tensor

    def __init__(self, field_dims: Sequence[int], masks: torch.Tensor, bags: Bags | None = None) -> None:
        super().__init__()
        sizes = torch.tensor(list(field_dims))
        total, dim = int(sizes.sum()), masks.shape[1]
        self.bags = bags or Bags.of(len(sizes), None)
        bound = math.sqrt(6 / (total + dim))
        self.weight = nn.Parameter(torch.empty(total, dim).uniform_(-bound, bound))
        self.register_buffer("logits", torch.zeros(len(sizes), len(masks)))
        self.register_buffer("masks", masks)
        self.register_buffer("offsets", self.bags.per_column((torch.cumsum(sizes, 0) - sizes).tolist()))
        self.temperature = 1.0

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Embeddings float ``[B, n, dim]`` of ids int64 ``[B, columns]``."""
        filled = self.bags.filled(ids)
        if filled is None:
            vectors = nn.functional.embedding(ids + self.offsets, self.weight)
        else:
            vectors = nn.functional.embedding(ids.clamp(min=0) + self.offsets, self.weight) * filled.unsqueeze(-1)
            vectors = self.bags.pool(vectors, filled)
        if self.training:
            shares = nn.functional.gumbel_softmax(self.logits, tau=self.temperature)
        else:
            shares = self.logits.softmax(1)
        return vectors * (shares @ self.masks)


class ChoiceTraining(TrainingCallback):
    """After every step of the weights, a step of the choices on a batch of validation rows (first order).

    The temperature falls with the steps, as in both papers: ``max(0.01, 1 - 0.00005 step)``.
    """

    def __init__(self, model: nn.Module, table: RelaxedTable, validation: Clicks, batch: int, seed: int) -> None:
        self.model, self.table, self.rows, self.batch, self.seed = model, table, validation, batch, seed
        self.choice = nn.Parameter(table.logits.clone())
        self.optimizer = torch.optim.Adam([self.choice], lr=CHOICE_RATE)

    def after_step(self, step: int, loss: float, learning_rate: float) -> None:
        rng = np.random.default_rng([self.seed, step])
        chosen = rng.choice(len(self.rows), min(self.batch, len(self.rows)), replace=False)
        device = self.table.weight.device
        ids = torch.from_numpy(np.ascontiguousarray(self.rows.ids[chosen])).to(device)
        labels = torch.from_numpy(self.rows.labels[chosen]).float().to(device)
        self.table.temperature = max(0.01, 1 - 5e-5 * step)
        self.table.logits = self.choice.detach().to(device).requires_grad_()
        missed = nn.functional.binary_cross_entropy_with_logits(self.model(ids), labels)
        (self.choice.grad,) = (g.to(self.choice.device) for g in torch.autograd.grad(missed, [self.table.logits]))
        self.optimizer.step()
        self.table.logits = self.choice.detach().clone().to(device)

    def state_dict(self) -> Mapping[str, Any]:
        return {"choice": self.choice.detach(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        with torch.no_grad():
            self.choice.copy_(state["choice"])
        self.optimizer.load_state_dict(dict(state["optimizer"]))


def dimension_masks(dim: int) -> tuple[list[int], torch.Tensor]:
    """Candidate dimensions, the powers of two below ``dim`` and itself; and their masks ``[K, dim]``."""
    candidates = [2**k for k in range(dim.bit_length()) if 2**k < dim] + [dim]
    return candidates, (torch.arange(dim) < torch.tensor(candidates)[:, None]).float()


def field_masks(dim: int) -> torch.Tensor:
    """Nothing of a field, or all of it: ``[2, dim]``."""
    return torch.stack([torch.zeros(dim), torch.ones(dim)])


def likeliest_dimensions(
    logits: torch.Tensor, candidates: Sequence[int], rows: Sequence[int], budget: int
) -> list[int]:
    """The dimension of every field: the likeliest of all assignments that a price on parameters can give, in a budget.

    The price is the least, by bisection, with which ``argmax log p - price * rows * dimension`` fits.
    Raises InputError naming ``budget``, where even the smallest dimensions do not fit.
    """
    sizes, numbers = np.asarray(rows, dtype=np.int64), np.asarray(candidates, dtype=np.int64)
    least = int(sizes.sum() * numbers.min())
    if budget < least:
        raise InputError("budget", f"{budget:,} parameters", f"{least:,} or more")
    logs = logits.double().log_softmax(1).cpu().numpy()

    def at(price: float) -> np.ndarray:
        return numbers[(logs - price * sizes[:, None] * numbers).argmax(1)]

    low, high = 0.0, 1.0
    if int((at(low) * sizes).sum()) <= budget:
        return at(low).tolist()
    while int((at(high) * sizes).sum()) > budget:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (low, middle) if int((at(middle) * sizes).sum()) <= budget else (middle, high)
    return at(high).tolist()


def likeliest_fields(logits: torch.Tensor, rows: Sequence[int], dim: int, budget: int) -> list[bool]:
    """Which fields stay: the most probable first, as long as their tables fit into the budget.

    Raises InputError naming ``budget``, where no field fits.
    """
    keep, left = [False] * len(rows), budget
    for field in (logits[:, 0] - logits[:, 1]).argsort(stable=True).tolist():
        if rows[field] * dim <= left:
            keep[field], left = True, left - rows[field] * dim
    if not any(keep):
        raise InputError("budget", f"{budget:,} parameters", f"{min(rows) * dim:,} or more, for the smallest field")
    return keep
