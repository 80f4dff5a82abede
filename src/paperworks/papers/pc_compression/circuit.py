"""Circuits of the user's own: built unit by unit, checked, and laid out along a variable tree.

Every product is split into binary ones, the part with more variables on the left, so that the leaves from left to right
are the order in which variables are coded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from paperworks.errors import InputError
from paperworks.papers.pc_compression import partial, plans
from paperworks.papers.pc_compression.codes import as_codes

INPUT, PRODUCT, SUM = 0, 1, 2


class CircuitBuilder:
    """Makes a circuit over ``n_variables`` variables of ``n_categories`` values each.

    ``inputs``, ``multiply`` and ``summate`` return unit numbers; ``build(root)`` checks the whole and returns it.
    """

    def __init__(self, n_variables: int, n_categories: int) -> None:
        if n_variables < 1 or n_categories < 1:
            raise InputError("circuit", f"{n_variables} variables, {n_categories} categories", "1 or more of each")
        self.n_variables, self.n_categories = n_variables, n_categories
        self._kinds: list[int] = []
        self._scopes: list[int] = []
        self._below: list[tuple[int, ...]] = []
        self._weights: list[np.ndarray] = []

    def inputs(self, variable: int, probabilities: Any) -> list[int]:
        """Input units over one variable, one per row of ``probabilities`` [n, C] (rows sum to 1)."""
        if not 0 <= variable < self.n_variables:
            raise InputError("variable", variable, f"0 to {self.n_variables - 1}")
        table = np.atleast_2d(np.asarray(probabilities, dtype=np.float64))
        if table.shape[1] != self.n_categories:
            raise InputError("probabilities", f"{table.shape[1]} of them", f"{self.n_categories}, one per category")
        _check_weights("probabilities", table)
        return [self._add(INPUT, 1 << variable, (), row) for row in table]

    def multiply(self, *units: int) -> int:
        """A product unit; the scopes of its parts must not overlap (decomposability)."""
        self._check_known(units, 2)
        scope = 0
        for unit in units:
            if scope & self._scopes[unit]:
                raise InputError("multiply", "parts that share a variable", "parts over different variables")
            scope |= self._scopes[unit]
        return self._add(PRODUCT, scope, tuple(units), np.empty(0))

    def summate(self, units: Sequence[int], weights: Any) -> int:
        """A sum unit with weights that sum to 1; all parts must have one scope (smoothness)."""
        self._check_known(units, 1)
        if len({self._scopes[unit] for unit in units}) > 1:
            raise InputError("summate", "parts over different variables", "parts over the same variables")
        theta = np.asarray(weights, dtype=np.float64)
        if theta.shape != (len(units),):
            raise InputError("weights", f"shape {theta.shape}", f"({len(units)},)")
        _check_weights("weights", theta[None])
        return self._add(SUM, self._scopes[units[0]], tuple(units), theta)

    def build(self, root: int) -> Circuit:
        """The circuit below ``root``. Raises InputError unless it is structured-decomposable over all variables."""
        self._check_known([root], 1)
        if self._scopes[root] != (1 << self.n_variables) - 1:
            raise InputError("root", "a unit over some of the variables", f"one over all {self.n_variables}")
        return _lay_out(self, root)

    def _add(self, kind: int, scope: int, below: tuple[int, ...], weights: np.ndarray) -> int:
        self._kinds.append(kind)
        self._scopes.append(scope)
        self._below.append(below)
        self._weights.append(weights)
        return len(self._kinds) - 1

    def _check_known(self, units: Sequence[int], least: int) -> None:
        if len(units) < least or any(not 0 <= unit < len(self._kinds) for unit in units):
            raise InputError("units", list(units), f"at least {least} of the units made so far")


def _check_weights(field: str, rows: np.ndarray) -> None:
    sums = rows.sum(1)
    if not (np.isfinite(rows).all() and (rows >= 0).all() and np.abs(sums - 1).max() < 1e-6):
        raise InputError(field, f"rows that sum to {sums.min():.6g} .. {sums.max():.6g}", "values >= 0 that sum to 1")


@dataclass(frozen=True)
class Circuit:
    """A smooth, structured-decomposable circuit. Made by ``CircuitBuilder`` or ``HCLT.circuit``.

    ``order`` [D] are the variables as they are coded. ``n_edges`` is |p|: weights of sums, two per binary product, and
    one per input unit.
    """

    n_variables: int
    n_categories: int
    plan: plans.Plan
    n_edges: int

    @property
    def order(self) -> np.ndarray:
        """The variables in the order in which they are coded."""
        return self.plan.order

    def score_samples(self, X: Any) -> np.ndarray:
        """log p(x) in nats, float64 [N]; missing values (-1, NaN, masked) are summed out. One full pass per row."""
        return partial.full_passes(self._codes(X), self.plan)

    def bpd(self, X: Any) -> float:
        """Bits per dimension: mean of -log2 p(x) / D."""
        return float(-self.score_samples(X).mean() / self.n_variables / np.log(2))

    def marginals_along_order(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """Log prefix marginals and log lows, float64 [N, D] each, by the partial evaluation.

        Entry i of the first is log P(x_o1 .. x_oi), of the second log P(x_o1 .. x_o(i-1), X_oi < x_oi), -inf where the
        symbol is the first one.
        """
        return partial.prefix_marginals(self._complete(X), self.plan)

    def evaluation_cost(self) -> int:
        """Edges that the D partial evaluations of one row visit together; compare with ``n_edges``."""
        return int(plans.path_edges(self.plan).sum())

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the units, their weights and their order."""
        digest = hashlib.sha256(b"circuit 1")
        for array in self.plan:
            kind = "<f8" if array.dtype == np.float64 else "<i8"
            digest.update(np.ascontiguousarray(array).astype(kind).tobytes())
        return digest.hexdigest()

    def _codes(self, X: Any) -> np.ndarray:
        return as_codes(X, self.n_categories, self.n_variables)[0]

    def _complete(self, X: Any) -> np.ndarray:
        codes = self._codes(X)
        if (codes == self.n_categories).any():
            raise InputError("X", "missing values", "complete rows")
        return codes


def _lay_out(builder: CircuitBuilder, root: int) -> Circuit:
    used = _reachable(builder, root)
    splits = _splits(builder, used)
    lowest = {scope: (scope & -scope).bit_length() - 1 for scope in _all_scopes(builder, used)}
    # Vtree nodes, children before parents; a product of m parts becomes m - 1 binary ones, the largest parts first.
    nodes: dict[int, int] = {}
    sides: list[tuple[int, int]] = []

    def node_of(scope: int) -> int:
        if scope in nodes:
            return nodes[scope]
        if scope.bit_count() == 1:
            nodes[scope] = len(sides)
            sides.append((-1, lowest[scope]))
            return nodes[scope]
        left = splits[scope][0]
        for part in splits[scope][1:]:
            both = left | part
            a, b = node_of(left), node_of(part)
            if both not in nodes:
                nodes[both] = len(sides)
                sides.append((a, b))
            elif sides[nodes[both]] != (a, b):
                raise _unstructured()
            left = both
        return nodes[scope]

    _deep(builder, used, node_of)
    top = nodes[builder._scopes[root]]
    seen: set[int] = set()
    _walk_sides(sides, top, seen)
    if len(seen) != len(sides):
        raise _unstructured()
    units = _binary_units(builder, used, nodes, splits)
    plan = plans.make_plan(
        units,
        sides,
        top,
        builder.n_categories,
        np.array([builder._weights[u] for u in used if builder._kinds[u] == INPUT]),
    )
    return Circuit(builder.n_variables, builder.n_categories, plan, int(plan.node_edges.sum()))


def _unstructured() -> InputError:
    return InputError(
        "circuit",
        "products that split their variables in ways that do not fit one tree",
        "a structured-decomposable circuit: one split for each set of variables",
    )


def _reachable(builder: CircuitBuilder, root: int) -> list[int]:
    seen, stack = {root}, [root]
    while stack:
        for unit in builder._below[stack.pop()]:
            if unit not in seen:
                seen.add(unit)
                stack.append(unit)
    return sorted(seen)  # units are numbered after their parts


def _all_scopes(builder: CircuitBuilder, used: Sequence[int]) -> set[int]:
    return {builder._scopes[u] for u in used}


def _splits(builder: CircuitBuilder, used: Sequence[int]) -> dict[int, list[int]]:
    """For the scope of every product its parts' scopes: most variables first, then the lowest variable."""
    found: dict[int, list[int]] = {}
    for unit in used:
        if builder._kinds[unit] != PRODUCT:
            continue
        scope = builder._scopes[unit]
        parts = sorted(
            (builder._scopes[u] for u in builder._below[unit]), key=lambda s: (-s.bit_count(), (s & -s).bit_length())
        )
        if found.setdefault(scope, parts) != parts:
            raise _unstructured()
    return found


def _deep(builder: CircuitBuilder, used: Sequence[int], node_of: Any) -> None:
    """Visit scopes from small to large, so that the recursion of ``node_of`` stays one level deep."""
    for scope in sorted(_all_scopes(builder, used), key=lambda s: (s.bit_count(), s)):
        node_of(scope)


def _walk_sides(sides: Sequence[tuple[int, int]], top: int, seen: set[int]) -> None:
    stack = [top]
    while stack:
        node = stack.pop()
        if node in seen:
            raise _unstructured()
        seen.add(node)
        if sides[node][0] >= 0:
            stack.extend(sides[node])


def _binary_units(
    builder: CircuitBuilder, used: Sequence[int], nodes: dict[int, int], splits: dict[int, list[int]]
) -> list[tuple[int, int, tuple[int, ...], np.ndarray]]:
    """Units as (kind, vtree node, parts, weights), parts before wholes."""
    units: list[tuple[int, int, tuple[int, ...], np.ndarray]] = []
    place: dict[int, int] = {}
    for unit in used:
        kind, scope = builder._kinds[unit], builder._scopes[unit]
        if kind == PRODUCT:
            by_scope = {builder._scopes[u]: place[u] for u in builder._below[unit]}
            left_scope = splits[scope][0]
            left = by_scope[left_scope]
            for part in splits[scope][1:]:
                left_scope |= part
                units.append((PRODUCT, nodes[left_scope], (left, by_scope[part]), np.empty(0)))
                left = len(units) - 1
        else:
            units.append((kind, nodes[scope], tuple(place[u] for u in builder._below[unit]), builder._weights[unit]))
        place[unit] = len(units) - 1
    return units
