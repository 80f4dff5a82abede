"""What a cut leaves to the weights that stay: gains of norms over fewer channels, and soft values of masks."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from paperworks.structure.cutting import is_conv1d
from paperworks.structure.families import EXPERT_UNITS, Family
from paperworks.structure.layers_pruned import linear_at, rotary_pairs
from paperworks.structure.plan import Masks
from paperworks.structure.units import Units, UnitSet, records_of


def scale_gains(base: Any, family: Family, factor: float, paths: list[str]) -> None:
    """gain <- gain * sqrt(D / d) for RMS norms over fewer dimensions; LayerNorms get their divisor instead."""
    if family.norm != "rms":
        return
    for path in paths:
        norm = base.get_submodule(path)
        gain = (norm.weight.double() + family.gain_offset) * factor - family.gain_offset
        norm.weight.copy_(gain)


def scale_head_norms(base: Any, family: Family, records: list[dict[str, Any]]) -> None:
    if not family.qk_norms:
        return
    for number, (old, new) in enumerate(zip(records_of(base), records, strict=True)):
        if old["qk"] != new["qk"]:
            before = base.config.head_dim if old["qk"] is None else _channels_of(base, family, old)
            factor = math.sqrt(before / _channels_of(base, family, new))
            scale_gains(base, family, factor, [f"{family.layers}.{number}.{path}" for path in family.qk_norms])


def scale_wide_norms(base: Any, family: Family, records: list[dict[str, Any]]) -> None:
    """A norm over the heads that are left keeps the scale that it had with the others as zeros."""
    for number, (old, new) in enumerate(zip(records_of(base), records, strict=True)):
        for path, part in zip(family.wide_qk_norms, ("heads", "kv_heads"), strict=False):
            if new[part] and old[part] != new[part]:
                scale_gains(base, family, math.sqrt(old[part] / new[part]), [f"{family.layers}.{number}.{path}"])


def _channels_of(base: Any, family: Family, record: dict[str, Any]) -> int:
    pairs = rotary_pairs(base.config, family)
    return sum(2 if unit < pairs else 1 for unit in record["qk"])


def fold_masks(base: Any, family: Family, units: Units, fold: Masks) -> None:
    hidden = fold.get((None, "hidden"))
    tables, head = base.get_submodule(family.embeddings[0]), base.get_submodule(family.head) if family.head else None
    if hidden is not None and head is not None and head.weight is tables.weight:
        # the head is scaled with the embedding that it is tied to: the norm in front of it makes up for that
        norm = base.get_submodule(family.final_norm)
        share = torch.where(hidden == 0, 1, hidden).to(norm.weight.device, torch.float64)
        norm.weight.copy_((norm.weight.double() + family.gain_offset) / share - family.gain_offset)
        if getattr(norm, "bias", None) is not None:
            norm.bias.copy_(norm.bias.double() / share)
    done: set[tuple[int, str]] = set()
    for key, mask in fold.items():
        if key[1] == "layer":
            continue
        if key[1] in EXPERT_UNITS:
            _fold_experts(base, units[key], mask)
            continue
        for gate in (*units[key].gates, *units[key].couplings):
            outer, module = base.get_submodule(gate.module), linear_at(base, gate.module)
            for tensor, axis in _folded(outer, module, gate.side):
                mark = (id(tensor), f"{key}{axis}{gate.index.table[0, 0]}")
                if mark in done:  # tied
                    continue
                done.add(mark)
                size = tensor.shape[axis]
                value = torch.cat([mask.detach().double().cpu(), torch.ones(1, dtype=torch.float64)])
                factor = value[gate.index.owner(size)].to(tensor.device)
                tensor.copy_(tensor.double() * (factor if axis == tensor.ndim - 1 else factor[:, None]))


def _folded(outer: Any, module: Any, side: str) -> Iterator[tuple[torch.Tensor, int]]:
    weight = module.weight
    if weight.ndim == 1 or isinstance(module, nn.Embedding):
        yield weight, weight.ndim - 1
    else:
        yield weight, int((side == "in") != is_conv1d(module))
    if side == "out" and getattr(module, "bias", None) is not None:
        yield module.bias, 0
    if outer is not module:
        for adapter in (outer.lora_A if side == "in" else outer.lora_B).values():
            yield adapter.weight, 1 if side == "in" else 0


def _fold_experts(base: Any, unit_set: UnitSet, mask: torch.Tensor) -> None:
    """Soft values of the channels of experts go into what reads them; whole experts have 0 and 1 only."""
    for piece in unit_set.slices if unit_set.kind == "expert_channel" else ():
        owner, _, leaf = piece.param.rpartition(".")
        tensor = getattr(base.get_submodule(owner), leaf)
        if leaf == "down_proj":
            factor = mask.detach().double().to(tensor.device).view(len(tensor), -1)
            tensor.copy_(tensor.double() * (factor[:, None] if piece.axis == 2 else factor[:, :, None]))
