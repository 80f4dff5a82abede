"""A mixture of experts of equal widths inside a budget: the channels of the experts pay, then whole experts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from paperworks.errors import InputError
from paperworks.structure.budgets import count
from paperworks.structure.export import uniform_export
from paperworks.structure.layers_pruned import ALIGNED, expert_axis
from paperworks.structure.plan import KeepPlan
from paperworks.structure.scores import Scores, magnitude_scores
from paperworks.structure.surgery import prune
from paperworks.structure.units import Key, family_of, kinds_of, records_of, units_of

KINDS = ("kv_group", "expert", "expert_channel")


def uniform_experts(
    model: Any, target: int, scores: Mapping[Key, torch.Tensor] | None = None, *, multiple_of: int = 1
) -> Any:
    """A mixture in its stock class with at most ``target`` parameters: one number of heads, experts and their channels.

    Heads and experts cannot be filled up: all layers keep as many as the layer with the fewest, the best ones. The
    experts then have the largest common number of channels, a multiple of ``ALIGNED`` and ``multiple_of``, that the
    target allows; where not even the smallest does, experts go, down to as many as a token goes to.

    Raises InputError for a target below the narrowest such model, with its size.
    """
    units = units_of(model, [kind for kind in KINDS if kind in kinds_of(model)])
    scores = magnitude_scores(model, units) if scores is None else scores
    experts = family_of(model).experts
    assert experts is not None
    records = [record for record in records_of(model) if record["experts"]]
    step, top = math.lcm(ALIGNED, multiple_of), int(getattr(model.config, experts.top_key))
    widest = max(record["expert_channels"] for record in records)
    least = 0
    for number in range(min(record["experts"] for record in records), top - 1, -1):
        plan = _coarse(model, units, scores, number)
        one = sum(number * _channel(model, layer) for layer, kind in units if kind == "expert_channel")
        fixed = count(model, plan).parameters
        fixed -= sum(
            number * _channel(model, layer) * records_of(model)[layer or 0]["expert_channels"]
            for layer, kind in units
            if kind == "expert_channel"
        )
        channels = min((target - fixed) // one // step * step, -(-widest // step) * step)
        if channels >= step:
            break
        least = fixed + one * step
    else:
        raise InputError("target", f"{target:,} parameters", f"at least {least:,}, the narrowest uniform model")
    cut = prune(model, plan)
    narrower = units_of(cut, ["expert_channel"])
    kept: dict[Key, list[int]] = {}
    for key, unit_set in narrower.items():
        each = unit_set.n_units // unit_set.groups
        if each > channels:
            rows = scores[key].view(-1, each)[list(plan.kept[key[0], "expert"])]
            best = rows.argsort(dim=1, descending=True, stable=True)[:, :channels]
            kept[key] = (best + torch.arange(len(rows))[:, None] * each).flatten().tolist()
    cut = prune(cut, KeepPlan.of(narrower, kept)) if kept else cut
    return uniform_export(cut, "round", multiple_of=multiple_of)


def _coarse(model: Any, units: Any, scores: Mapping[Key, torch.Tensor] | Scores, experts: int) -> KeepPlan:
    """The best ``experts`` experts of every layer, and as many key-value groups as the layer with the fewest has."""
    groups = min(record["kv_heads"] for record in records_of(model))
    kept = {}
    for key in units:
        if key[1] != "expert_channel":
            most = experts if key[1] == "expert" else groups
            kept[key] = scores[key].argsort(descending=True, stable=True)[:most].tolist()
    return KeepPlan.of(units, kept)


def _channel(model: Any, layer: int | None) -> int:
    """Parameters of one channel of one expert of a layer."""
    family = family_of(model)
    assert family.experts is not None
    matrices = model.get_submodule(f"{family.layers}.{layer}.{family.experts.matrices}")
    record = records_of(model)[layer or 0]
    owned = [p.numel() for name, p in matrices.named_parameters(recurse=False) if expert_axis(family.experts, name)]
    return sum(owned) // (record["experts"] * record["expert_channels"])
