"""The criterion that prunes, and the gradient that makes channels sparse under it: group L2, L1, and N:M magnitude.

group L2         I_k = mean over the member tensors of channel k's slice of its squared norm, over the group's largest
its gradient     reg * gamma_k * w_k,   gamma_k = alpha ** ((max I~ - I~_k) / (max I~ - min I~)),   I~ = sqrt(I)
unstructured     reg * sign(w)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

import torch

from paperworks.errors import InputError
from paperworks.structure import UnitSet
from paperworks.structure.trace import TracedGroups
from paperworks.structure.units import Key

CriterionName = Literal["group-l2", "group-l2-mean", "group-l2-none", "random", "unstructured", "2:4"]
"""Group L2 over the group's largest, over its mean, or as it is; random channels; single weights; two of four."""
CRITERIA: tuple[str, ...] = get_args(CriterionName)
STRUCTURED = ("group-l2", "group-l2-mean", "group-l2-none", "random")
Tensors = Mapping[str, torch.Tensor]


def check_criterion(name: str) -> None:
    """Raise InputError for a criterion that there is not."""
    if name not in CRITERIA:
        raise InputError("criterion", repr(name), f"one of {', '.join(CRITERIA)}")


def members(units: UnitSet) -> list[tuple[str, int, torch.Tensor]]:
    """(tensor, axis, positions ``[n_units, m]``) of the weights and gains of a group, without biases."""
    found = [
        (piece.param, piece.axis, piece.index.table)
        for piece in units.slices
        if piece.param.rpartition(".")[2] != "bias"
    ]
    if not found:
        raise InputError("groups", f"{units.kind}, which has biases only", "groups with weights")
    return found


def slice_norms(tensor: torch.Tensor, axis: int, table: torch.Tensor) -> torch.Tensor:
    """Squared norm of the slice of every unit, ``[n_units]``; positions of -1 count as nothing."""
    others = [i for i in range(tensor.ndim) if i != axis]
    along = tensor.square().sum(others) if others else tensor.square()
    table = table.to(tensor.device)
    return torch.where(table >= 0, along[table.clamp_min(0)], along.new_zeros(())).sum(1)


def group_importance(tensors: Tensors, units: UnitSet) -> torch.Tensor:
    """I_k of a group before it is normalised, ``[n_units]``."""
    found = members(units)
    return torch.stack([slice_norms(tensors[name], axis, table) for name, axis, table in found]).mean(0)


def group_l2_scores(tensors: Tensors, groups: TracedGroups) -> dict[Key, torch.Tensor]:
    """I_k of all groups that are pruned by default, float64."""
    return {key: group_importance(tensors, units).double() for key, units in groups.units.items()}


def pull(importance: torch.Tensor, alpha: float = 16.0) -> torch.Tensor:
    """gamma of each unit: 1 for the strongest, ``alpha`` for the weakest; 1 for all where all are equal."""
    root = importance.detach().clamp_min(0).sqrt()
    most, least = root.max(), root.min()
    spread = most - least
    if not bool(torch.isfinite(spread)):
        raise InputError("weights", "NaN or infinite values in a group", "finite weights")
    if float(spread) <= 1e-12 * max(1.0, float(most)):
        return torch.ones_like(root)
    return alpha ** ((most - root) / spread)


def sparsity_gradient(
    tensors: Tensors, groups: TracedGroups, reg: float, alpha: float = 16.0
) -> dict[str, torch.Tensor]:
    """What is added to the gradient of each weight: ``reg * gamma_k * w_k`` for every slice of every group.

    It is the gradient of ``sum 0.5 * reg * gamma_k * ||w_k||^2`` with gamma held fixed. A weight that is in two groups
    (as the output of one and the input of another) gets both.
    """
    return decay_gradient(
        tensors,
        groups,
        {key: reg * pull(group_importance(tensors, units), alpha) for key, units in groups.units.items()},
    )


def decay_gradient(
    tensors: Tensors, groups: TracedGroups, strengths: Mapping[Key, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """``strength_k * w_k`` for every slice of channel k; ``strengths`` are ``[n_units]`` by group."""
    found: dict[str, torch.Tensor] = {}
    for key, units in groups.units.items():
        for name, axis, table in members(units):
            tensor = tensors[name].detach()
            along = tensor.new_zeros(tensor.shape[axis])
            inside = table >= 0
            rows = torch.arange(len(table))[:, None].expand_as(table)[inside]
            along[table[inside].to(tensor.device)] = strengths[key][rows.to(strengths[key].device)].to(tensor.dtype)
            shape = [1] * tensor.ndim
            shape[axis] = -1
            added = along.view(shape) * tensor
            found[name] = found[name] + added if name in found else added
    return found


def sign_gradient(tensors: Tensors, names: list[str], reg: float) -> dict[str, torch.Tensor]:
    """``reg * sign(w)`` for the named weights: the unstructured form."""
    return {name: reg * tensors[name].detach().sign() for name in names}


def weight_names(tensors: Tensors, skip: tuple[str, ...] = ()) -> list[str]:
    """Weights of two axes or more, without ``skip`` (the classifier)."""
    return [name for name, value in tensors.items() if value.ndim >= 2 and name not in skip]


def magnitude_masks(tensors: Tensors, names: list[str], sparsity: float) -> dict[str, torch.Tensor]:
    """Keep the largest weights by magnitude over all named tensors; boolean masks."""
    if not 0 <= sparsity < 1:
        raise InputError("sparsity", sparsity, "a share from 0 to below 1")
    flat = torch.cat([tensors[name].detach().abs().flatten() for name in names])
    gone = round(sparsity * len(flat))
    mask = torch.ones(len(flat), dtype=torch.bool, device=flat.device)
    mask[flat.argsort(stable=True)[:gone]] = False
    sizes = [tensors[name].numel() for name in names]
    return {name: part.view(tensors[name].shape) for name, part in zip(names, mask.split(sizes), strict=True)}


def n_of_m_masks(tensors: Tensors, names: list[str], n: int = 2, m: int = 4) -> dict[str, torch.Tensor]:
    """Keep the ``n`` largest of every ``m`` weights in a row along the inputs; what is left over at the end stays."""
    if not 1 <= n <= m:
        raise InputError("n", n, f"1 to {m}")
    found = {}
    for name in names:
        weight = tensors[name].detach()
        rows = weight.flatten(1)
        whole = rows.shape[1] // m * m
        mask = torch.ones_like(rows, dtype=torch.bool)
        if whole:
            blocks = rows[:, :whole].reshape(len(rows), -1, m).abs()
            kept = torch.zeros_like(blocks, dtype=torch.bool)
            kept.scatter_(2, blocks.argsort(dim=2, descending=True, stable=True)[:, :, :n], True)
            mask[:, :whole] = kept.reshape(len(rows), whole)
        found[name] = mask.view(weight.shape)
    return found
