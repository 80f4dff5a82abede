"""Global pruning step by step, without training in between: the plan for each speed-up on the way."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch

from paperworks.errors import InputError
from paperworks.papers.meta_pruning.criterion import CriterionName, group_importance
from paperworks.parameters import check_seed
from paperworks.structure import KeepPlan
from paperworks.structure.trace import TracedGroups
from paperworks.structure.units import Key

Scores = Callable[[Mapping[str, torch.Tensor]], Mapping[Key, torch.Tensor]]
"""From the weights by name, zeros where channels left, to a score ``[n_units]`` of every channel by group."""


def speed_plans(
    tensors: Mapping[str, torch.Tensor],
    groups: TracedGroups,
    speeds: Sequence[float],
    *,
    criterion: CriterionName | Scores = "group-l2",
    steps: int = 200,
    measure: str = "macs",
    dense: float | None = None,
    seed: int = 0,
) -> list[KeepPlan]:
    """Plans that reach each speed-up: the model's cost is at most ``dense / speed``.

    Channels leave in portions of 1/``steps`` of all. In front of each portion the criterion is computed anew on what is
    left, since a channel that leaves takes the weights that read it with it. No group loses its last channel.

    Parameters
    ----------
    tensors : the weights by name.
    groups : of the model that the weights are of.
    speeds : 1 or more each.
    criterion : its name, or a function that scores channels; the scores of a group are taken over its largest.
    measure : ``macs`` or ``parameters``.
    dense : cost that the speeds are relative to; default the model's own. With a model that was pruned before, that of
        the original.
    seed : of ``random``.

    Raises
    ------
    InputError : a speed below 1, or one that one channel a group does not reach.
    """
    check_seed("seed", seed)
    if not groups.units:
        raise InputError("model", "no group of channels that can be removed", "print the analysis for the reasons")
    if any(not speed >= 1 for speed in speeds):
        raise InputError("speedup", min(speeds), "1 or more")
    if measure not in ("macs", "parameters"):
        raise InputError("measure", measure, "macs or parameters")
    left = {name: value.detach().clone() for name, value in tensors.items()}
    kept = {key: torch.ones(units.n_units, dtype=torch.bool) for key, units in groups.units.items()}
    portion = max(1, round(sum(len(mask) for mask in kept.values()) / steps))
    whole = float(getattr(groups.cost(), measure)) if dense is None else dense
    generator = torch.Generator().manual_seed(seed % 2**63)
    noise = {key: torch.rand(len(mask), generator=generator, dtype=torch.float64) for key, mask in kept.items()}
    plans = []
    plan, cost = _plan(groups, kept, measure)
    for speed in sorted(speeds):
        while cost > whole / speed:
            if not _remove(left, groups, kept, portion, criterion, noise):
                raise InputError("speedup", speed, f"at most {whole / cost:.3g}, with one channel left in each group")
            plan, cost = _plan(groups, kept, measure)
        plans.append(plan)
    order = sorted(range(len(speeds)), key=lambda i: speeds[i])
    return [plans[order.index(i)] for i in range(len(speeds))]


def _plan(groups: TracedGroups, kept: Mapping[Key, torch.Tensor], measure: str) -> tuple[KeepPlan, float]:
    plan = KeepPlan.of(groups.all_units, kept)
    return plan, float(getattr(groups.cost_model(plan), measure))


def _remove(
    left: dict[str, torch.Tensor],
    groups: TracedGroups,
    kept: dict[Key, torch.Tensor],
    portion: int,
    criterion: CriterionName | Scores,
    noise: Mapping[Key, torch.Tensor],
) -> int:
    """Remove the weakest channels of all groups; how many left."""
    keys, parts = list(kept), []
    given = criterion(left) if callable(criterion) else {}
    for key in keys:
        mask = kept[key]
        if callable(criterion):
            scores = scaled(given[key], key, mask, "max")
        else:
            scores = noise[key].clone() if criterion == "random" else normalised(left, groups, key, mask, criterion)
        scores[~mask] = float("inf")
        scores[scores.masked_fill(~mask, -float("inf")).argmax()] = float("inf")  # the best of a group stays
        parts.append(scores)
    scores = torch.cat(parts)
    order = scores.argsort(stable=True)[:portion]
    order = order[torch.isfinite(scores[order])]
    start = 0
    for key, part in zip(keys, parts, strict=True):
        gone = order[(order >= start) & (order < start + len(part))] - start
        start += len(part)
        if len(gone):
            kept[key][gone] = False
            for piece in groups[key[1]].slices:
                if piece.param in left:
                    positions = piece.index.positions(gone)
                    left[piece.param].index_fill_(piece.axis, positions.to(left[piece.param].device), 0)
    return len(order)


def normalised(
    left: Mapping[str, torch.Tensor], groups: TracedGroups, key: Key, mask: torch.Tensor, criterion: CriterionName
) -> torch.Tensor:
    """Importance of the channels of a group on the scale on which groups are compared, float64 ``[n_units]``."""
    found = group_importance(left, groups.units[key])
    over = {"group-l2-none": "none", "group-l2-mean": "mean"}.get(criterion, "max")
    return scaled(found, key, mask, over)


def scaled(scores: torch.Tensor, key: Key, mask: torch.Tensor, over: str) -> torch.Tensor:
    """Scores of a group over the ``max`` or ``mean`` of the channels that are left, or as they are (``none``), float64.

    Raises InputError naming the group for scores that are not finite.
    """
    found = scores.detach().double().cpu()
    if not bool(torch.isfinite(found).all()):
        raise InputError("weights", f"NaN or infinite values in {key[1]}", "finite weights")
    if over == "none":
        return found.clone()
    here = found[mask]
    scale = here.mean() if over == "mean" else here.max()
    return found / scale.clamp_min(1e-30)
