"""Why an edit makes a network easier to prune: what of a random edit does it, and whether norms say what matters.

Two more edits of the same size take random edits apart: one scales whole channels and leaves their directions, the
other changes directions and leaves every channel's norm.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import nn
from torch.nn import functional

from paperworks.papers.meta_pruning.controls import random_edit
from paperworks.papers.meta_pruning.criterion import group_importance, members, slice_norms
from paperworks.papers.meta_pruning.graph import tensors_of_model
from paperworks.papers.meta_pruning.meta_training import Target
from paperworks.papers.meta_pruning.targets import Examples, copy_of, logits_with
from paperworks.structure import UnitSet
from paperworks.structure.trace.positions import tensor_at

ROUNDS = 50
"""Rounds of scaling: a weight between two hidden layers has the norms of both its rows and its columns."""


def _spread(values: torch.Tensor, tensor: torch.Tensor, axis: int, table: torch.Tensor) -> torch.Tensor:
    """A value of each unit at all its positions, and 0 elsewhere, in a shape that broadcasts to the tensor."""
    along = tensor.new_zeros(tensor.shape[axis])
    along[table] = values.to(tensor)[:, None].expand_as(table)
    shape = [1] * tensor.ndim
    shape[axis] = -1
    return along.view(shape)


@torch.no_grad()
def scaled_channels(model: nn.Module, edited: nn.Module, target: Target, seed: int) -> nn.Module:
    """A copy of ``model`` whose channels are scaled by random factors, each tensor's edit as long as in ``edited``."""
    generator = torch.Generator().manual_seed(seed % 2**63)
    made = copy_of(model)
    before, after = tensors_of_model(model), tensors_of_model(edited)
    edits: dict[str, torch.Tensor] = {}
    for units in target.groups.units.values():
        factors = torch.randn(units.n_units, generator=generator)
        for piece in units.slices:
            own = before[piece.param]
            change = _spread(factors, own, piece.axis, piece.index.table) * own
            edits[piece.param] = edits[piece.param] + change if piece.param in edits else change
    for name, change in edits.items():
        tensor_at(made, name).add_(change * ((after[name] - before[name]).norm() / change.norm().clamp_min(1e-30)))
    return made


@torch.no_grad()
def noise_at_equal_norms(model: nn.Module, edited: nn.Module, target: Target, seed: int) -> nn.Module:
    """The random edit of that seed, with every channel of every tensor brought back to the norm that it had."""
    made = random_edit(model, edited, target.layout, seed)
    before, after = tensors_of_model(model), tensors_of_model(made)
    for _ in range(ROUNDS):
        for units in target.groups.units.values():
            for name, axis, table in members(units):
                wanted, found = (slice_norms(tensors[name], axis, table) for tensors in (before, after))
                ratio = (wanted / found.clamp_min(1e-30)).sqrt()
                scale = _spread(ratio - 1, after[name], axis, table) + 1
                after[name].mul_(scale)
    return made


def agreement(model: nn.Module, target: Target, data: Examples) -> float:
    """Spearman's correlation, mean over the groups, of a channel's group L2 with the loss that its removal adds."""
    tensors = tensors_of_model(model)
    found = []
    with torch.no_grad():
        for units in target.groups.units.values():
            losses = [_loss(model, _without(tensors, units, unit), data) for unit in range(units.n_units)]
            found.append(spearmanr(group_importance(tensors, units).numpy(), losses).statistic)
    return float(np.mean(found))


def _without(tensors: Mapping[str, torch.Tensor], units: UnitSet, unit: int) -> dict[str, torch.Tensor]:
    """The tensors with zeros where a unit is."""
    made = dict(tensors)
    for piece in units.slices:
        positions = piece.index.positions(torch.tensor([unit]))
        made[piece.param] = made[piece.param].index_fill(piece.axis, positions, 0)
    return made


def _loss(model: nn.Module, tensors: Mapping[str, torch.Tensor], data: Examples) -> float:
    return float(functional.cross_entropy(logits_with(model, tensors, data[0]), data[1]))
