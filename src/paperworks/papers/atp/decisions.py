"""From logits to masks: sampled, without noise, or inside an exact budget. Every mask keeps at least one unit."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from paperworks.papers.atp.size import KeptSize
from paperworks.structure import KeepPlan, StraightThroughGumbel, exact_fill
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


def exact(model: object, size: KeptSize, logits: Mapping[Key, torch.Tensor], target: int) -> KeepPlan:
    """The units of the largest logits, over all masks at once, that leave at most ``target`` parameters."""
    costs = size.unit_costs()
    # exact_fill removes by score over cost; with the cost in the score its order is that of the logits
    flat = torch.cat([logits[key].detach().double().cpu() for key in logits])
    span = float(flat.max() - flat.min()) or 1.0
    scores = {
        key: (1 + (z.detach().double().cpu() - float(flat.min())) / span) * max(costs[key], 1)
        for key, z in logits.items()
    }
    return exact_fill(model, size.units, scores, target)


def dropped_units(masks: Mapping[Key, torch.Tensor]) -> Masks:
    """Numbers of the pruned units, int64, by set."""
    return {key: (mask == 0).nonzero().flatten().cpu() for key, mask in masks.items()}
