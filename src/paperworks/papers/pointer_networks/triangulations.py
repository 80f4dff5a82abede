"""Delaunay triangulations in the order in which the network learns to name their triangles."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import Delaunay, QhullError

from paperworks.errors import InputError

Points = NDArray[np.float64]
Triangles = NDArray[np.int64]


def delaunay_triangles(points: Points) -> Triangles:
    """The Delaunay triangles, int64 [t, 3]: each in increasing order, sorted by their incentres (x, then y).

    ``points`` is float64 [n, 2], without duplicates and not all on one line. Where four or more points share a circle
    the triangulation is not unique, and this is one of them. t = 2n - 2 - (points on the boundary).
    """
    try:
        found = Delaunay(points)
    except QhullError as error:
        raise InputError("points", str(error).splitlines()[0], "points in general position") from None
    if len(found.coplanar):
        raise InputError(
            "points",
            f"rows {found.coplanar[0, 0] + 1} and {found.coplanar[0, 2] + 1} too near each other",
            "points that floating-point numbers can tell apart",
        )
    triangles = np.sort(found.simplices.astype(np.int64), axis=1)
    return triangles[incentre_order(points, triangles)]


def incentre_order(points: Points, triangles: Triangles) -> NDArray[np.int64]:
    """The order of triangles [t, 3] by incentre, x first."""
    a, b, c = (points[triangles[:, k]] for k in range(3))
    sides = [np.linalg.norm(q - r, axis=1)[:, None] for q, r in ((b, c), (c, a), (a, b))]
    centre = (sides[0] * a + sides[1] * b + sides[2] * c) / (sides[0] + sides[1] + sides[2])
    return np.lexsort((centre[:, 1], centre[:, 0]))


def as_triangles(output: list[int]) -> set[tuple[int, int, int]]:
    """The distinct triangles that an output names; triples with a repeated index and a rest are left out."""
    triples = (sorted(output[i : i + 3]) for i in range(0, len(output) - 2, 3))
    return {(t[0], t[1], t[2]) for t in triples if len(set(t)) == 3}
