"""How much is pruned when: one-shot, linear, geometric, cubic; scores computed anew between the steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from typing import Literal, get_args

import torch
from torch import nn

from paperworks.errors import InputError
from paperworks.papers.pruning_survey.masks import (
    Masks,
    Scope,
    WeightScores,
    apply_masks,
    check_collapse,
    check_density,
    keep_best,
    turned,
    turned_weights,
)
from paperworks.parameters import check_whole
from paperworks.runs import Progress, no_progress

Curve = Literal["linear", "geometric", "cubic"]
CURVES: tuple[str, ...] = get_args(Curve)
ScoreNow = Callable[[int], WeightScores]
"""``score(step) -> scores`` of the network as it is masked then."""


def densities(final: float, steps: int, curve: Curve = "geometric", *, initial: float = 1.0) -> list[float]:
    """The kept share after each of ``steps`` steps; the last is ``final``.

    With rho the final density, s = 1 - density, k the step from 1 and n the number of steps:

    - ``linear``: ``s_k = s_f k / n``;
    - ``geometric``: ``rho^(k / n)``, an equal share of the remaining in each step (IMP, SynFlow);
    - ``cubic``: ``s_k = s_f + (s_i - s_f)(1 - k / n)^3`` (automated gradual pruning, Zhu and Gupta 2017).
    """
    check_density(final)
    check_density(initial, "initial")
    check_whole("steps", steps, 1)
    if final > initial:
        raise InputError("density", final, f"at most the initial density, {initial:g}")
    places = [k / steps for k in range(1, steps + 1)]
    if curve == "geometric":
        found = [initial * (final / initial) ** place for place in places]
    elif curve == "linear":
        found = [initial + (final - initial) * place for place in places]
    elif curve == "cubic":
        found = [final + (initial - final) * (1 - place) ** 3 for place in places]
    else:
        raise InputError("curve", curve, f"one of {', '.join(CURVES)}")
    return [*found[:-1], final]


def rounds_of_magnitude_pruning(final: float, per_round: float = 0.2) -> int:
    """How many rounds of iterative magnitude pruning reach a density, ``per_round`` of the remaining in each."""
    check_density(final)
    if not 0 < per_round < 1:
        raise InputError("per_round", per_round, "a share between 0 and 1")
    return max(1, math.ceil(math.log(final) / math.log(1 - per_round) - 1e-9)) if final < 1 else 1


def masks_in_steps(
    model: nn.Module,
    score: ScoreNow,
    density: float,
    *,
    steps: int = 1,
    curve: Curve = "geometric",
    scope: Scope = "global",
    floor: float = 0.0,
    allow_collapse: bool = False,
    progress: Progress = no_progress,
) -> Masks:
    """Prune ``model`` in place in ``steps`` without training between them; scores are computed anew after each.

    What left stays away. Raises InputError where a layer is emptied, unless ``allow_collapse``.
    """
    masks: Masks = {}
    names = turned_weights(model)
    for step, share in progress(list(enumerate(densities(density, steps, curve))), "pruning", steps):
        masks = next_masks(score(step), masks, share, scope, floor=floor, stored=names)
        apply_masks(model, masks)
    if not allow_collapse:
        check_collapse(masks)
    return masks


def next_masks(
    scores: Mapping[str, torch.Tensor],
    before: Mapping[str, torch.Tensor],
    density: float,
    scope: Scope,
    *,
    floor: float = 0.0,
    stored: Collection[str] = (),
) -> Masks:
    """Masks inside those of before: what left has the lowest scores of all.

    ``stored`` : names of weights [in, out, ...], whose output rows are their columns (``turned_weights``).
    """
    if before:
        least = min(float(values.min()) for values in scores.values()) - 1.0
        scores = {
            name: torch.where(before[name], values.double(), torch.full_like(values.double(), least))
            for name, values in scores.items()
        }
    return turned(keep_best(turned(scores, stored), density, scope, floor=floor), stored)
