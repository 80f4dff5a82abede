"""What a plan costs: polynomials in the numbers of kept units, exact for parameters and multiply-accumulates."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from paperworks.structure.plan import KeepPlan
from paperworks.structure.trace.algebra import Ids
from paperworks.structure.trace.groups import Solved, TracedGroup
from paperworks.structure.trace.walk import Work
from paperworks.structure.units import Key

Length = tuple[tuple[int, tuple[Key, ...]], ...]
"""A length that depends on a plan: positions, with the groups that they are units of."""


@dataclass(frozen=True)
class TracedCost:
    """Counts of a model.

    Attributes
    ----------
    parameters : all of them, tied ones once.
    macs : multiply-accumulates of one forward of the example inputs: linear, convolution, products of activations.
        FLOPs by the usual convention are twice as many.
    """

    parameters: int
    macs: int


@dataclass(frozen=True)
class Polynomial:
    """A sum of products of lengths. Each length is a sum over positions of the shares of units that are kept."""

    terms: tuple[tuple[float, tuple[Length, ...]], ...]

    def __call__(self, shares: Mapping[Key, Any]) -> Any:
        """The value when ``shares[group]`` of its units are kept (1 where it is missing): numbers or torch scalars."""
        total: Any = 0
        for factor, lengths in self.terms:
            product: Any = factor
            for length in lengths:
                size: Any = 0
                for positions, keys in length:
                    part: Any = positions
                    for key in keys:
                        part = part * shares.get(key, 1.0)
                    size = size + part
                product = product * size
            total = total + product
        return total


@dataclass(frozen=True)
class CostModel:
    """Parameters and multiply-accumulates of a traced model under any plan, in microseconds to milliseconds."""

    parameters: Polynomial
    macs: Polynomial
    per_operator: tuple[tuple[str, str, Polynomial], ...]
    """(module, operator, multiply-accumulates) of every node that has any."""

    def __call__(self, plan: KeepPlan | None = None) -> TracedCost:
        """The counts after ``plan`` (None: now)."""
        shares = {} if plan is None else {k: len(v) / plan.sizes[k] for k, v in plan.kept.items() if plan.sizes[k]}
        return TracedCost(round(self.parameters(shares)), round(self.macs(shares)))


def cost_model(solved: list[Solved], groups: list[TracedGroup]) -> CostModel:
    """The polynomials of a model, from both walks over its graph."""
    keys = [group.key for group in groups]
    first = solved[0].walk
    weights = []
    for name, value in first.values.items():
        if name in first.captured.buffers:
            continue
        axes = [solved_value.walk.values[name].axes for solved_value in solved]
        lengths = [_length(solved, [a[i] for a in axes], size, keys) for i, size in enumerate(value.shape)]
        weights.append(_term(lengths))
    unused = first.captured.unused_parameters
    parameters = Polynomial((*weights, *(((float(unused), ()),) if unused else ())))
    operators = []
    nodes: list[list[Work]] = [s.walk.works for s in solved]
    for works in zip(*nodes, strict=True):
        lengths = []
        for place in range(len(works[0].factors)):
            factors = [work.factors[place] for work in works]
            size = next((len(f) for f in factors if not isinstance(f, int)), factors[0])
            assert isinstance(size, int)
            lengths.append(_length(solved, [None if isinstance(f, int) else f for f in factors], size, keys))
        operators.append((works[0].module, works[0].operator, Polynomial((_term(lengths),))))
    macs = Polynomial(tuple(term for _, _, polynomial in operators for term in polynomial.terms))
    return CostModel(parameters, macs, tuple(operators))


def _length(solved: list[Solved], axes: list[Ids | None], size: int, keys: list[Key]) -> Length:
    columns = [np.full(size, -1) if ids is None else s.groups_at(ids) for s, ids in zip(solved, axes, strict=True)]
    if not size:
        return ((0, ()),)
    rows, counts = np.unique(np.stack(columns, 1), axis=0, return_counts=True)
    made = []
    for row, positions in zip(rows.tolist(), counts.tolist(), strict=True):
        made.append((positions, tuple(keys[g] for g in sorted({int(g) for g in row if g >= 0}))))
    return tuple(made)


def _term(lengths: list[Length]) -> tuple[float, tuple[Length, ...]]:
    constant = [length for length in lengths if all(not keys for _, keys in length)]
    rest = tuple(length for length in lengths if any(keys for _, keys in length))
    return float(math.prod(sum(n for n, _ in length) for length in constant)), rest
