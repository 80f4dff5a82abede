"""A model of equal widths inside a budget, for serving engines: one common width, the best units at that width."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from paperworks.errors import InputError
from paperworks.structure.budgets import count
from paperworks.structure.export import HEADS_FIXED_BY_WIDTH, uniform_export
from paperworks.structure.layers_pruned import has_heads, trained_record
from paperworks.structure.plan import KeepPlan
from paperworks.structure.scores import magnitude_scores
from paperworks.structure.surgery import prune
from paperworks.structure.units import Key, family_of, kinds_of, records_of, units_of


def uniform_within(
    model: Any, target: int, scores: Mapping[Key, torch.Tensor] | None = None, *, multiple_of: int = 1
) -> Any:
    """A model of the stock class with one width in all layers and at most ``target`` parameters.

    Every layer keeps the same number of key-value groups (the mean of what the layers have now, or all of them where
    the stock class cannot have fewer) and the same number of feed-forward channels, the largest multiple of
    ``multiple_of`` that the target allows. Layers with more units keep those that score best; layers with fewer are
    filled up with zeros. From a dense model nothing is filled up.

    Parameters
    ----------
    model : dense or pruned, without adapters; it is cut in place.
    scores : of the sets ``ffn`` and ``kv_group``, float64 [n_units]; None: sums of squares of the weights.

    Raises
    ------
    InputError : a target below the narrowest uniform model (with its size), or what ``uniform_export`` refuses.
    """
    family, records = family_of(model), records_of(model)
    kinds = [kind for kind in ("ffn", "kv_group") if kind in kinds_of(model)]
    units = units_of(model, kinds)
    costs = {kind: _unit_cost(model, units, kind) for kind in kinds}
    layers = len(records)
    groups = round(sum(record["kv_heads"] for record in records) / layers)
    if family.model_type in HEADS_FIXED_BY_WIDTH or not has_heads(family):
        groups = trained_record(model.config, family)["kv_heads"]
    groups = max(1, groups)
    fixed = count(model).parameters - sum(record["ffn"] * costs["ffn"] for record in records)
    fixed += sum((groups - record["kv_heads"]) * costs.get("kv_group", 0) for record in records)
    width = (target - fixed) // (layers * costs["ffn"]) // multiple_of * multiple_of
    width = min(width, trained_record(model.config, family)["ffn"])
    if width < multiple_of:
        least = fixed + layers * costs["ffn"] * multiple_of
        raise InputError("target", f"{target:,} parameters", f"at least {least:,}, the narrowest uniform model")
    if scores is None:
        scores = magnitude_scores(model, units)
    kept = {}
    for key, unit_set in units.items():
        most = width if key[1] == "ffn" else groups
        if unit_set.n_units > most:
            kept[key] = scores[key].argsort(descending=True, stable=True)[:most].tolist()
    cut = prune(model, KeepPlan.of(units, kept)) if kept else model
    return uniform_export(cut, "round", multiple_of=multiple_of)


def _unit_cost(model: Any, units: Any, kind: str) -> int:
    """Parameters of one unit of a kind, from the first layer that has one to lose."""
    for key, unit_set in units.items():
        if key[1] == kind and unit_set.n_units:
            one = KeepPlan({key: tuple(range(1, unit_set.n_units))}, {key: unit_set.n_units})
            return count(model).parameters - count(model, one).parameters
    raise InputError("model", f"layers without units of kind {kind}", "a model that has some")
