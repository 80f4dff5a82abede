"""The stock form of a pruned mixture of experts: channels are filled up with zeros, experts and heads must be equal."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import nn

from paperworks.errors import InputError
from paperworks.structure.families import Family
from paperworks.structure.layers_pruned import ALIGNED, apply_layer_widths, expert_axis, feed_forward_of
from paperworks.structure.units import base_of, family_of, records_of


@torch.no_grad()
def with_even_channels(model: Any, multiple_of: int = 1) -> Any:
    """A copy in which all dense feed-forwards, all shared ones and all experts have as many channels, by zeros.

    Channels of experts become multiples of ``ALIGNED`` (grouped matrix products want it) and of ``multiple_of``.

    Raises InputError where layers differ in experts or heads, which cannot be filled up: the router would choose an
    expert of zeros.
    """
    base, family, records = base_of(model), family_of(model), records_of(model)
    if not getattr(base.config, "layer_widths", None):
        return copy.deepcopy(model)
    for name, group in (
        ("experts", [record for record in records if record["experts"]]),
        ("heads", records),
        ("kv_heads", records),
    ):
        found = sorted({record[name] for record in group})
        if len(found) > 1:
            raise InputError("model", f"layers with {found} {name}", f"one number of {name} in all of these layers")
    made = copy.deepcopy(base)
    step = math.lcm(ALIGNED, multiple_of)
    most = max((record["expert_channels"] for record in records), default=0)
    channels = -(-most // step) * step
    for number, record in enumerate(records):
        alike = [r["ffn"] for r in records if bool(r["experts"]) == bool(record["experts"])]
        layer = made.get_submodule(f"{family.layers}.{number}")
        _widen_feed_forward(layer, family, record, max(alike))
        record["ffn"] = max(alike)
        if record["experts"]:
            _widen_experts(layer, family, record["expert_channels"], channels)
            record["expert_channels"] = channels
    made.config.layer_widths = records
    apply_layer_widths(made, family)
    return made


def _widen_feed_forward(layer: nn.Module, family: Family, record: dict[str, Any], width: int) -> None:
    block = feed_forward_of(family, record)
    if block is None or width == record["ffn"]:
        return
    for path in (*block.inputs, *block.outputs):
        linear: Any = layer.get_submodule(path)
        axis = int(path in block.outputs)
        linear.weight = nn.Parameter(_widened(linear.weight, axis, width))
        if axis == 0 and linear.bias is not None:
            linear.bias = nn.Parameter(_widened(linear.bias, 0, width))
        linear.out_features, linear.in_features = linear.weight.shape


def _widen_experts(layer: nn.Module, family: Family, old: int, new: int) -> None:
    experts = family.experts
    assert experts is not None
    matrices: Any = layer.get_submodule(experts.matrices)
    for name, tensor in list(matrices.named_parameters(recurse=False)):
        axis = expert_axis(experts, name)
        if not axis or old == new:
            continue
        if not name.startswith("gate_up"):
            wide = _widened(tensor, axis, new)
        elif experts.transposed:  # gate and up in turn
            wide = _widened(tensor, axis, 2 * new)
        else:
            wide = torch.cat([_widened(half, axis, new) for half in tensor.split(old, axis)], axis)
        setattr(matrices, name, nn.Parameter(wide))


def _widened(tensor: torch.Tensor, axis: int, size: int) -> torch.Tensor:
    shape = list(tensor.shape)
    shape[axis] = size - shape[axis]
    return torch.cat([tensor.detach(), tensor.new_zeros(shape)], axis)


def common_record(records: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The record that all layers have, or None; of a model with experts, ``sparse`` in it is that of those layers."""
    sparse = [record for record in records if record.get("experts")]
    dense = [record for record in records if not record.get("experts")]
    if any(record != group[0] for group in (sparse, dense) for record in group):
        return None
    first = (dense or sparse)[0]
    if not sparse:
        return first
    own = ("ffn", "experts", "expert_channels")
    if {k: v for k, v in first.items() if k not in own} != {k: v for k, v in sparse[0].items() if k not in own}:
        return None
    return {**first, "ffn": dense[0]["ffn"] if dense else 0, "sparse": sparse[0]}


def width_keys(family: Family, record: dict[str, Any]) -> dict[str, int]:
    """The configuration's names for the channels of the feed-forwards, and for the experts."""
    found = {family.width_key: record["ffn"]} if record["ffn"] else {}
    experts, sparse = family.experts, record.get("sparse")
    if experts is not None and sparse:
        found |= {experts.count_key: sparse["experts"], experts.width_key: sparse["expert_channels"]}
        found |= {key: sparse["ffn"] for key in experts.shared_keys if key.endswith("intermediate_size")}
    return found
