"""Boolean functions, many at once: labelled in one call, readable one by one.

Inputs are bits -1 and +1 (int8), labels are -1 and +1 (int8). Every class below holds B functions of n bits; item ``i``
is a single ``BooleanFunction`` that prints as a formula and labels new inputs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import numpy as np

from paperworks.errors import InputError

Bits = np.ndarray
"""int8 of -1 and +1."""


class Functions(ABC):
    """B functions of n bits."""

    n_dims: int

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def labels(self, xs: Bits) -> Bits:
        """Labels int8 ``[B, m]`` of inputs int8 ``[B, m, n]``: row b by function b."""

    @abstractmethod
    def take(self, rows: np.ndarray) -> Functions:
        """The functions of those rows (with repetition)."""

    @abstractmethod
    def describe(self, row: int) -> str:
        """One function in readable form; bits are counted from 0."""

    def __getitem__(self, row: int) -> BooleanFunction:
        if not -len(self) <= row < len(self):
            raise IndexError(row)
        return BooleanFunction(self.take(np.array([row % len(self)])))


class BooleanFunction:
    """One function: ``str(f)`` is its formula, ``f(x)`` labels inputs of -1 and +1."""

    def __init__(self, only: Functions) -> None:
        if len(only) != 1:
            raise InputError("functions", f"{len(only)} functions", "one")
        self.functions = only
        self.n_dims = only.n_dims

    def __call__(self, x: np.ndarray) -> Bits:
        """Labels int8 of inputs ``[..., n]`` of -1 and +1."""
        bits = np.asarray(x)
        if bits.ndim < 1 or bits.shape[-1] != self.n_dims:
            raise InputError("x", f"inputs of shape {bits.shape}", f"a last axis of {self.n_dims} bits")
        if not np.isin(bits, (-1, 1)).all():
            raise InputError("x", f"{bits[~np.isin(bits, (-1, 1))][0]}", "bits of -1 and +1")
        flat = bits.reshape(1, -1, self.n_dims).astype(np.int8)
        return self.functions.labels(flat)[0].reshape(bits.shape[:-1])

    def __str__(self) -> str:
        return self.functions.describe(0)

    def __repr__(self) -> str:
        return f"BooleanFunction({self})"


def _literals(weights: np.ndarray) -> list[str]:
    return [("" if w > 0 else "~") + f"x{i}" for i, w in enumerate(weights) if w]


@dataclass(frozen=True, eq=False)
class Formulas(Functions):
    """Conjunctions and disjunctions of literals, and formulas of such clauses.

    ``weights`` int8 ``[B, C, n]``: +1 the bit itself, -1 its negation, 0 absent. ``kind`` "dnf" is an OR of C
    conjunctions, "cnf" an AND of C disjunctions; a conjunction is a DNF of one clause. An empty conjunction is true, an
    empty disjunction false.
    """

    weights: np.ndarray
    kind: Literal["dnf", "cnf"]

    @property
    def n_dims(self) -> int:  # type: ignore[override]
        return self.weights.shape[2]

    @property
    def sizes(self) -> np.ndarray:
        """Literals per clause, int64 ``[B, C]``."""
        return np.abs(self.weights.astype(np.int64)).sum(2)

    def __len__(self) -> int:
        return len(self.weights)

    def labels(self, xs: Bits) -> Bits:
        # agreeing minus disagreeing literals: |w| when all hold, -|w| when none does
        balance = np.matmul(xs.astype(np.float32), self.weights.astype(np.float32).transpose(0, 2, 1))
        sizes = self.sizes[:, None, :]
        truth = (balance >= sizes).any(2) if self.kind == "dnf" else (balance > -sizes).all(2)
        return np.where(truth, 1, -1).astype(np.int8)

    def take(self, rows: np.ndarray) -> Formulas:
        return Formulas(self.weights[rows], self.kind)

    def describe(self, row: int) -> str:
        inner, outer, empty = (" & ", " | ", "true") if self.kind == "dnf" else (" | ", " & ", "false")
        clauses = [inner.join(_literals(w)) or empty for w in self.weights[row]]
        if len(clauses) == 1:
            return clauses[0]
        return outer.join(f"({c})" if inner in c else c for c in clauses)


@dataclass(frozen=True, eq=False)
class Thresholds(Functions):
    """Halfspaces ``sign(w . x - b)``: ``weights`` float64 ``[B, n]``, ``biases`` float64 ``[B]``.

    The tasks draw weights and biases so that ``w . x - b`` is never zero.
    """

    weights: np.ndarray
    biases: np.ndarray

    @property
    def n_dims(self) -> int:  # type: ignore[override]
        return self.weights.shape[1]

    def __len__(self) -> int:
        return len(self.weights)

    def labels(self, xs: Bits) -> Bits:
        values = np.matmul(xs.astype(np.float64), self.weights[:, :, None])[..., 0] - self.biases[:, None]
        return np.where(values > 0, 1, -1).astype(np.int8)

    def take(self, rows: np.ndarray) -> Thresholds:
        return Thresholds(self.weights[rows], self.biases[rows])

    def describe(self, row: int) -> str:
        terms = []
        for i, w in enumerate(self.weights[row]):
            if w:
                size = "" if abs(w) == 1 else f"{abs(w):.4g} "
                terms.append(("- " if w < 0 else "+ ") + f"{size}x{i}")
        left = " ".join(terms).removeprefix("+ ") or "0"
        return f"{left} > {self.biases[row]:.4g}"


@dataclass(frozen=True, eq=False)
class Parities(Functions):
    """+1 where the number of ones (bits of +1) among the selected is odd: ``selected`` bool ``[B, n]``."""

    selected: np.ndarray

    @property
    def n_dims(self) -> int:  # type: ignore[override]
        return self.selected.shape[1]

    def __len__(self) -> int:
        return len(self.selected)

    def labels(self, xs: Bits) -> Bits:
        ones = ((xs > 0) & self.selected[:, None, :]).sum(2)
        return np.where(ones % 2 == 1, 1, -1).astype(np.int8)

    def take(self, rows: np.ndarray) -> Parities:
        return Parities(self.selected[rows])

    def describe(self, row: int) -> str:
        return " ^ ".join(f"x{i}" for i in np.flatnonzero(self.selected[row])) or "false"


@dataclass(frozen=True, eq=False)
class NearestNeighbours(Functions):
    """The label of the most similar earlier point; ``points`` int8 ``[B, m, n]`` and ``point_labels`` ``[B, m]``.

    Ties go to the earliest point. New inputs are labelled one by one from these points, not from each other.
    """

    points: np.ndarray
    point_labels: np.ndarray

    @property
    def n_dims(self) -> int:  # type: ignore[override]
        return self.points.shape[2]

    def __len__(self) -> int:
        return len(self.points)

    def labels(self, xs: Bits) -> Bits:
        similarity = np.matmul(xs.astype(np.float32), self.points.astype(np.float32).transpose(0, 2, 1))
        return np.take_along_axis(self.point_labels, similarity.argmax(2), 1)

    def take(self, rows: np.ndarray) -> NearestNeighbours:
        return NearestNeighbours(self.points[rows], self.point_labels[rows])

    def describe(self, row: int) -> str:
        return f"nearest of {self.points.shape[1]} labelled points"


def nearest_neighbour_labels(xs: Bits, first: Bits) -> Bits:
    """Label prompts by the nearest-neighbour rule.

    Parameters
    ----------
    xs : int8 ``[B, m, n]``.
    first : proposed labels of the first s points, int8 ``[B, s]``; a point equal to an earlier one takes its label.

    Returns
    -------
    int8 ``[B, m]``. From position s on a point has the label of the most similar earlier point, the earliest of ties;
    those labelled by the rule may be neighbours in turn.
    """
    batch, points, n_dims = xs.shape
    start = first.shape[1]
    ys = np.zeros((batch, points), np.int8)
    ys[:, :start] = first
    wide = xs.astype(np.float32)
    similarity = np.matmul(wide, wide.transpose(0, 2, 1))  # whole numbers: no rounding is needed for ties
    rows = np.arange(batch)
    for j in range(1, points):
        nearest = similarity[:, j, :j].argmax(1)
        copied = ys[rows, nearest]
        if j < start:
            ys[:, j] = np.where(similarity[rows, j, nearest] == n_dims, copied, ys[:, j])
        else:
            ys[:, j] = copied
    return ys


@dataclass(frozen=True, eq=False)
class Joined(Functions):
    """Functions of several classes in a row."""

    parts: tuple[Functions, ...]

    @property
    def n_dims(self) -> int:  # type: ignore[override]
        return self.parts[0].n_dims

    def __len__(self) -> int:
        return sum(len(part) for part in self.parts)

    def labels(self, xs: Bits) -> Bits:
        borders = np.cumsum([len(part) for part in self.parts])[:-1]
        pieces = zip(self.parts, np.split(xs, borders), strict=True)
        return np.concatenate([part.labels(piece) for part, piece in pieces])

    def _place(self, row: int) -> tuple[Functions, int]:
        for part in self.parts:
            if row < len(part):
                return part, row
            row -= len(part)
        raise IndexError(row)

    def take(self, rows: np.ndarray) -> Joined:
        places = [self._place(int(row)) for row in rows]
        return Joined(tuple(part.take(np.array([row])) for part, row in places))

    def describe(self, row: int) -> str:
        part, place = self._place(row)
        return part.describe(place)
