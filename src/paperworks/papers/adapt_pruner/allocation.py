"""How much every layer has to give: cumulative sparsities, and the whole units that they come to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from paperworks.structure import KeepPlan, Units
from paperworks.structure.budgets import Counter
from paperworks.structure.scores import Scores
from paperworks.structure.uniform import round_widths
from paperworks.structure.units import Key

MOST = 0.99
"""No layer is asked for more than this."""


def next_sparsity(sparsity: torch.Tensor, importance: torch.Tensor, increment: float, amplitude: float) -> torch.Tensor:
    """``S[t] = clip(S[t-1] + Delta - A I_hat, 0, 0.99)``, float64 ``[n]``.

    With ``importance`` of mean 0 inside [-1, 1] the mean step is Delta, where nothing is clipped.
    """
    return (sparsity + increment - amplitude * importance).clamp(0, MOST)


def removals(kind: str, start: int, now: int, sparsity: float, head_dim: int = 1, least: int = 1) -> int:
    """Units to remove from a set that had ``start`` and has ``now``; at least ``least`` stay.

    FFN channels: ``now - floor(start (1 - S))``. Attention: the same in channels of the keys, in whole heads of
    ``head_dim`` channels, so that a group falls out only when enough sparsity has accumulated.
    """
    width = head_dim if kind == "kv_group" else 1
    # 100 * (1 - 0.02) must give 98, whatever the last bit says
    wanted = now * width - math.floor(start * width * (1 - sparsity) + 1e-9)
    return min(max(0, wanted // width), max(0, now - least))


def weakest_removed(units: Units, scores: Scores, numbers: Mapping[Key, int]) -> KeepPlan:
    """The plan that removes the ``numbers[key]`` units of least score of every set (the first of equal ones)."""
    kept = {}
    for key, n in numbers.items():
        if n > 0:
            kept[key] = scores[key].argsort(stable=True)[n:]
    return KeepPlan.of(units, kept)


def rounded(
    units: Units, numbers: Mapping[Key, int], filler: Filler, target: int | None, dense: Sequence[int], round_to: int
) -> dict[Key, int]:
    """Removals after which every layer keeps a multiple of ``round_to`` channels, or as many as it had (``dense``)."""
    now = {key: unit_set.n_units for key, unit_set in units.items()}
    whole = {key: dense[key[0] or 0] if key[1] == "ffn" else n for key, n in now.items()}
    kept = {key: n - numbers.get(key, 0) for key, n in now.items()}

    def size(found: Mapping[Key, int]) -> int:
        return filler.parameters({key: now[key] - n for key, n in found.items()})

    found = round_widths(kept, whole, size, size(kept) if target is None else target, round_to, now)
    return {key: now[key] - n for key, n in found.items()}


class Filler:
    """Shortens the last step, so that a model ends as close under its target as whole units allow.

    Parameters
    ----------
    model, units : as they are in front of the step.
    """

    def __init__(self, model: Any, units: Units) -> None:
        counter = Counter(model)
        self.now = counter().parameters
        self.cost: dict[Key, int] = {}
        for key, unit_set in units.items():
            if unit_set.n_units > 1:
                one = KeepPlan({key: tuple(range(1, unit_set.n_units))}, {key: unit_set.n_units})
                self.cost[key] = self.now - counter(one).parameters

    def parameters(self, numbers: Mapping[Key, int]) -> int:
        """The count after so many units of every set are gone (their matrices have no element in common)."""
        return self.now - sum(n * self.cost[key] for key, n in numbers.items() if n)

    def fill(
        self, before: Mapping[Key, int], whole: Mapping[Key, int], target: int, order: list[int]
    ) -> dict[Key, int]:
        """Of the removals ``whole`` (which meet ``target``) give back what the target leaves room for.

        Larger units first; among equal ones, layers in ``order`` take turns. ``before``: units that go in any case.
        """
        numbers = dict(whole)
        room = target - self.parameters(numbers)
        place = {layer: i for i, layer in enumerate(order)}
        costs = sorted({self.cost[key] for key, n in numbers.items() if n}, reverse=True)
        for cost in costs:
            same = [key for key, n in numbers.items() if n and self.cost[key] == cost]
            same.sort(key=lambda key: place[-1 if key[0] is None else key[0]])
            changed = True
            while changed and room >= cost:
                changed = False
                for key in same:
                    if room >= cost and numbers[key] > before.get(key, 0):
                        numbers[key] -= 1
                        room -= cost
                        changed = True
        return numbers
