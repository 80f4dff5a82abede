"""Plain ways to choose units, at the same budget as the papers' methods: magnitude, random, Taylor, activation, FLAP.

All but FLAP keep the same share of key-value groups (with their query heads), feed-forward channels, experts and
channels of experts in every layer, the units that score best. What the rounding to whole units leaves of the budget
goes to feed-forward channels, one to a layer, so that the model ends within one unit of the target.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from paperworks.errors import InputError
from paperworks.pruning.job import Pruned, PruningJob
from paperworks.structure import (
    TaylorScores,
    activation_scores,
    add_output_biases,
    check_prunable,
    compensate,
    count,
    exact_fill,
    kinds_of,
    magnitude_scores,
    random_scores,
    read_channels,
    solve_ratio,
    units_of,
)
from paperworks.structure import prune as cut
from paperworks.structure.budgets import Counter, uniform_plan
from paperworks.structure.families import EXPERT_UNITS
from paperworks.structure.plan import KeepPlan
from paperworks.structure.scores import Scores
from paperworks.structure.units import Slice, Units, UnitSet

KINDS = ("kv_group", "ffn")
COARSE = ("kv_group", "expert")
"""Kinds whose units are so large that channels take up what their rounding leaves."""


def magnitude(job: PruningJob) -> Pruned:
    """Keep the units whose weights have the greatest sum of squares."""
    return _uniform(job, lambda model, units, batches: magnitude_scores(model, units))


def random(job: PruningJob) -> Pruned:
    """Keep units drawn with the job's seed."""
    return _uniform(job, lambda m, units, b: random_scores(units, torch.Generator().manual_seed(job.seed)))


def taylor(job: PruningJob) -> Pruned:
    """Keep the units with the greatest sum of |w g|: LLM-Pruner's element-wise first order, uniform over layers."""

    def scores(model: torch.nn.Module, units: Units, batches: list[dict[str, torch.Tensor]]) -> Scores:
        with TaylorScores(model, units) as found:
            for batch in job.progress(batches, "Taylor scores", len(batches)):
                found.add(batch)
            return found.scores("param_first")

    return _uniform(job, scores)


def activation(job: PruningJob) -> Pruned:
    """Keep the units of greatest mean squared activation times the squared norm of the weights that read it.

    Forward passes only, in the manner of Wanda and FLAP. A unit's score is the product of the two sums over its
    positions, not the sum of their products.
    """

    def scores(model: torch.nn.Module, units: Units, batches: list[dict[str, torch.Tensor]]) -> Scores:
        signals = activation_scores(model, units, job.progress(batches, "activations", len(batches)))
        reading = Units([replace(unit_set, slices=_readers(unit_set)) for unit_set in units.values()])
        weights = magnitude_scores(model, reading)
        return {key: signals[key] * weights[key] for key in units}

    return _uniform(job, scores)


def flap(job: PruningJob) -> Pruned:
    """Keep the units whose input to the next matrix fluctuates most; biases stand in for what the others gave.

    FLAP (An et al., arXiv 2312.11983): a channel's score is the variance of its activation over the calibration tokens
    times the squared norm of the weights that read it, standardised over the channels of its layer and block; a
    key-value group has the mean of its channels. All units of the model are then ranked together, so that every layer
    keeps a width of its own (one unit at least), and what the removed ones gave on average becomes a bias of o and
    down, in families that have none there too. Those biases count as parameters.
    """
    model, units, batches = _prepared(job)
    dense = count(model).parameters
    if job.target >= dense:
        raise InputError("target", f"{job.target:,} parameters", f"fewer than the model has, {dense:,}")
    channels = read_channels(model, units, job.progress(batches, "fluctuations", len(batches)))
    scores = {key: read.standardised for key, read in channels.items()}
    add_output_biases(model)
    try:
        plan = exact_fill(model, units, scores, job.target, per_cost=False)
    except InputError as error:
        raise InputError("target", error.found, error.expected) from error
    compensate(model, units, plan, channels)
    return Pruned(cut(model, plan))


BASELINES: dict[str, Callable[[PruningJob], Pruned]] = {
    "magnitude": magnitude,
    "random": random,
    "taylor": taylor,
    "activation": activation,
    "flap": flap,
}


def _readers(unit_set: UnitSet) -> tuple[Slice, ...]:
    """The slices of the matrices that read the unit's activation (down, o): they are cut along their inputs."""
    gates = {gate.module for gate in unit_set.gates if gate.side == "in"}
    return tuple(piece for piece in unit_set.slices if piece.module in gates and piece.param.endswith(".weight"))


def _prepared(job: PruningJob) -> tuple[Any, Units, list[dict[str, torch.Tensor]]]:
    """The dense model, its units, and the calibration batches on its device."""
    model, tokenizer = job.load()
    check_prunable(model)
    units = units_of(model, pruned_kinds(model))
    device = next(model.parameters()).device
    batches = [
        {name: value.to(device) for name, value in batch.items()}
        for batch in job.calibration(tokenizer).batches(job.batch_size)
    ]
    return model, units, batches


def pruned_kinds(model: torch.nn.Module) -> list[str]:
    """The kinds that are cut: heads and channels; of a mixture of experts, also experts and the channels in them."""
    return [kind for kind in (*KINDS, *EXPERT_UNITS) if kind in kinds_of(model)]


def _uniform(job: PruningJob, score: Callable[..., Scores]) -> Pruned:
    model, units, batches = _prepared(job)
    plan = fill(model, units, score(model, units, batches), job.target)
    return Pruned(cut(model, plan))


def fill(model: torch.nn.Module, units: Units, scores: Scores, target: int) -> KeepPlan:
    """The plan with one share in every layer that meets ``target`` parameters, then filled up with whole units.

    Raises InputError naming ``target`` where even one unit of each set is too much.
    """
    counter = Counter(model)
    least = counter(uniform_plan(units, scores, 0.0)).parameters
    if target < least:
        raise InputError(
            "target", f"{target:,} parameters", f"at least {least:,}, the least that this method can reach"
        )
    dense = counter().parameters
    if target >= dense:
        raise InputError("target", f"{target:,} parameters", f"fewer than the model has, {dense:,}")
    share = (target - least) / (dense - least)

    def widths(shift: int, part: float) -> KeepPlan:
        """The nearest number of coarse units to the common share, moved by ``shift``, and a share of the channels."""
        parts = dict.fromkeys(scores, part)
        for key in (k for k in scores if k[1] in COARSE):
            n = units[key].n_units
            parts[key] = min(n, max(1, units[key].least, round(share * n) + shift)) / n
        return uniform_plan(units, scores, parts)

    # Groups are coarse: channels, alike in every layer and then one by one, take up what their rounding leaves.
    shift = 0
    while counter(widths(shift, 1.0)).parameters <= target:
        shift += 1
    while counter(widths(shift, 0.0)).parameters > target:
        shift -= 1
    if counter(widths(shift, 1.0)).parameters <= target:
        plan = widths(shift, 1.0)
    else:
        plan = solve_ratio(model, lambda part: widths(shift, part), target)[1]
    kept = {key: list(ids) for key, ids in plan.kept.items()}
    for key in (k for k in scores if k[1] == "ffn"):
        left = [u for u in scores[key].argsort(descending=True, stable=True).tolist() if u not in set(kept[key])]
        more = {**kept, key: [*kept[key], *left[:1]]}
        if left and counter(KeepPlan.of(units, more)).parameters <= target:
            kept = more
    return KeepPlan.of(units, kept)
