"""Biases that stand in for removed units: what they gave on average is added to what is left (FLAP's baseline bias)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from paperworks.errors import InputError
from paperworks.structure.activations import ReadChannels
from paperworks.structure.layers_pruned import linear_at
from paperworks.structure.layers_sliced import give_bias
from paperworks.structure.plan import KeepPlan
from paperworks.structure.units import Key, Units, base_of, family_of


def add_output_biases(model: Any) -> list[str]:
    """Give the matrices that write to the stream (o, down, ...) a bias of zeros where they have none, in every layer.

    Returns their paths inside a layer. The configuration notes them as ``added_biases``, so that a pruned model is
    built with them again; a stock checkpoint cannot hold them, so prune before saving. Every family can have them.

    Raises InputError for a model with adapters.
    """
    base, family = base_of(model), family_of(model)
    if base is not model:
        raise InputError("model", type(model).__name__, "merged adapters (merge_and_unload)")
    if family.experts is not None:
        raise InputError("model", family.model_type, "a family without experts, to whose matrices biases can be added")
    added = set(getattr(base.config, "added_biases", None) or [])
    for layer in base.get_submodule(family.layers):
        for path in (*family.attention.outputs, *family.feed_forward.outputs):
            module = linear_at(layer, path)
            if module.bias is None:
                give_bias(module)
                added.add(path)
    if added:
        base.config.added_biases = sorted(added)
    return sorted(added)


@torch.no_grad()
def compensate(model: Any, units: Units, plan: KeepPlan, channels: Mapping[Key, ReadChannels]) -> None:
    """b <- b + W_gone mean_gone for every matrix that reads units which ``plan`` removes; then ``prune`` with it.

    ``channels``: as ``read_channels`` gives them for ``units``. The sums are formed in float64. What a unit whose
    activation is the same for every token gave is kept exactly, up to rounding.

    Raises InputError where a matrix that loses units has no bias (``add_output_biases`` gives it one).
    """
    base = base_of(model)
    for key, read in channels.items():
        gone = sorted(set(range(units[key].n_units)) - set(plan.kept.get(key, range(units[key].n_units))))
        if not gone:
            continue
        path = units[key].gates[0].module
        module = linear_at(base, path)
        if module.bias is None:
            raise InputError(f"{path}.bias", "none", "a bias to add to: call add_output_biases first")
        positions = read.index.positions(gone)
        weight = module.weight if hasattr(module, "nf") else module.weight.T  # [in, out]
        given = read.mean[positions].to(weight.device) @ weight[positions.to(weight.device)].double()
        module.bias.copy_(module.bias.double() + given)
