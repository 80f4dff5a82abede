"""Index algebra: every position of every parameter axis is an atom, and operators say which atoms leave together.

An axis of a tensor inside the network carries an array of atom ids, one for each position, or None where nothing may be
removed from it (batch, time, space, sizes that the code fixes). Operators join atoms ("leave together or stay
together") or freeze them ("stay, for this reason"). Concatenation, splits, flattening, weight sharing and broadcasting
are then operations on arrays of ids. One call of connected components gives the smallest removable units.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Ids = NDArray[np.int64]
Axes = tuple[Ids | None, ...]

FIXED = 0
"""The atom of positions that always stay."""


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor inside the network.

    Attributes
    ----------
    shape : at the example inputs.
    axes : atom ids [shape[i]] of each axis, or None.
    zero : whether the positions that a plan removes along this axis hold zeros in the masked model.
    """

    shape: tuple[int, ...]
    axes: Axes
    zero: tuple[bool, ...]

    @classmethod
    def free(cls, shape: tuple[int, ...]) -> Value:
        """A tensor from which nothing is removed."""
        return cls(shape, (None,) * len(shape), (False,) * len(shape))

    @property
    def has_atoms(self) -> bool:
        return any(ids is not None for ids in self.axes)

    def with_zero(self, *, keep: bool) -> Value:
        """The same axes; without zeros unless ``keep``."""
        return self if keep else Value(self.shape, self.axes, (False,) * len(self.axes))


@dataclass(frozen=True)
class Family:
    """The atoms of one axis of one parameter or buffer: ``start`` to ``start + size``."""

    param: str
    axis: int
    start: int
    size: int
    buffer: bool


@dataclass(frozen=True)
class Reason:
    """Why atoms cannot be removed, in which module, and at which line of its code."""

    text: str
    module: str
    line: str = ""

    def __str__(self) -> str:
        where = f" (in {self.module or 'the model'}{f', {self.line}' if self.line else ''})"
        return self.text + where


@dataclass(eq=False)
class Components:
    """What is left of the atoms when all operators have spoken."""

    label: Ids
    """[atoms]: the number of the unit that an atom belongs to."""
    reasons: dict[int, Reason]
    """Units that cannot be removed, with the first reason that was given."""
    tags: dict[str, set[int]]
    touched: NDArray[np.bool_]
    """[atoms]: whether any operator joined or froze the atom."""


@dataclass(eq=False)
class Atoms:
    """All atoms of a model, and what operators said of them."""

    families: list[Family] = field(default_factory=list)
    count: int = 1
    _left: list[Ids] = field(default_factory=list)
    _right: list[Ids] = field(default_factory=list)
    _frozen: list[tuple[Ids, Reason]] = field(default_factory=list)
    _tags: list[tuple[Ids, str]] = field(default_factory=list)

    def allocate(self, param: str, shape: tuple[int, ...], *, buffer: bool) -> Value:
        """Fresh atoms for every axis of a parameter that is longer than 1."""
        axes: list[Ids | None] = []
        for axis, size in enumerate(shape):
            if size <= 1:
                axes.append(None)
                continue
            self.families.append(Family(param, axis, self.count, size, buffer))
            axes.append(np.arange(self.count, self.count + size, dtype=np.int64))
            self.count += size
        return Value(shape, tuple(axes), (True,) * len(shape))

    def join(self, left: Ids, right: Ids) -> None:
        """Position by position, the two leave together."""
        if left is not right:
            self._left.append(left.ravel())
            self._right.append(np.broadcast_to(right, left.shape).ravel())

    def freeze(self, ids: Ids | None, reason: Reason) -> None:
        """These stay."""
        if ids is not None:
            self._frozen.append((ids.ravel(), reason))

    def tag(self, ids: Ids | None, name: str) -> None:
        """Note something about the units that these atoms belong to."""
        if ids is not None:
            self._tags.append((ids.ravel(), name))

    def solve(self) -> Components:
        """Units: the connected components of everything that was joined."""
        empty = np.empty(0, dtype=np.int64)
        left = np.concatenate([empty, *self._left])
        right = np.concatenate([empty, *self._right])
        graph = coo_array((np.ones(len(left), dtype=np.int8), (left, right)), shape=(self.count, self.count))
        label = connected_components(graph, directed=False)[1].astype(np.int64)
        touched = np.zeros(self.count, dtype=np.bool_)
        touched[left] = touched[right] = True
        reasons: dict[int, Reason] = {}
        for ids, reason in self._frozen:
            touched[ids] = True
            for number in np.unique(label[ids]).tolist():
                reasons.setdefault(number, reason)
        fixed = int(label[FIXED])
        reasons.setdefault(fixed, Reason("goes together with positions that the code fixes", ""))
        tags: dict[str, set[int]] = {}
        for ids, name in self._tags:
            tags.setdefault(name, set()).update(np.unique(label[ids]).tolist())
        return Components(label, reasons, tags, touched)
