"""Learned sparsity: penalties that drive units to zero while a network is trained.

Each is a loss for ``paperworks.training.train``: the task's loss plus a penalty on groups of a traced model or on the
gains of its norms. A criterion then cuts what became small.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import nn

from paperworks.errors import InputError
from paperworks.parameters import check_number
from paperworks.structure.scores import parameter_at
from paperworks.structure.trace import TracedGroups
from paperworks.structure.units import Key
from paperworks.training.losses import Batch, Loss

GREG_CEILING = 4.0


def group_lasso(model: nn.Module, groups: TracedGroups) -> torch.Tensor:
    """``sum over units of sqrt(size) |unit|_2``, a differentiable scalar (Yuan and Lin 2006; Wen 2016)."""
    total = torch.zeros((), device=next(model.parameters()).device)
    for squares, size in _unit_squares(model, groups).values():
        total = total + size**0.5 * (squares + 1e-12).sqrt().sum()
    return total


def _unit_squares(model: nn.Module, groups: TracedGroups) -> dict[Key, tuple[torch.Tensor, int]]:
    """For every group: the squared norm of each unit [n_units], and how many parameters a unit has."""
    found = {}
    for key, unit_set in groups.units.items():
        squares: torch.Tensor | None = None
        size = 0
        for piece in unit_set.slices:
            weight = parameter_at(model, piece).movedim(piece.axis, 0)
            weight = weight.reshape(len(weight), -1)
            table = piece.index.table.to(weight.device)
            part = weight[table.flatten()].view(len(table), -1).square().sum(1)
            size += table.shape[1] * weight.shape[1]
            squares = part if squares is None else squares + part
        if squares is not None:
            found[key] = (squares, size)
    return found


def gain_l1(model: nn.Module) -> torch.Tensor:
    """``sum |gamma|`` of all batch norms (Network Slimming). Raises InputError for a model without any."""
    gains = [m.weight for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.affine]
    if not gains:
        raise InputError("model", "no batch norm", "a model with batch norms, for a penalty on their gains")
    return torch.stack([gain.abs().sum() for gain in gains]).sum()


def growing_weights(scores: Mapping[Key, torch.Tensor], ceiling: float = GREG_CEILING) -> dict[Key, torch.Tensor]:
    """DepGraph's sparse learning: ``gamma = 2^(ceiling (max - I) / (max - min))`` in [1, 2^ceiling] for each unit."""
    found = {}
    for key, values in scores.items():
        spread = (values.max() - values.min()).clamp(min=1e-12)
        found[key] = 2.0 ** (ceiling * (values.max() - values) / spread)
    return found


def weighted_decay(model: nn.Module, groups: TracedGroups, weights: Mapping[Key, torch.Tensor]) -> torch.Tensor:
    """``sum over units of weight |unit|_2^2``: growing regularisation (GReg) raises the weights of units to remove."""
    total = torch.zeros((), device=next(model.parameters()).device)
    for key, (squares, _) in _unit_squares(model, groups).items():
        if key in weights:
            total = total + (weights[key].to(squares) * squares).sum()
    return total


def penalised(loss: Loss, penalties: Iterable[tuple[float, object]]) -> Loss:
    """``loss`` plus strength times penalty for each (strength, function of the model), counted once for a batch.

    Raises InputError for a strength that is negative or not finite.
    """
    pairs = [(check_number("strength", strength), function) for strength, function in penalties]

    def both(model: nn.Module, batch: Batch) -> tuple[torch.Tensor, torch.Tensor | int]:
        total, count = loss(model, batch)
        for strength, function in pairs:
            total = total + strength * count * function(model)  # type: ignore[operator]
        return total, count

    return both  # type: ignore[return-value]
