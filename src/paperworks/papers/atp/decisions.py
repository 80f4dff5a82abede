"""From logits to masks: sampled, without noise, or inside an exact budget. Every mask keeps at least one unit."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from paperworks.papers.atp.size import KeptSize
from paperworks.structure import KeepPlan, StraightThroughGumbel, exact_fill
from paperworks.structure.uniform import round_widths
from paperworks.structure.units import Key

Masks = dict[Key, torch.Tensor]


def relaxed(gumbel: StraightThroughGumbel, logits: Masks, generator: torch.Generator) -> tuple[Masks, Masks]:
    """Soft masks, and the hard ones of the same noise with the gradient of the soft ones."""
    soft = {key: gumbel.soft(z, generator) for key, z in logits.items()}
    return soft, {key: gumbel.straight_through(mask) for key, mask in soft.items()}


def at_least_one(masks: Mapping[Key, torch.Tensor], logits: Mapping[Key, torch.Tensor]) -> Masks:
    """Masks in which the unit of the largest logit is kept where none would be; without gradient."""
    found = {}
    for key, mask in masks.items():
        mask = mask.detach().clone()
        if not bool(mask.any()):
            mask[logits[key].argmax()] = 1
        found[key] = mask
    return found


def decided(gumbel: StraightThroughGumbel, logits: Masks) -> Masks:
    """Kept where z + b + Euler's gamma is not negative: the relaxation with its mean noise."""
    return at_least_one({key: gumbel.deterministic(z.detach()) for key, z in logits.items()}, logits)


def exact(
    model: object, size: KeptSize, logits: Mapping[Key, torch.Tensor], target: int, round_to: int = 1
) -> KeepPlan:
    """The units of the largest logits, over all masks at once, that leave at most ``target`` parameters.

    ``round_to``: numbers of channels and dimensions are then made multiples of this (see ``round_widths``).
    """
    costs = size.unit_costs()
    # exact_fill removes by score over cost; with the cost in the score its order is that of the logits
    flat = torch.cat([logits[key].detach().double().cpu() for key in logits])
    span = float(flat.max() - flat.min()) or 1.0
    scores = {
        key: (1 + (z.detach().double().cpu() - float(flat.min())) / span) * max(costs[key], 1)
        for key, z in logits.items()
    }
    plan = exact_fill(model, size.units, scores, target)
    if round_to == 1:
        return plan

    def best(numbers: Mapping[Key, int]) -> KeepPlan:
        ranked = {key: logits[key].detach().cpu().argsort(descending=True, stable=True) for key in numbers}
        return KeepPlan.of(size.units, {key: ranked[key][:n] for key, n in numbers.items()})

    whole = {key: size.units[key].n_units for key in plan.kept}
    kept = {key: len(ids) for key, ids in plan.kept.items()}
    return best(round_widths(kept, whole, lambda n: size.counter(best(n)).parameters, target, round_to))


def dropped_units(masks: Mapping[Key, torch.Tensor]) -> Masks:
    """Numbers of the pruned units, int64, by set."""
    return {key: (mask == 0).nonzero().flatten().cpu() for key, mask in masks.items()}
