"""Loops over the nodes of a tree, compiled by numba. Nodes stand in breadth-first order: a parent before its children.

Moments of a weighted set seen from a node: S0 = sum p, S1 = sum p d, S2 = sum p d^2. Over an edge of length e they
become S0, S1 + e S0 and S2 + 2 e S1 + e^2 S0. One pass up and one pass down give S2, the Frechet variance, at every
node.
"""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(cache=True)
def descend(parent: np.ndarray, length: np.ndarray, depth: np.ndarray) -> None:
    """Distance of every node from the root, into ``depth`` float64 ``[n]``."""
    for at in range(1, len(parent)):
        depth[at] = depth[parent[at]] + length[at]


@numba.njit(cache=True)
def sum_upwards(parent: np.ndarray, values: np.ndarray) -> None:
    """Add to every node's value those of all nodes below it, in place."""
    for at in range(len(parent) - 1, 0, -1):
        values[parent[at]] += values[at]


@numba.njit(cache=True)
def tree_rows(
    parent: np.ndarray, length: np.ndarray, sources: np.ndarray, targets: np.ndarray, out: np.ndarray
) -> None:
    """Distances from each source node to the target nodes, into ``out`` float64 ``[sources, targets]``."""
    n = len(parent)
    row = np.empty(n)
    for i in range(len(sources)):
        row[:] = -1.0
        at = sources[i]
        row[at] = 0.0
        while at > 0:
            row[parent[at]] = row[at] + length[at]
            at = parent[at]
        for at in range(1, n):
            if row[at] < 0:
                row[at] = row[parent[at]] + length[at]
        for j in range(len(targets)):
            out[i, j] = row[targets[j]]


@numba.njit(cache=True, parallel=True)
def reroot(
    parent: np.ndarray, length: np.ndarray, nodes: np.ndarray, weights: np.ndarray, width: int, out: np.ndarray
) -> None:
    """Frechet variances at every node, into ``out`` float64 ``[n, B]``.

    ``nodes`` int64 ``[K]`` carry ``weights`` float64 ``[K, B]``. ``width`` columns are worked on at a time by a thread.
    """
    batch = weights.shape[1]
    for block in numba.prange((batch + width - 1) // width):
        low = block * width
        _reroot_columns(parent, length, nodes, weights, low, min(batch, low + width), out)


@numba.njit
def _reroot_columns(
    parent: np.ndarray, length: np.ndarray, nodes: np.ndarray, weights: np.ndarray, low: int, high: int, out: np.ndarray
) -> None:
    """``reroot`` for the columns from ``low`` to ``high``; what is inside ``prange`` compiles slowly."""
    n = len(parent)
    b = high - low
    s0, s1 = np.zeros((n, b)), np.zeros((n, b))
    s2 = np.zeros((n, b))
    for k in range(len(nodes)):
        for j in range(b):
            s0[nodes[k], j] += weights[k, low + j]
    for at in range(n - 1, 0, -1):
        up, e = parent[at], length[at]
        for j in range(b):
            s0[up, j] += s0[at, j]
            s1[up, j] += s1[at, j] + e * s0[at, j]
            s2[up, j] += s2[at, j] + e * (2 * s1[at, j] + e * s0[at, j])
    for j in range(b):
        out[0, low + j] = s2[0, j]
    for at in range(1, n):
        up, e = parent[at], length[at]
        for j in range(b):
            # what lies outside of this node's subtree, seen from the parent, then over the edge
            below1 = s1[at, j] + e * s0[at, j]
            below2 = s2[at, j] + e * (2 * s1[at, j] + e * s0[at, j])
            o0 = s0[0, j] - s0[at, j]
            o1 = s1[up, j] - below1
            o2 = s2[up, j] - below2
            s1[at, j] += o1 + e * o0
            s2[at, j] += o2 + e * (2 * o1 + e * o0)
            out[at, low + j] = s2[at, j]


@numba.njit(cache=True, parallel=True)
def argmin_on_paths(
    parent: np.ndarray,
    length: np.ndarray,
    start: np.ndarray,
    path: np.ndarray,
    position: np.ndarray,
    place: np.ndarray,
    weights: np.ndarray,
    best: np.ndarray,
    value: np.ndarray,
) -> None:
    """The node of least Frechet variance of each column of weights, among the nodes between those that carry weight.

    The tree is the one of the observed labels with every chain of inner nodes made one edge: M nodes, ``parent`` and
    ``length`` as usual. Edge k, above node k, runs over the original nodes ``path[start[k]:start[k + 1]]``, from node k
    up to its parent, both included, at the distances ``position`` from node k. Along it the variance is
    A t^2 + 2 B t + C, strictly convex: its least node is one of the two beside t = -B / A.

    Parameters
    ----------
    place : int64 ``[K]``, the node of each observed label in the small tree.
    weights : float64 ``[K, B]``.
    best, value : int64 and float64 ``[B, 2]``, written: the least node (original number) and its variance, and the
        second least among its candidates (-1 where there is none).
    """
    for b in numba.prange(weights.shape[1]):
        _least_on_paths(parent, length, start, path, position, place, weights[:, b], best[b], value[b])


@numba.njit
def _least_on_paths(
    parent: np.ndarray,
    length: np.ndarray,
    start: np.ndarray,
    path: np.ndarray,
    position: np.ndarray,
    place: np.ndarray,
    weights: np.ndarray,
    best: np.ndarray,
    value: np.ndarray,
) -> None:
    """``argmin_on_paths`` for one column of weights, ``[K]``; ``best`` and ``value`` ``[2]``."""
    m = len(parent)
    s0, s1, s2 = np.zeros(m), np.zeros(m), np.zeros(m)
    for k in range(len(place)):
        s0[place[k]] += weights[k]
    for at in range(m - 1, 0, -1):
        up, e = parent[at], length[at]
        s0[up] += s0[at]
        s1[up] += s1[at] + e * s0[at]
        s2[up] += s2[at] + e * (2 * s1[at] + e * s0[at])
    total = s0[0]
    first, second = np.inf, np.inf
    node1, node2 = path[start[0]], -1
    first = s2[0]
    for at in range(1, m):
        up, e = parent[at], length[at]
        below1 = s1[at] + e * s0[at]
        below2 = s2[at] + e * (2 * s1[at] + e * s0[at])
        o0, o1, o2 = total - s0[at], s1[up] - below1, s2[up] - below2
        # seen from the point at distance t above this node: (below at t) + (outside at e - t)
        a = total
        half_b = s1[at] - (o1 + e * o0)
        c = s2[at] + o2 + e * (2 * o1 + e * o0)
        s1[at] += o1 + e * o0
        s2[at] = c
        low, high = start[at], start[at + 1] - 1
        if a > 0:
            t = -half_b / a
            i, j = low, high
            while i < j:  # the first position of at least t
                middle = (i + j) // 2
                if position[middle] < t:
                    i = middle + 1
                else:
                    j = middle
            for candidate in range(max(low, i - 1), min(high, i + 1) + 1):
                t = position[candidate]
                v = c + t * (2 * half_b + a * t)
                node = path[candidate]
                if node == node1:
                    first = min(first, v)
                elif v < first:
                    second, node2 = first, node1
                    first, node1 = v, node
                elif node != node2 and v < second:
                    second, node2 = v, node
    best[0], best[1] = node1, node2
    value[0], value[1] = first, second


@numba.njit(cache=True)
def compress(
    parent: np.ndarray, depth: np.ndarray, key: np.ndarray, inside: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The small tree of ``argmin_on_paths``: key nodes only, with the original nodes along each edge.

    Parameters
    ----------
    key : bool ``[n]``, the nodes that stay; the first of them is above all others.
    inside : bool ``[n]``, the nodes between the observed ones, key nodes included.

    Returns
    -------
    small parent and length, start, path and position (see ``argmin_on_paths``).
    """
    nodes = np.flatnonzero(key)
    m = len(nodes)
    number = np.full(len(parent), -1)
    for k in range(m):
        number[nodes[k]] = k
    small, length, start = np.full(m, -1), np.zeros(m), np.zeros(m + 1, dtype=np.int64)
    size = 1
    for k in range(1, m):  # every edge repeats its upper end
        at = nodes[k]
        size += 2
        while not key[parent[at]]:
            at = parent[at]
            size += 1
    path, position = np.empty(size, dtype=np.int64), np.zeros(size)
    path[0] = nodes[0]
    filled = 1
    start[1] = 1
    for k in range(1, m):
        at = nodes[k]
        path[filled] = at
        filled += 1
        while True:
            at = parent[at]
            path[filled] = at
            position[filled] = depth[nodes[k]] - depth[at]
            filled += 1
            if key[at]:
                break
        small[k] = number[at]
        length[k] = depth[nodes[k]] - depth[at]
        start[k + 1] = filled
    return small, length, start, path, position


@numba.njit(cache=True)
def nearest_marked(parent: np.ndarray, length: np.ndarray, found: np.ndarray) -> None:
    """Distance of every node from the nearest node that holds 0; the others hold infinity at first."""
    for at in range(len(parent) - 1, 0, -1):
        found[parent[at]] = min(found[parent[at]], found[at] + length[at])
    for at in range(1, len(parent)):
        found[at] = min(found[at], found[parent[at]] + length[at])
