"""Teaching sequences: few points that leave one function of the class."""

from __future__ import annotations

from typing import Any

import numpy as np

from paperworks.errors import InputError
from paperworks.papers.icl_discrete.functions import Formulas, Functions, Parities


def teaching_points(functions: Functions, *, monotone: bool) -> list[np.ndarray]:
    """The teaching sequence of every function, each int8 ``[t, n]``; labels come from the function itself.

    - Monotone conjunctions with relevant bits R, |R| + 1 points: R on and all else off; then the same with one bit of R
      off, for each.
    - Conjunctions, |R| + 2 points: the literals satisfied with the free bits all -1; the same with the free bits all
      +1; then the first point with one literal broken, for each (positive literals first).
    - DNF of monotone clauses: the sequences of its clauses, one after the other, all other bits -1. It leaves one
      function if no clause contains another.
    - Parities of k bits, k known, k points: for each, only that bit on.

    Raises InputError for a class that has no teaching sequence here.
    """
    if isinstance(functions, Parities):
        return [np.where(np.eye(s.size, dtype=bool)[s], 1, -1).astype(np.int8) for s in functions.selected]
    if isinstance(functions, Formulas) and functions.kind == "dnf":
        if monotone:
            return [np.concatenate([_monotone(clause) for clause in weights]) for weights in functions.weights]
        if functions.weights.shape[1] == 1:
            return [_general(weights[0]) for weights in functions.weights]
    raise InputError("functions", type(functions).__name__, "conjunctions, DNF of monotone clauses, or parities")


def _monotone(clause: np.ndarray) -> np.ndarray:
    if (clause < 0).any():
        raise InputError("functions", "a negated literal", "monotone clauses")
    relevant = np.flatnonzero(clause)
    base = np.where(clause > 0, 1, -1).astype(np.int8)
    return np.stack([base, *(_flipped(base, bit) for bit in relevant)])


def _general(clause: np.ndarray) -> np.ndarray:
    low = np.where(clause == 0, -1, clause).astype(np.int8)
    high = np.where(clause == 0, 1, clause).astype(np.int8)
    order = [*np.flatnonzero(clause > 0), *np.flatnonzero(clause < 0)]
    return np.stack([low, high, *(_flipped(low, bit) for bit in order)])


def _flipped(point: np.ndarray, bit: Any) -> np.ndarray:
    other = point.copy()
    other[bit] = -other[bit]
    return other
