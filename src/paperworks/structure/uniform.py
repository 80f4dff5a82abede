"""A model of equal widths inside a budget, for serving engines: one common width, the best units at that width."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from paperworks.errors import InputError
from paperworks.structure.export import HEADS_FIXED_BY_WIDTH, skeleton_with, uniform_export, uniform_shape
from paperworks.structure.layers_pruned import BLOCK_ENDS, has_heads, trained_record
from paperworks.structure.plan import KeepPlan, name_of
from paperworks.structure.scores import magnitude_scores
from paperworks.structure.surgery import prune
from paperworks.structure.uniform_experts import uniform_experts
from paperworks.structure.units import Key, family_of, kinds_of, records_of, stream_width, units_of

ROUNDED = ("ffn", "hidden", *BLOCK_ENDS)
"""Kinds whose numbers serving engines want to be multiples of 64 or so. Heads stay whole; their channels are few."""


def uniform_within(
    model: Any, target: int, scores: Mapping[Key, torch.Tensor] | None = None, *, multiple_of: int = 1
) -> Any:
    """A model of the stock class with one width in all layers and at most ``target`` parameters.

    Every layer keeps the same number of key-value groups (of those that the stock class accepts, the nearest to the
    mean of what the layers have now for which the target leaves room) and the same number of feed-forward channels, the
    largest multiple of ``multiple_of`` that the target allows. Layers with more units keep those that score best;
    layers with fewer are filled up with zeros, as is what the stock class cannot have narrower (see
    ``uniform_export``). From a dense model nothing is filled up.

    Parameters
    ----------
    model : dense or pruned, without adapters; it is cut in place.
    scores : of the sets ``ffn`` and ``kv_group`` (or of the kinds of ``uniform_experts``), float64 [n_units]; None:
        sums of squares of the weights.

    Raises
    ------
    InputError : a target below the narrowest uniform model (with its size), or what ``uniform_export`` refuses.
    """
    if family_of(model).experts is not None:
        return uniform_experts(model, target, scores, multiple_of=multiple_of)
    groups, width = _common(model, target, multiple_of)
    kinds = [kind for kind in ("ffn", "kv_group") if kind in kinds_of(model)]
    units = units_of(model, kinds)
    if scores is None:
        scores = magnitude_scores(model, units)
    kept = {}
    for key, unit_set in units.items():
        most = width if key[1] == "ffn" else groups
        if unit_set.n_units > most:
            kept[key] = scores[key].argsort(descending=True, stable=True)[:most].tolist()
    cut = prune(model, KeepPlan.of(units, kept)) if kept else model
    return uniform_export(cut, "round", multiple_of=multiple_of)


def _common(model: Any, target: int, multiple_of: int) -> tuple[int, int]:
    """Key-value groups and feed-forward channels of every layer, inside ``target``."""
    family, records = family_of(model), records_of(model)
    trained = trained_record(model.config, family)
    mean = max(1, round(sum(record["kv_heads"] for record in records) / len(records)))
    choices = sorted(range(1, trained["kv_heads"] + 1), key=lambda n: (abs(n - mean), n))
    if family.model_type in HEADS_FIXED_BY_WIDTH or not has_heads(family):
        choices = [trained["kv_heads"]]
    least = 0
    for groups in choices:
        record, wide = uniform_shape(model, groups, stream_width(model), multiple_of)
        if record["kv_heads"] != groups and len(choices) > 1:
            continue  # the stock class has not so many
        counts = [_parameters(model, {**record, "ffn": n}, wide) for n in (multiple_of, 2 * multiple_of)]
        if counts[0] > target:
            least = min(least or counts[0], counts[0])
            continue
        width = (1 + (target - counts[0]) // (counts[1] - counts[0])) * multiple_of
        return groups, min(width, trained["ffn"])
    raise InputError("target", f"{target:,} parameters", f"at least {least:,}, the narrowest uniform model")


def _parameters(model: Any, record: dict[str, Any], width: int) -> int:
    return sum(parameter.numel() for parameter in skeleton_with(model, record, width).parameters())


def round_widths(
    kept: Mapping[Key, int],
    whole: Mapping[Key, int],
    size: Callable[[Mapping[Key, int]], int],
    target: int,
    multiple_of: int,
    most: Mapping[Key, int] | None = None,
) -> dict[Key, int]:
    """Numbers of kept units that are multiples of ``multiple_of``, or ``whole``, inside a size.

    Numbers of the kinds ``ROUNDED`` are rounded down, to one block at least where any unit was kept. What the target
    then leaves goes to the sets that lost the largest remainders, a block to each in turn; where it is passed, those
    with the smallest remainders give a block. The other kinds keep their numbers.

    Parameters
    ----------
    whole : units of every set of the dense model. ``most``: those that there are still (None: ``whole``).
    size : parameters for numbers of kept units.

    Raises InputError naming ``round_to`` where no such numbers meet ``target``.
    """
    if multiple_of == 1:
        return dict(kept)
    most = whole if most is None else most
    found = dict(kept)

    def at_most(key: Key, n: int) -> int:
        """The largest number that is allowed and no more than ``n``; a block at least."""
        if n >= whole[key] and most[key] == whole[key]:
            return whole[key]
        return max(min(n, most[key]) // multiple_of, 1) * multiple_of

    sets = [key for key in kept if key[1] in ROUNDED and kept[key] and most[key] >= multiple_of]
    for key in sets:
        found[key] = at_most(key, kept[key])
    order = sorted((key for key in sets if found[key] != kept[key]), key=lambda k: (found[k] - kept[k], name_of(k)))
    for key in reversed(order):
        while size(found) > target and found[key] > multiple_of:
            found[key] = at_most(key, found[key] - 1)
    now = size(found)
    if now > target:
        raise InputError("round_to", multiple_of, f"a number that the target allows: {now:,} of {target:,} parameters")
    for key in order:
        more = {**found, key: at_most(key, found[key] + multiple_of)}
        if size(more) <= target:
            found = more
    return found
