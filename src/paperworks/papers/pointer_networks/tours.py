"""Tours of points in the plane: the exact optimum, the improvements, and what a tour is worth.

A tour is an int64 array with every index 0 .. n - 1 once; the way back to its first city is understood.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from paperworks.errors import InputError

Points = NDArray[np.float64]
Tour = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Cities:
    """Cities whose distances are given. Everything here and in ``heuristics`` takes them in place of points.

    Attributes
    ----------
    points : where a network sees them, float64 [n, 2].
    matrix : symmetric distances, float64 [n, n].
    """

    points: Points
    matrix: Points

    def __len__(self) -> int:
        return len(self.points)


MOST_EXACT = 22
"""Held-Karp needs 2^(n-1) (n-1) 8 bytes: 352 MB at 22 cities."""

RANDOM_EDGE = 0.5214054331647207
"""Mean distance of two uniform points of the unit square: (2 + sqrt(2) + 5 asinh(1)) / 15."""


def distances(points: Points | Cities) -> Points:
    """Euclidean distances [n, n] of points [n, d]; those that cities have."""
    if isinstance(points, Cities):
        return points.matrix
    return np.sqrt(((points[:, None] - points[None]) ** 2).sum(-1))


def tour_length(points: Points | Cities, tour: Tour | list[int]) -> float:
    """Length of the closed tour."""
    if isinstance(points, Cities):
        return float(points.matrix[np.asarray(tour), np.roll(np.asarray(tour), -1)].sum())
    ordered = points[np.asarray(tour)]
    return float(np.sqrt(((ordered - np.roll(ordered, -1, axis=0)) ** 2).sum(-1)).sum())


def is_tour(tour: list[int] | Tour, n: int) -> bool:
    """Whether every index from 0 to n - 1 is there exactly once."""
    return len(tour) == n and sorted(tour) == list(range(n))


@njit(cache=True, nogil=True)
def canonical_tour(tour: Tour) -> Tour:
    """The same tour from city 0, in the direction whose second city has the smaller index."""
    n = len(tour)
    start = 0
    for i in range(n):
        if tour[i] == 0:
            start = i
    turned = np.empty(n, np.int64)
    forward = n < 3 or tour[(start + 1) % n] < tour[start - 1]
    for i in range(n):
        turned[i] = tour[(start + i) % n] if forward else tour[start - i]
    return turned


@njit(cache=True, nogil=True)
def reverse(tour: Tour, left: int, right: int) -> None:
    """Turn the part from ``left`` to ``right``, both included, round in place."""
    while left < right:
        city = tour[left]
        tour[left] = tour[right]
        tour[right] = city
        left += 1
        right -= 1


@njit(cache=True, nogil=True)
def counter_clockwise(points: Points, tour: Tour) -> Tour:
    """The same tour from city 0, round its area in the direction in which hulls run; without area, canonical.

    This is the direction of the tours that networks learn. They see it in every step, where the smaller neighbour must
    be worked out from the places in the input.
    """
    n = len(tour)
    turned = canonical_tour(tour)
    area = 0.0
    for i in range(n):
        a, b = turned[i], turned[(i + 1) % n]
        area += points[a, 0] * points[b, 1] - points[b, 0] * points[a, 1]
    if area < 0:
        reverse(turned, 1, n - 1)
    return turned


@njit(cache=True, nogil=True)
def _distances(points: Points) -> Points:
    n = len(points)
    found = np.zeros((n, n))
    for i in range(n):
        for j in range(i):
            total = 0.0
            for k in range(points.shape[1]):
                total += (points[i, k] - points[j, k]) ** 2
            found[i, j] = found[j, i] = np.sqrt(total)
    return found


@njit(cache=True, nogil=True)
def _held_karp(d: Points, cost: Points) -> Tour:
    """cost[S, j]: shortest path from city 0 through the set S of cities 1 .. n-1 (bits) that ends in j of S."""
    n = len(d)
    m = n - 1
    full = (1 << m) - 1
    for subset in range(1, full + 1):
        for j in range(m):
            if not subset >> j & 1:
                continue
            rest = subset ^ (1 << j)
            if rest == 0:
                cost[subset, j] = d[0, j + 1]
                continue
            best = np.inf
            for k in range(m):
                if rest >> k & 1:
                    through = cost[rest, k] + d[k + 1, j + 1]
                    if through < best:
                        best = through
            cost[subset, j] = best
    tour = np.zeros(n, np.int64)
    subset, after = full, 0
    for position in range(n - 1, 0, -1):
        best, city = np.inf, -1
        for j in range(m):
            if subset >> j & 1 and cost[subset, j] + d[j + 1, after] < best:
                best, city = cost[subset, j] + d[j + 1, after], j
        tour[position] = city + 1
        subset ^= 1 << city
        after = city + 1
    return canonical_tour(tour)


def held_karp(points: Points | Cities) -> Tour:
    """A shortest tour (Held and Karp 1962), O(2^n n^2) time; canonical (from city 0, smaller neighbour first).

    Raises InputError above 22 points.
    """
    n = len(points)
    if n > MOST_EXACT:
        memory = 2 ** (n - 1) * (n - 1) * 8 / 2**30
        raise InputError("points", f"{n} points, which need {memory:.1f} GiB", f"at most {MOST_EXACT} for exact tours")
    if n <= 3:
        return np.arange(n, dtype=np.int64)
    return _held_karp(distances(points), np.empty((1 << (n - 1), n - 1)))


@njit(cache=True, nogil=True)
def held_karp_targets(points: NDArray[np.float64], lengths: Tour) -> Tour:
    """Pointer codes [N, nmax + 1] of padded instances [N, nmax, 2]: shortest tours 1-based, 0 to stop, -100 after.

    Tours run counter-clockwise from city 0.
    """
    most = lengths.max()
    targets = np.full((len(points), points.shape[1] + 1), -100, np.int64)
    cost = np.empty((1 << (most - 1), most - 1))
    for row in range(len(points)):
        n = lengths[row]
        tour = _held_karp(_distances(points[row, :n]), cost) if n > 3 else np.arange(n)
        turned = counter_clockwise(points[row], tour)
        for i in range(n):
            targets[row, i] = turned[i] + 1
        targets[row, n] = 0
    return targets


def two_opt(points: Points | Cities, tour: Tour | list[int], *, passes: int | None = None) -> Tour:
    """Reverse parts of the tour while one reversal makes it shorter (Croes 1958).

    ``passes`` bounds the sweeps over all pairs; None goes on to a local optimum. Never longer than the tour it got.
    """
    order = np.array(tour, dtype=np.int64)
    if len(order) < 4:
        return order
    return two_opt_passes(distances(points), order, -1 if passes is None else passes)


@njit(cache=True, nogil=True)
def two_opt_passes(d: Points, tour: Tour, passes: int) -> Tour:
    n = len(tour)
    sweep = 0
    improved = True
    while improved and sweep != passes:
        improved = False
        sweep += 1
        for i in range(n - 2):
            for j in range(i + 2, n - (i == 0)):
                a, b, c, e = tour[i], tour[i + 1], tour[j], tour[(j + 1) % n]
                if d[a, c] + d[b, e] < d[a, b] + d[c, e] - 1e-12:
                    reverse(tour, i + 1, j)
                    improved = True
    return tour


def or_opt(points: Points | Cities, tour: Tour | list[int]) -> Tour:
    """Move runs of up to 3 cities elsewhere, either way round, while that makes the tour shorter."""
    order = np.array(tour, dtype=np.int64)
    if len(order) < 4:
        return order
    return _or_opt(distances(points), order)


@njit(cache=True, nogil=True)
def _or_opt(d: Points, tour: Tour) -> Tour:
    n = len(tour)
    improved = True
    while improved:
        improved = False
        for size in range(1, min(4, n - 1)):
            for _ in range(n):
                # The run is always tour[1 : 1 + size]; the tour turns by one city so that each run has its turn.
                place, turned = _better_place(d, tour, size)
                if place >= 0:
                    # Moving a run along is reversing it and what it passes, and then each of the two by itself.
                    reverse(tour, 1, place)
                    reverse(tour, 1, place - size)
                    if not turned:
                        reverse(tour, place - size + 1, place)
                    improved = True
                reverse(tour, 1, n - 1)
                reverse(tour, 0, n - 1)
    return tour


@njit(cache=True, nogil=True)
def _better_place(d: Points, tour: Tour, size: int) -> tuple[int, bool]:
    """After which position the run tour[1 : 1 + size] is best put, and whether turned round; -1 to leave it."""
    n = len(tour)
    before, first, last, after = tour[0], tour[1], tour[size], tour[size + 1]
    gain = d[before, first] + d[last, after] - d[before, after]
    best, place, turned = 1e-12, -1, False
    for j in range(size + 1, n):
        a, b = tour[j], tour[(j + 1) % n]
        forward = gain - (d[a, first] + d[last, b] - d[a, b])
        backward = gain - (d[a, last] + d[first, b] - d[a, b])
        if forward > best:
            best, place, turned = forward, j, False
        if backward > best:
            best, place, turned = backward, j, True
    return place, turned
