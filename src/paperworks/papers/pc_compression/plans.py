"""The order and paths of the partial evaluation: what has to be evaluated again for each variable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numba
import numpy as np

INPUT, PRODUCT, SUM = 0, 1, 2
LIFT = 2.0**200


class Plan(NamedTuple):
    """A circuit as flat arrays. Units are sorted by tree node, parts before wholes.

    ``starts`` [nodes + 1]: units of a node. ``kinds``, ``first``, ``second`` [units]: a product's two parts (left,
    right), the range of a sum's edges, an input's row in ``cumulative``. ``edges``, ``weights``: parts and weights of
    sums. ``left``, ``right`` [nodes]: sides of a tree node, -1 and the variable for a leaf. ``order`` [D], ``paths``
    and ``path_starts``: per coded variable the tree nodes of its path, leaf first. ``outer`` [units]: probability that
    reaches a unit from other tree nodes, top-down. ``cumulative`` [inputs, C + 1]: P(X < a). ``node_edges``: edges
    evaluated at a tree node.
    """

    starts: np.ndarray
    kinds: np.ndarray
    first: np.ndarray
    second: np.ndarray
    edges: np.ndarray
    weights: np.ndarray
    left: np.ndarray
    right: np.ndarray
    order: np.ndarray
    paths: np.ndarray
    path_starts: np.ndarray
    outer: np.ndarray
    cumulative: np.ndarray
    probabilities: np.ndarray
    node_edges: np.ndarray


def make_plan(
    units: Sequence[tuple[int, int, tuple[int, ...], np.ndarray]],
    sides: Sequence[tuple[int, int]],
    top: int,
    n_categories: int,
    tables: np.ndarray,
) -> Plan:
    """Lay out units given as (kind, tree node, parts, weights), parts before wholes; the last one is the root."""
    ranks = sorted(range(len(units)), key=lambda u: (units[u][1], u))
    place = np.empty(len(units), dtype=np.int64)
    place[ranks] = np.arange(len(units))
    input_rows = {u: i for i, u in enumerate(u for u in range(len(units)) if units[u][0] == INPUT)}
    kinds = np.array([units[u][0] for u in ranks], dtype=np.int64)
    first = np.zeros(len(units), dtype=np.int64)
    second = np.zeros(len(units), dtype=np.int64)
    edges: list[int] = []
    weights: list[np.ndarray] = []
    node_edges = np.zeros(len(sides), dtype=np.int64)
    for u in ranks:
        kind, node, below, theta = units[u]
        here = place[u]
        if kind == INPUT:
            first[here] = input_rows[u]
            node_edges[node] += 1
        elif kind == PRODUCT:
            in_left = units[below[0]][1] == sides[node][0]
            first[here], second[here] = place[list(below if in_left else below[::-1])]
            node_edges[node] += 2
        else:
            first[here] = len(edges)
            edges.extend(place[list(below)].tolist())
            second[here] = len(edges)
            weights.append(theta)
            node_edges[node] += len(below)
    counts = np.bincount([unit[1] for unit in units], minlength=len(sides))
    starts = np.concatenate([[0], np.cumsum(counts)])
    order, paths, path_starts = variable_order(sides, top)
    cumulative, probabilities = _tables(tables)
    flat = _normalised(np.concatenate(weights) if weights else np.empty(0), kinds, first, second)
    edge_array = np.array(edges, dtype=np.int64)
    outer = _outer(starts, kinds, first, second, edge_array, flat, int(place[-1]))
    left = np.array([side[0] for side in sides], dtype=np.int64)
    right = np.array([side[1] for side in sides], dtype=np.int64)
    return Plan(
        starts,
        kinds,
        first,
        second,
        edge_array,
        flat,
        left,
        right,
        order,
        paths,
        path_starts,
        outer,
        cumulative,
        probabilities,
        node_edges,
    )


def variable_order(sides: Sequence[tuple[int, int]], top: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Order of the leaves from left to right, and the path of each: up to the first node on the leftmost branch.

    The first variable of the order lies at the leftmost leaf, so only nodes of the leftmost branch include it.
    """
    above = np.full(len(sides), -1, dtype=np.int64)
    leaves: list[int] = []
    stack = [top]
    while stack:
        node = stack.pop()
        left, right = sides[node]
        if left < 0:
            leaves.append(node)
        else:
            above[left] = above[right] = node
            stack += [right, left]
    spine, node = {top}, top
    while sides[node][0] >= 0:
        node = sides[node][0]
        spine.add(node)
    paths: list[int] = []
    starts = [0]
    for leaf in leaves:
        node = leaf
        paths.append(node)
        while node not in spine:
            node = int(above[node])
            paths.append(node)
        starts.append(len(paths))
    order = np.array([sides[leaf][1] for leaf in leaves], dtype=np.int64)
    return order, np.array(paths, dtype=np.int64), np.array(starts, dtype=np.int64)


@numba.njit(cache=True)
def _tables(tables):  # pragma: no cover - compiled
    n, c = tables.shape
    left = np.zeros((n, c + 1))
    probabilities = np.empty((n, c))
    for i in range(n):
        for a in range(c):
            left[i, a + 1] = left[i, a] + tables[i, a]
        total = left[i, c]
        for a in range(c):
            probabilities[i, a] = tables[i, a] / total
            left[i, a] = left[i, a] / total
        left[i, c] = 1.0
    return left, probabilities


@numba.njit(cache=True)
def _normalised(weights, kinds, first, second):  # pragma: no cover - compiled
    result = weights.copy()
    for u in range(len(kinds)):
        if kinds[u] == SUM:
            total = 0.0
            for e in range(first[u], second[u]):
                total += weights[e]
            for e in range(first[u], second[u]):
                result[e] = weights[e] / total
    return result


@numba.njit(cache=True)
def _outer(starts, kinds, first, second, edges, weights, root):  # pragma: no cover - compiled
    """Top-down probability that arrives at each unit from units of other tree nodes (1 at the root)."""
    n = len(kinds)
    node = np.empty(n, dtype=np.int64)
    for v in range(len(starts) - 1):
        node[starts[v] : starts[v + 1]] = v
    reached = np.zeros(n)
    outer = np.zeros(n)
    reached[root] = 1.0
    outer[root] = 1.0
    for u in range(n - 1, -1, -1):
        if kinds[u] == PRODUCT:
            for part in (first[u], second[u]):
                reached[part] += reached[u]
                outer[part] += reached[u]
        elif kinds[u] == SUM:
            for e in range(first[u], second[u]):
                reached[edges[e]] += reached[u] * weights[e]
                if node[edges[e]] != node[u]:
                    outer[edges[e]] += reached[u] * weights[e]
    return outer


def path_edges(plan: Plan) -> np.ndarray:
    """Edges that the partial evaluation visits for each variable of the order, [D]."""
    sums = np.concatenate([[0], np.cumsum(plan.node_edges[plan.paths])])
    return np.diff(sums[plan.path_starts])
