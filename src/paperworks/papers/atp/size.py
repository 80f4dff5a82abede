"""How many prunable parameters masks leave, as a function with a gradient."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import torch

from paperworks.errors import InputError
from paperworks.structure import Cost, KeepPlan, Units
from paperworks.structure.budgets import Counter
from paperworks.structure.plan import name_of
from paperworks.structure.units import Key

Masks = Mapping[Key, torch.Tensor]


class KeptSize:
    """The parameters of the layers' matrices (and biases) that are left under masks.

    A matrix [out, in] leaves |rows| |columns|, with |.| the sum of its masks after they are laid over its positions:
    for v1 in the paper's notation D |m_Q| + D |m_K| + D |m_V| + D |m_O| + 3 D |m_F| in each layer, for v2
    3 D |s1| + D |s2| + 2 |s3| |s4| + |s4| |s5| (where there are as many key as query heads).

    Parameters
    ----------
    model : without adapters.
    units : the sets that get masks.
    """

    def __init__(self, model: Any, units: Units) -> None:
        self.counter = Counter(model)
        self.dense: Cost = self.counter()
        self.units = units
        inner = self.counter._matrices()
        sides: dict[str, dict[int, list[tuple[Key, torch.Tensor]]]] = defaultdict(lambda: defaultdict(list))
        for key, unit_set in units.items():
            for piece in unit_set.slices:
                if piece.param in self.counter.shapes and piece.param in inner:
                    size = self.counter.shapes[piece.param][piece.axis]
                    sides[piece.param][piece.axis].append((key, piece.index.owner(size)))
        self._sides = {name: dict(axes) for name, axes in sides.items()}
        self._fixed = self.dense.prunable - sum(math.prod(self.counter.shapes[name]) for name in sides)

    def __call__(self, masks: Masks) -> torch.Tensor:
        """Prunable parameters that are left, a float64 scalar with a gradient to every mask [n_units]."""
        first = next(iter(masks.values()))
        total = torch.full((), float(self._fixed), dtype=torch.float64, device=first.device)
        for name, axes in self._sides.items():
            size = torch.ones((), dtype=torch.float64, device=first.device)
            for axis, length in enumerate(self.counter.shapes[name]):
                size = size * (self._laid(axes[axis], masks) if axis in axes else length)
            total = total + size
        return total

    @staticmethod
    def _laid(parts: list[tuple[Key, torch.Tensor]], masks: Masks) -> torch.Tensor:
        along: torch.Tensor | None = None
        for key, owner in parts:
            mask = masks[key].double()
            here = torch.cat([mask, mask.new_ones(1)])[owner.to(mask.device)]
            along = here if along is None else along * here
        assert along is not None
        return along.sum()

    def share(self, masks: Masks) -> torch.Tensor:
        """Of the dense model's prunable parameters."""
        return self(masks) / self.dense.prunable

    def least(self) -> int:
        """Parameters of the whole model with one unit left in every set."""
        kept = dict.fromkeys(self.units, (0,))
        return self.counter(KeepPlan(kept, {key: self.units[key].n_units for key in self.units})).parameters

    def check_target(self, target: int, field: str) -> None:
        """Raise InputError, with the least that can be reached, for a target that the units cannot meet."""
        if target >= self.dense.parameters:
            raise InputError(field, f"{target:,} parameters", f"fewer than the model has, {self.dense.parameters:,}")
        if target < self.least():
            raise InputError(field, f"{target:,} parameters", f"at least {self.least():,}: one unit in every mask")

    def unit_costs(self) -> dict[Key, int]:
        """What removing one unit of each set alone saves."""
        found = {}
        for key in self.units:
            n = self.units[key].n_units
            if n < 1:
                raise InputError(name_of(key), "no units", "at least one")
            left = self.counter(KeepPlan({key: tuple(range(1, n))}, {key: n})).parameters
            found[key] = self.dense.parameters - left
        return found
