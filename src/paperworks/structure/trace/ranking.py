"""Plans out of scores: the units that matter least leave, until a share or a cost is met."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch

from paperworks.errors import InputError
from paperworks.structure.plan import KeepPlan
from paperworks.structure.trace.analysis import TracedGroups
from paperworks.structure.trace.groups import isomorphism
from paperworks.structure.units import Key

Scope = Literal["global", "group", "isomorphic"]
Normaliser = Literal["none", "mean", "max", "sum", "gaussian"]
MEASURES = ("macs", "parameters")


def normalised(scores: torch.Tensor, how: Normaliser) -> torch.Tensor:
    """Scores of one group on a scale that can be compared with other groups, float64."""
    scores = scores.double()
    if how == "none":
        return scores
    if how == "gaussian":
        return (scores - scores.mean()) / scores.std(correction=0).clamp(min=1e-12)
    divisors = {"mean": scores.mean(), "max": scores.max(), "sum": scores.sum()}
    if how not in divisors:
        raise InputError("normaliser", how, "none, mean, max, sum or gaussian")
    return scores / divisors[how].clamp(min=1e-12)


def ranked_plan(
    groups: TracedGroups,
    scores: Mapping[Key, torch.Tensor],
    *,
    keep: float | None = None,
    macs: float | None = None,
    parameters: float | None = None,
    scope: Scope = "global",
    normaliser: Normaliser = "mean",
    multiple_of: int = 1,
    min_units: int = 1,
    min_share: float = 0.1,
) -> KeepPlan:
    """Keep the units with the best scores.

    Parameters
    ----------
    scores : [n_units] by (None, group name), such as ``magnitude_scores(model, groups.units)``. Groups without scores
        keep everything.
    keep : the share of the units to keep; or
    macs, parameters : the share of the model's cost to keep, a number between 0 and 1: the largest plan that costs no
        more. Exactly one of the three is given.
    scope : ``group`` keeps the same share of every group; ``global`` compares all units; ``isomorphic`` compares units
        of groups that have the same members (names apart from numbers, axes and counts).
    normaliser : makes scores of several groups comparable (``global`` and ``isomorphic``). Ties go to the lower unit.
    multiple_of : numbers of kept units are rounded up to multiples of this, where the group has as many.
    min_units, min_share : no group keeps less.

    Raises
    ------
    InputError : a target out of range or that cannot be reached, scores that are not finite or of another length.
    """
    targets = {name: t for name, t in (("keep", keep), ("macs", macs), ("parameters", parameters)) if t is not None}
    if len(targets) != 1:
        raise InputError("target", ", ".join(targets) or "none", "exactly one of keep, macs and parameters")
    name, target = next(iter(targets.items()))
    if not 0 < target <= 1:
        raise InputError(name, target, "a share above 0 and at most 1")
    if scope not in ("global", "group", "isomorphic"):
        raise InputError("scope", scope, "global, group or isomorphic")
    ready = _checked(groups, scores)
    if not ready:
        raise InputError("scores", "no groups", _scorable(groups))
    pools = _pools(groups, ready, scope, normaliser)

    def plan_of(share: float) -> KeepPlan:
        kept = {}
        for key, order in ready.items():
            size = len(order)
            wanted = pools[key](share)
            least = min(size, max(1, min_units, int(-(-min_share * size // 1))))
            count = min(size, -(-max(wanted, least) // multiple_of) * multiple_of)
            best = order.argsort(descending=True, stable=True)[:count]
            kept[key] = best.tolist()
        return KeepPlan.of(groups.all_units, kept)

    if name == "keep":
        return plan_of(target)
    dense = getattr(groups.cost(), name)

    def cost(share: float) -> float:
        return getattr(groups.cost_model(plan_of(share)), name) / dense

    if cost(0.0) > target:
        bound = f" with min_share {min_share:g}" if min_share else ""
        expected = f"at least {cost(0.0):.3f} of the model, the least that these units can reach{bound}"
        raise InputError(name, target, expected)
    low, high = 0.0, 1.0
    if cost(1.0) <= target:
        return plan_of(1.0)
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if cost(middle) <= target else (low, middle)
    return plan_of(low)


def _scorable(groups: TracedGroups) -> str:
    if groups.units:
        return "scores of at least one group of the model"
    if not len(groups):
        why = "; ".join(str(entry) for entry in groups.blocked[:3])
        return f"a model with groups of units; refused are {why}" if why else "a model with groups of units"
    listed = "; ".join(f"{group.name} ({group.note})" for group in list(groups.values())[:5])
    return f"scores of groups that are not in the default, by name: {listed}"


def _checked(groups: TracedGroups, scores: Mapping[Key, torch.Tensor]) -> dict[Key, torch.Tensor]:
    ready = {}
    for key, score in scores.items():
        size = groups[key[1]].n_units
        if score.shape != (size,):
            raise InputError(f"scores[{key[1]}]", f"shape {tuple(score.shape)}", f"({size},)")
        if not bool(torch.isfinite(score).all()):
            raise InputError(f"scores[{key[1]}]", "NaN or infinite values", "finite scores")
        ready[key] = score.detach().double().cpu()
    return ready


class _Pool:
    """Groups whose units are compared: how many of one group are among the best share of all."""

    def __init__(self, pooled: torch.Tensor, own: torch.Tensor) -> None:
        self.pooled, self.own = pooled, own

    def __call__(self, share: float) -> int:
        count = round(share * len(self.pooled))
        if count <= 0:
            return 0
        threshold = self.pooled[count - 1]  # descending
        return int((self.own >= threshold).sum())


def _pools(groups: TracedGroups, scores: dict[Key, torch.Tensor], scope: Scope, how: Normaliser) -> dict[Key, _Pool]:
    ready = {key: score if scope == "group" else normalised(score, how) for key, score in scores.items()}
    # equal scores are told apart by order, so that a threshold takes exactly as many as were asked for
    names: dict[Key, str] = {}
    for key in ready:
        names[key] = {"group": key[1], "global": ""}.get(scope) or (
            isomorphism(groups[key[1]]) if scope == "isomorphic" else ""
        )
    if scope == "group":
        return {key: _Pool(_ranks(score).sort(descending=True).values, _ranks(score)) for key, score in ready.items()}
    pools = {}
    for name in dict.fromkeys(names.values()):
        keys = [key for key in ready if names[key] == name]
        ranks = _ranks(torch.cat([ready[key] for key in keys]))
        pooled = ranks.sort(descending=True).values
        for key, own in zip(keys, ranks.split([len(ready[key]) for key in keys]), strict=True):
            pools[key] = _Pool(pooled, own)
    return pools


def _ranks(scores: torch.Tensor) -> torch.Tensor:
    """n for the best score, 1 for the worst; of equal ones the earlier is better. Sorted where given as a pool."""
    order = scores.argsort(descending=True, stable=True)
    ranks = torch.empty(len(scores))
    ranks[order] = torch.arange(len(scores), 0, -1, dtype=ranks.dtype)
    return ranks
