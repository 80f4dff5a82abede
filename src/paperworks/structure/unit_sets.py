"""Lists of positions: which entries of which parameters a unit has, and where a mask over it acts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import torch

from paperworks.errors import InputError

Side = Literal["out", "in", "both"]
Key = tuple[int | None, str]
"""(layer, kind); the layer is None for units of the whole model."""


@dataclass(frozen=True, eq=False)
class IndexMap:
    """Positions of every unit along an axis: ``table`` int64 [n_units, m], filled up with -1 where a unit has fewer."""

    table: torch.Tensor

    @property
    def n_units(self) -> int:
        return len(self.table)

    def positions(self, ids: Iterable[int] | torch.Tensor | None = None) -> torch.Tensor:
        """Positions of the units ``ids`` (None: of all), ascending, int64."""
        rows = self.table
        if ids is not None:
            rows = rows[torch.as_tensor(ids if isinstance(ids, torch.Tensor) else list(ids), dtype=torch.int64)]
        flat = rows.flatten()
        return flat[flat >= 0].sort().values

    def reduce(self, scores: torch.Tensor) -> torch.Tensor:
        """Sum of ``scores`` [size of the axis] over the positions of each unit: [n_units]."""
        table = self.table.to(scores.device)
        return torch.where(table >= 0, scores[table.clamp(min=0)], scores.new_zeros(())).sum(1)

    def owner(self, size: int) -> torch.Tensor:
        """The unit of every position of an axis of ``size``, int64 [size]; ``n_units`` where there is none."""
        owner = torch.full((size + 1,), self.n_units, dtype=torch.int64)
        owner[self.table] = torch.arange(self.n_units)[:, None].expand_as(self.table)
        return owner[:size]

    def __str__(self) -> str:
        head, n = self.table[0].tolist() if len(self.table) else [], self.n_units
        if len(head) == 1:
            return "u" if head == [0] else f"u + {head[0]}"
        shown = ", ".join(map(str, head[:4])) + (", ..." if len(head) > 4 else "")
        return f"{len(head)} positions ({shown} for u = 0 of {n})"


@dataclass(frozen=True)
class Slice:
    """One member of a kind: ``param`` (full name in the base model), its ``axis``, and where its units lie along it.

    ``outer``: an axis in front of ``axis`` (the experts) together with which it is counted: position
    e * shape[axis] + i is (e, i). None: ``axis`` alone.
    """

    param: str
    axis: int
    index: IndexMap
    outer: int | None = None

    @property
    def module(self) -> str:
        return self.param.rpartition(".")[0]

    def __str__(self) -> str:
        return f"{self.param}, axis {self.axis}: {self.index}"


@dataclass(frozen=True)
class Gate:
    """Where a mask over the units acts in the forward: on the outputs or the inputs of a module."""

    module: str
    side: Literal["out", "in"]
    index: IndexMap


@dataclass(frozen=True)
class UnitSet:
    """The units of one kind in one layer (or, with layer None, in the model)."""

    layer: int | None
    kind: str
    n_units: int
    slices: tuple[Slice, ...]
    gates: tuple[Gate, ...] = ()
    groups: int = 1
    """``q_head``, ``expert_channel``: the units form so many groups (key-value heads, experts) of equal size."""
    least: int = 0
    """Fewest units that can be kept: ``expert``, as many as a token goes to."""
    couplings: tuple[Gate, ...] = ()
    """Where else a mask acts: in front of a norm over all heads together, whose statistics a dropped head leaves."""

    @property
    def key(self) -> Key:
        return self.layer, self.kind

    def __str__(self) -> str:
        where = "model" if self.layer is None else f"layer {self.layer}"
        return "\n".join([f"{self.kind} of {where}: {self.n_units} units", *(f"  {s}" for s in self.slices)])


class Units(Mapping[Key, UnitSet]):
    """All unit sets of a model as it is now, by (layer, kind)."""

    def __init__(self, sets: Iterable[UnitSet]) -> None:
        self._sets = {s.key: s for s in sets}

    def __getitem__(self, key: Key) -> UnitSet:
        try:
            return self._sets[key]
        except KeyError:
            kinds = sorted({kind for _, kind in self._sets})
            layers = sorted({layer for layer, _ in self._sets if layer is not None})
            raise InputError("units", key, f"(layer, kind) with a layer of {layers} and a kind of {kinds}") from None

    def __iter__(self) -> Iterator[Key]:
        return iter(self._sets)

    def __len__(self) -> int:
        return len(self._sets)

    def __contains__(self, key: object) -> bool:
        return key in self._sets

    def __str__(self) -> str:
        return "\n".join(map(str, self._sets.values()))
