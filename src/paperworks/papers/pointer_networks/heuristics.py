"""The heuristics of the paper's Table 2, and the baselines below them: points [n, d] or ``Cities`` in, a tour out.

A1 is greedy edge matching to an open path with three passes of 2-opt on it, closed at the end; A2 nearest neighbour
with 2-opt from every start; A3 Christofides' algorithm with 2-opt, the best of all its shortcuts.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from paperworks.errors import InputError
from paperworks.papers.pointer_networks.tours import (
    MOST_EXACT,
    Cities,
    Points,
    Tour,
    canonical_tour,
    distances,
    held_karp,
    or_opt,
    reverse,
    tour_length,
    two_opt,
    two_opt_passes,
)

A1_PASSES = 3


def greedy_edge(points: Points | Cities, passes: int = A1_PASSES) -> Tour:
    """A1: join the ends of paths by the shortest edges until one path is left, improve the path, close it.

    The closing edge takes no part in matching or improvement, which is what makes A1 weak on few cities.
    """
    n = len(points)
    if n <= 3:
        return np.arange(n, dtype=np.int64)
    d = distances(points)
    first, second = np.triu_indices(n, 1)
    by_length = np.argsort(d[first, second], kind="stable")
    return canonical_tour(_path_two_opt(d, _greedy_path(n, first[by_length], second[by_length]), passes))


@njit(cache=True, nogil=True)
def _greedy_path(n: int, first: Tour, second: Tour) -> Tour:
    """The path that the edges (first[k], second[k]), taken in order where they fit, make."""
    neighbour = np.full((n, 2), -1, np.int64)
    degree = np.zeros(n, np.int64)
    far_end = np.arange(n)  # of the path that a city is an end of
    for k in range(len(first)):
        i, j = first[k], second[k]
        if degree[i] < 2 and degree[j] < 2 and far_end[i] != j:
            neighbour[i, degree[i]] = j
            neighbour[j, degree[j]] = i
            degree[i] += 1
            degree[j] += 1
            a, b = far_end[i], far_end[j]
            far_end[a] = b
            far_end[b] = a
    path = np.empty(n, np.int64)
    city, before = 0, -1
    while degree[city] != 1:
        city += 1
    for position in range(n):
        path[position] = city
        after = neighbour[city, 0] if neighbour[city, 0] != before else neighbour[city, 1]
        before, city = city, after
    return path


@njit(cache=True, nogil=True)
def _path_two_opt(d: Points, path: Tour, passes: int) -> Tour:
    n = len(path)
    for _ in range(passes):
        changed = False
        for i in range(n - 3):
            for j in range(i + 2, n - 1):
                a, b, c, e = path[i], path[i + 1], path[j], path[j + 1]
                if d[a, c] + d[b, e] < d[a, b] + d[c, e] - 1e-12:
                    reverse(path, i + 1, j)
                    changed = True
        if not changed:
            break
    return path


def nearest_neighbour(points: Points | Cities, start: int = 0) -> Tour:
    """Go to the nearest city not yet seen, from ``start``."""
    if len(points) <= 3:
        return np.arange(len(points), dtype=np.int64)
    return canonical_tour(_nearest(distances(points), start))


@njit(cache=True, nogil=True)
def _nearest(d: Points, start: int) -> Tour:
    n = len(d)
    tour = np.empty(n, np.int64)
    seen = np.zeros(n, np.bool_)
    city = start
    for position in range(n):
        tour[position] = city
        seen[city] = True
        best, after = np.inf, -1
        for j in range(n):
            if not seen[j] and d[city, j] < best:
                best, after = d[city, j], j
        city = after
    return tour


def nearest_two_opt(points: Points | Cities, starts: int | None = None) -> Tour:
    """A2: nearest neighbour and 2-opt from the first ``starts`` cities (None: from every one); the shortest of them."""
    n = len(points)
    if n <= 3:
        return np.arange(n, dtype=np.int64)
    return canonical_tour(_nearest_two_opt(distances(points), n if starts is None else min(starts, n)))


@njit(cache=True, nogil=True)
def _nearest_two_opt(d: Points, starts: int) -> Tour:
    n = len(d)
    best, found = np.inf, np.empty(n, np.int64)
    endless: Any = np.int64(-1)  # no literal, for which the function would be compiled once more
    for start in range(starts):
        tour = two_opt_passes(d, _nearest(d, start), endless)
        length = 0.0
        for i in range(n):
            length += d[tour[i], tour[(i + 1) % n]]
        if length < best:
            best, found = length, tour
    return found


def christofides(points: Points | Cities, improve: bool = True) -> Tour:
    """A3: spanning tree, matching of its odd vertices, Euler circuit, shortcuts; at most 1.5 times the optimum.

    ``improve`` takes shortcuts from every start of the circuit, each improved by 2-opt, and keeps the shortest tour.
    """
    import networkx
    from scipy.sparse.csgraph import minimum_spanning_tree

    n = len(points)
    if n <= 3:
        return np.arange(n, dtype=np.int64)
    d = distances(points)
    # Lengths near 0 are no edges to scipy. The tree depends on the order of the lengths only: it is given their ranks.
    ranks = np.zeros((n, n))
    above = np.triu_indices(n, 1)
    ranks[above] = np.unique(d[above], return_inverse=True)[1] + 1
    tree = minimum_spanning_tree(ranks).tocoo()
    edges = list(zip(tree.row.tolist(), tree.col.tolist(), strict=True))
    odd = np.flatnonzero(np.bincount(np.array(edges).ravel(), minlength=n) % 2)
    graph = networkx.Graph()
    graph.add_weighted_edges_from((a, b, d[a, b]) for i, a in enumerate(odd.tolist()) for b in odd[i + 1 :].tolist())
    edges += [(int(a), int(b)) for a, b in networkx.min_weight_matching(graph)]
    circuit = _euler_circuit(n, edges)
    starts = range(len(circuit)) if improve else range(1)
    shortcuts = [np.array(list(dict.fromkeys(circuit[s:] + circuit[:s])), dtype=np.int64) for s in starts]
    tours = [two_opt_passes(d, t, -1) for t in shortcuts] if improve else shortcuts
    return canonical_tour(min(tours, key=lambda t: tour_length(points, t)))


def _euler_circuit(n: int, edges: list[tuple[int, int]]) -> list[int]:
    """Hierholzer's algorithm on a connected multigraph of even degrees; the last vertex is not repeated."""
    incident: list[list[tuple[int, int]]] = [[] for _ in range(n)]
    for number, (a, b) in enumerate(edges):
        incident[a].append((b, number))
        incident[b].append((a, number))
    used = [False] * len(edges)
    stack, circuit = [0], []
    while stack:
        while incident[stack[-1]] and used[incident[stack[-1]][-1][1]]:
            incident[stack[-1]].pop()
        if incident[stack[-1]]:
            city, number = incident[stack[-1]].pop()
            used[number] = True
            stack.append(city)
        else:
            circuit.append(stack.pop())
    return circuit[:-1]


def random_tour(points: Points | Cities, seed: int | np.random.Generator = 0) -> Tour:
    """A uniformly random tour: n * 0.5214 long on average for uniform points of the unit square."""
    return canonical_tour(np.random.default_rng(seed).permutation(len(points)))


def lin_kernighan(points: Points | Cities) -> Tour:
    """The tour of LKH (Helsgaun's Lin-Kernighan) through the package elkai, which is optional."""
    try:
        import elkai
    except ImportError:
        raise InputError("method", "lkh without elkai", "pip install elkai, or another method") from None
    n = len(points)
    if n <= 3:
        return np.arange(n, dtype=np.int64)
    d = distances(points)
    # LKH counts in integers.
    scaled = np.rint(d * (1e6 / max(float(d.max()), 1e-300))).astype(int)
    tour: Any = elkai.DistanceMatrix(scaled.tolist()).solve_tsp()
    return canonical_tour(np.array(tour[:-1], dtype=np.int64))


def reference_tour(points: Points | Cities) -> tuple[Tour, str]:
    """The best tour at hand and what it is: exact up to 12 cities; then LKH; without elkai, A2 with or-opt."""
    if len(points) <= min(12, MOST_EXACT):
        return held_karp(points), "optimum"
    try:
        return lin_kernighan(points), "LKH"
    except InputError:
        return canonical_tour(two_opt(points, or_opt(points, nearest_two_opt(points)))), "A2 with or-opt"


def mean_length(points: list[NDArray[np.float64]], tours: list[Any]) -> float:
    """Mean closed length of tours, one per instance."""
    return float(np.mean([tour_length(p, t) for p, t in zip(points, tours, strict=True)]))
