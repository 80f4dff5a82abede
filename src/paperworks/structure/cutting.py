"""Taking units out of the weights, one matrix at a time, and out of the adapters and moments that go with them."""

from __future__ import annotations

import math
import weakref
from collections import defaultdict
from typing import Any

import numpy as np
import torch
from torch import nn

from paperworks.structure.layers_pruned import linear_at
from paperworks.structure.plan import KeepPlan
from paperworks.structure.selection import select
from paperworks.structure.units import Units

Cuts = list[tuple[int, torch.Tensor]]
AxisMasks = dict[tuple[int, ...], torch.Tensor]
"""What stays along an axis, or along two that are counted together, as a flat boolean mask."""
ADAM_STATE = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq", "momentum_buffer")


def kept_positions(base: Any, units: Units, plan: KeepPlan) -> dict[str, dict[str, AxisMasks]]:
    """Module, parameter, axes: a boolean mask of the positions that stay. Several kinds may share an axis."""
    found: dict[str, dict[str, AxisMasks]] = defaultdict(lambda: defaultdict(dict))
    for key, ids in plan.kept.items():
        unit_set = units[key]
        if len(ids) == unit_set.n_units:
            continue
        stays = np.zeros(unit_set.n_units, dtype=bool)
        stays[np.fromiter(ids, np.int64, len(ids))] = True
        gone_ids = torch.from_numpy(np.flatnonzero(~stays))
        for piece in unit_set.slices:
            leaf = piece.param.rpartition(".")[2]
            along = found[piece.module][leaf]
            axes = (piece.axis,) if piece.outer is None else (piece.outer, piece.axis)
            if axes not in along:
                shape = getattr(linear_at(base, piece.module), leaf).shape
                along[axes] = torch.ones(math.prod(shape[axis] for axis in axes), dtype=torch.bool)
            gone = piece.index.table[gone_ids].flatten()
            along[axes][gone[gone >= 0]] = False
    return found


def cut_module(
    base: Any,
    path: str,
    leaves: dict[str, AxisMasks],
    replaced: ParameterReplacements,
) -> None:
    outer = base.get_submodule(path)
    module = linear_at(base, path)
    for leaf, axes in leaves.items():
        old = getattr(module, leaf)
        cuts = [_cut(along, mask, old.shape) for along, mask in axes.items()]
        setattr(module, leaf, _smaller(old, cuts, replaced))
    _set_sizes(module)
    if outer is not module:
        weight_axes = leaves["weight"]
        axis_of_input = 0 if is_conv1d(module) else 1
        for matrices, side, axis in ((outer.lora_A, axis_of_input, 1), (outer.lora_B, 1 - axis_of_input, 0)):
            if (side,) in weight_axes:
                index = weight_axes[side,].nonzero().flatten()
                for adapter in matrices.values():
                    adapter.weight = _smaller(adapter.weight, [(axis, index)], replaced)
                    _set_sizes(adapter)
        outer.in_features, outer.out_features = _features(module)


def _smaller(
    old: nn.Parameter,
    cuts: Cuts,
    replaced: ParameterReplacements,
) -> nn.Parameter:
    before = replaced.find(old)
    if before is not None:  # tied: cut once
        return before[0]
    # what every expert keeps goes before whole experts; else the axis that leaves least: what follows copies little
    cuts = sorted(cuts, key=lambda cut: (cut[1].ndim == 1, cut[1].numel() / old.shape[cut[0]]))
    new = nn.Parameter(_select(old.detach(), cuts), requires_grad=old.requires_grad)
    replaced.add(old, new, cuts)
    return new


def _select(tensor: torch.Tensor, cuts: Cuts) -> torch.Tensor:
    for axis, index in cuts:
        tensor = select(tensor, axis, index) if index.ndim == 1 else _select_by_expert(tensor, axis, index)
    return tensor


def _cut(along: tuple[int, ...], mask: torch.Tensor, shape: torch.Size) -> tuple[int, torch.Tensor]:
    """An axis and what stays along it: int64 [n], or [experts, n] where every expert has a choice of its own."""
    if len(along) == 1:
        return along[0], mask.nonzero().flatten()
    experts = shape[along[0]]
    return along[1], mask.view(experts, -1).nonzero()[:, 1].view(experts, -1)


def _select_by_expert(tensor: torch.Tensor, axis: int, index: torch.Tensor) -> torch.Tensor:
    """The positions ``index`` [experts, n] along ``axis`` of a tensor with experts along its first axis."""
    shape = [len(index), *(1 for _ in tensor.shape[1:])]
    shape[axis] = index.shape[1]
    wanted = list(tensor.shape)
    wanted[axis] = index.shape[1]
    return tensor.gather(axis, index.view(shape).expand(wanted).to(tensor.device))


class ParameterReplacements:
    """Which parameter stands in the place of which. The old ones are not kept alive: memory is freed as it goes."""

    def __init__(self) -> None:
        self._found: dict[int, tuple[weakref.ref[nn.Parameter], nn.Parameter, Cuts]] = {}

    def add(self, old: nn.Parameter, new: nn.Parameter, cuts: Cuts) -> None:
        self._found[id(old)] = (weakref.ref(old), new, cuts)

    def find(self, old: nn.Parameter) -> tuple[nn.Parameter, Cuts] | None:
        reference, new, cuts = self._found.get(id(old), (None, None, None))
        # another parameter may have come to live where a freed one was
        if reference is None or reference() is not old or new is None or cuts is None:
            return None
        return new, cuts


def is_conv1d(module: Any) -> bool:
    return hasattr(module, "nf")


def _features(module: Any) -> tuple[int, int]:
    rows, columns = module.weight.shape
    return (rows, columns) if is_conv1d(module) else (columns, rows)


def _set_sizes(module: Any) -> None:
    if isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, nn.Embedding):
        module.num_embeddings, module.embedding_dim = module.weight.shape
    elif is_conv1d(module):
        module.nx, module.nf = module.weight.shape
    elif isinstance(module, nn.LayerNorm):
        module.normalized_shape = tuple(module.weight.shape)


def follow(
    optimizer: torch.optim.Optimizer,
    replaced: ParameterReplacements,
    present: set[int],
) -> None:
    """Put the new parameters in the place of the old, with their moments cut alike; removed layers leave."""
    for group in optimizer.param_groups:
        parameters = []
        for old in group["params"]:
            new, cuts = replaced.find(old) or (old, [])
            if id(new) not in present:
                optimizer.state.pop(old, None)
                continue
            if new is not old and old in optimizer.state:
                state = optimizer.state.pop(old)
                optimizer.state[new] = {
                    name: _select(value, cuts) if name in ADAM_STATE and value is not None else value
                    for name, value in state.items()
                }
            parameters.append(new)
        group["params"] = parameters
