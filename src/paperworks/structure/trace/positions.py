"""From a plan to positions: which stay along every axis of every tensor, and the masked model that a cut must equal."""

from __future__ import annotations

import copy
from collections import defaultdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from paperworks.errors import InputError
from paperworks.nn import evaluation_mode
from paperworks.structure.plan import KeepPlan
from paperworks.structure.trace.analysis import TracedGroups
from paperworks.structure.trace.capture import arguments, tensors_of

KeptPositions = dict[str, dict[int, torch.Tensor]]
"""Tensor name -> axis -> positions that stay, int64, ascending."""


def tensor_at(model: nn.Module, name: str) -> torch.Tensor:
    """A parameter or buffer by its full name. Raises InputError where there is none."""
    path, _, leaf = name.rpartition(".")
    try:
        found = getattr(model.get_submodule(path), leaf)
    except AttributeError:
        found = None
    if not isinstance(found, torch.Tensor):
        raise InputError("plan", name, "a parameter or buffer of the model")
    return found


def kept_positions(groups: TracedGroups, plan: KeepPlan) -> KeptPositions:
    """Positions that stay; only tensors that lose some are listed."""
    masks: dict[tuple[str, int], torch.Tensor] = {}
    for (_, name), ids in plan.kept.items():
        group = groups[name]
        gone = torch.ones(group.n_units, dtype=torch.bool)
        gone[list(ids)] = False
        if not bool(gone.any()):
            continue
        for piece in group.slices:
            where = (piece.param, piece.axis)
            if where not in masks:
                masks[where] = torch.ones(tensor_at(groups.model, piece.param).shape[piece.axis], dtype=torch.bool)
            masks[where][piece.index.positions(gone.nonzero().flatten())] = False
    kept: KeptPositions = defaultdict(dict)
    for (name, axis), mask in masks.items():
        kept[name][axis] = mask.nonzero().flatten()
    return dict(kept)


def kept_units(groups: TracedGroups, plan: KeepPlan) -> dict[int, NDArray[np.bool_]]:
    """Number of the group -> mask of its units, for the groups that lose some."""
    numbers = {group.name: i for i, group in enumerate(groups.ordered)}
    made = {}
    for (_, name), ids in plan.kept.items():
        mask = np.zeros(groups[name].n_units, dtype=np.bool_)
        mask[list(ids)] = True
        if not mask.all():
            made[numbers[name]] = mask
    return made


def masked_tensors(model: nn.Module, kept: KeptPositions) -> dict[str, torch.Tensor]:
    """Copies of the tensors of a plan with zeros where positions leave; running variances stay as they are."""
    made = {}
    for name, axes in kept.items():
        if name.endswith("running_var"):
            continue
        tensor = tensor_at(model, name).detach().clone()
        for axis, positions in axes.items():
            gone = torch.ones(tensor.shape[axis], dtype=torch.bool)
            gone[positions] = False
            tensor.index_fill_(axis, gone.nonzero().flatten().to(tensor.device), 0)
        made[name] = tensor
    return made


def masked_outputs(groups: TracedGroups, plan: KeepPlan, inputs: Any = None) -> list[torch.Tensor]:
    """Outputs of the model with the units that ``plan`` removes as zeros; the model itself is not touched."""
    args, kwargs = arguments(groups.inputs if inputs is None else inputs)
    tensors = masked_tensors(groups.model, kept_positions(groups, plan))
    with evaluation_mode(groups.model), torch.no_grad():
        return tensors_of(torch.func.functional_call(groups.model, tensors, args, kwargs, tie_weights=True))


@torch.no_grad()
def mask_model(groups: TracedGroups, plan: KeepPlan, *, inplace: bool = False) -> nn.Module:
    """The model with zeros in place of the units that ``plan`` removes: same sizes, the function of the cut model.

    Call it again with ``inplace`` after optimizer steps that revive masked weights (weight decay, momentum).

    Raises InputError for a plan that is not one for these groups.
    """
    groups.check(plan)
    model = groups.model if inplace else copy.deepcopy(groups.model)
    for name, tensor in masked_tensors(model, kept_positions(groups, plan)).items():
        tensor_at(model, name).copy_(tensor)
    return model


def largest_difference(left: list[torch.Tensor], right: list[torch.Tensor]) -> float:
    """The largest absolute difference over the largest absolute value (at least 1). Infinite for other shapes."""
    worst = 0.0
    if len(left) != len(right):
        return float("inf")
    for a, b in zip(left, right, strict=True):
        if a.shape != b.shape:
            return float("inf")
        if a.is_floating_point() and a.numel():
            scale = max(1.0, float(a.double().abs().max()))
            difference = float((a.double() - b.double()).abs().max()) / scale
            worst = max(worst, difference if difference == difference else float("inf"))
        elif not bool((a == b).all()):
            return float("inf")
    return worst
