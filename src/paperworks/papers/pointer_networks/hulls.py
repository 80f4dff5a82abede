"""Convex hulls and polygons in the plane: the exact hull, areas, and what makes two polygons one."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Points = NDArray[np.float64]
Indices = NDArray[np.int64]


@njit(cache=True, nogil=True)
def _cross(ax: float, ay: float, bx: float, by: float, cx: float, cy: float) -> float:
    return (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)


def graham_scan(points: Points) -> Indices:
    """The hull's vertices, counter-clockwise from the smallest index: Graham's scan in Andrew's order, O(n log n).

    ``points`` is float64 [n, 2], without duplicates and not all on one line. A point on an edge is no vertex.
    """
    return _scan(points, np.lexsort((points[:, 1], points[:, 0])))


@njit(cache=True, nogil=True)
def _scan(points: Points, order: Indices) -> Indices:
    """Along the points in lexicographic order and back, dropping every corner that does not turn left."""
    n = len(order)
    chain = np.empty(2 * n, np.int64)
    size, floor = 0, 1
    for position in range(2 * n - 1):
        j = order[position] if position < n else order[2 * n - 2 - position]
        if position == n:
            floor = size
        while size > floor:
            a, b = chain[size - 2], chain[size - 1]
            turn = _cross(points[a, 0], points[a, 1], points[b, 0], points[b, 1], points[j, 0], points[j, 1])
            if turn > 0:
                break
            size -= 1
        chain[size] = j
        size += 1
    size -= 1  # the last point of the way back is the first one
    first = 0
    for i in range(size):
        if chain[i] < chain[first]:
            first = i
    hull = np.empty(size, np.int64)
    for i in range(size):
        hull[i] = chain[(first + i) % size]
    return hull


def hull_targets(points: Points, lengths: Indices) -> Indices:
    """Pointer codes [N, nmax + 1] of padded instances [N, nmax, 2]: hull 1-based, 0 to stop, -100 after it."""
    padded = np.where((np.arange(points.shape[1]) < lengths[:, None])[..., None], points, np.inf)
    return _hull_targets(points, lengths, np.lexsort((padded[..., 1], padded[..., 0]), axis=-1))


@njit(cache=True, nogil=True)
def _hull_targets(points: Points, lengths: Indices, orders: Indices) -> Indices:
    targets = np.full((len(points), points.shape[1] + 1), -100, np.int64)
    for row in range(len(points)):
        hull = _scan(points[row], orders[row, : lengths[row]])
        for i in range(len(hull)):
            targets[row, i] = hull[i] + 1
        targets[row, len(hull)] = 0
    return targets


def polygon_area(corners: Points) -> float:
    """Signed area (shoelace formula) of a polygon [k, 2]; positive when counter-clockwise."""
    x, y = corners[:, 0], corners[:, 1]
    return float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2


def is_simple(corners: Points) -> bool:
    """Whether a polygon [k, 2] has at least 3 distinct corners and no two of its edges meet but at shared corners."""
    k = len(corners)
    if k < 3 or len(np.unique(corners, axis=0)) < k:
        return False
    return _no_edges_meet(np.ascontiguousarray(corners, dtype=np.float64))


@njit(cache=True, nogil=True)
def _no_edges_meet(p: Points) -> bool:
    k = len(p)
    for i in range(k):
        a, b = p[i], p[(i + 1) % k]
        after = p[(i + 2) % k]
        straight = _cross(a[0], a[1], b[0], b[1], after[0], after[1]) == 0
        if straight and (b[0] - a[0]) * (after[0] - b[0]) + (b[1] - a[1]) * (after[1] - b[1]) < 0:
            return False  # the next edge runs back over this one
        for j in range(i + 2, k):
            if i == 0 and j == k - 1:
                continue
            c, d = p[j], p[(j + 1) % k]
            if _meet(a, b, c, d):
                return False
    return True


@njit(cache=True, nogil=True)
def _meet(a: Points, b: Points, c: Points, d: Points) -> bool:
    d1 = _cross(a[0], a[1], b[0], b[1], c[0], c[1])
    d2 = _cross(a[0], a[1], b[0], b[1], d[0], d[1])
    d3 = _cross(c[0], c[1], d[0], d[1], a[0], a[1])
    d4 = _cross(c[0], c[1], d[0], d[1], b[0], b[1])
    if ((d1 > 0) != (d2 > 0)) and d1 != 0 and d2 != 0 and ((d3 > 0) != (d4 > 0)) and d3 != 0 and d4 != 0:
        return True
    return (
        (d1 == 0 and _between(a, b, c))
        or (d2 == 0 and _between(a, b, d))
        or (d3 == 0 and _between(c, d, a))
        or (d4 == 0 and _between(c, d, b))
    )


@njit(cache=True, nogil=True)
def _between(a: Points, b: Points, p: Points) -> bool:
    inside_x = min(a[0], b[0]) <= p[0] <= max(a[0], b[0])
    return inside_x and min(a[1], b[1]) <= p[1] <= max(a[1], b[1])


def without_straight_corners(points: Points, cycle: list[int]) -> list[int]:
    """The cycle without corners that lie on the line between their neighbours (exactly)."""
    kept = list(cycle)
    position = 0
    while len(kept) >= 3 and position < len(kept):
        a, b, c = points[kept[position - 1]], points[kept[position]], points[kept[(position + 1) % len(kept)]]
        if (b[0] - a[0]) * (c[1] - a[1]) == (b[1] - a[1]) * (c[0] - a[0]):
            del kept[position]
            position = max(position - 1, 0)
        else:
            position += 1
    return kept


def same_polygon(points: Points, one: list[int], other: list[int]) -> bool:
    """Whether two cycles of indices are one polygon: up to rotation, direction and corners on straight edges."""
    if not is_simple(points[one]) or not is_simple(points[other]):
        return False
    a, b = without_straight_corners(points, one), without_straight_corners(points, other)
    return _canonical(a) == _canonical(b)


def _canonical(cycle: list[int]) -> list[int]:
    """Rotated to the smallest index, in the direction whose second index is the smaller one."""
    start = cycle.index(min(cycle))
    turned = cycle[start:] + cycle[:start]
    return turned if turned[1] < turned[-1] else [turned[0], *turned[:0:-1]]
