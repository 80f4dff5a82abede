"""Hulls, polygons and triangulations against Qhull, definitions and counting."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import ConvexHull as Qhull

from paperworks.errors import InputError
from paperworks.papers.pointer_networks.generators import make_delaunay, make_hull
from paperworks.papers.pointer_networks.hulls import graham_scan, is_simple, polygon_area, same_polygon
from paperworks.papers.pointer_networks.problems import PROBLEMS, plane_points
from paperworks.papers.pointer_networks.triangulations import as_triangles, delaunay_triangles

grid = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=3, max_size=14, unique=True)


def cross(a, b, c):
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


@given(grid)
@settings(max_examples=150, deadline=None)
def test_hull_on_a_grid_with_many_collinear_points(points):
    p = np.array(points, dtype=float)
    if all(cross(p[0], p[1], c) == 0 for c in p):
        with pytest.raises(InputError, match="on one line"):
            plane_points(p, "points", general=True)
        return
    hull = graham_scan(p).tolist()
    assert hull[0] == min(hull)
    k = len(hull)
    for i in range(k):
        a, b, c = p[hull[i]], p[hull[(i + 1) % k]], p[hull[(i + 2) % k]]
        assert cross(a, b, c) > 0  # strictly convex, counter-clockwise
        assert all(cross(a, b, q) >= 0 for q in p)


def test_hull_is_qhulls():
    for points, solution in make_hull((3, 40), 200, seed=1):
        qhull = Qhull(points).vertices.tolist()
        start = qhull.index(min(qhull))
        assert solution == qhull[start:] + qhull[:start]


def test_hull_targets_do_not_see_padding():
    instances = make_hull((3, 9), 50, seed=2)
    for row in range(50):
        points, solution = instances[row]
        assert solution == graham_scan(points).tolist()
        codes = instances.targets[row]
        assert codes[len(solution)] == 0
        assert (codes[len(solution) + 1 :] == -100).all()


@given(grid)
@settings(max_examples=150, deadline=None)
def test_simple_polygons_by_exact_segment_tests(points):
    p = np.array(points, dtype=float)
    assert is_simple(p) == _simple_by_definition(points)


def _simple_by_definition(corners):
    """No two edges share a point other than the corner between neighbours; in exact arithmetic, point by point."""
    k = len(corners)
    for i, j in combinations(range(k), 2):
        a, b, c, d = corners[i], corners[(i + 1) % k], corners[j], corners[(j + 1) % k]
        shared = _shared_points(a, b, c, d)
        if j == i + 1:
            allowed = {b}
        elif i == 0 and j == k - 1:
            allowed = {a}
        else:
            allowed = set()
        if shared is None or not shared <= allowed:
            return False
    return True


def _shared_points(a, b, c, d):
    """The points that two segments share: a set, or None where there are infinitely many."""
    r, s = (b[0] - a[0], b[1] - a[1]), (d[0] - c[0], d[1] - c[1])
    det = r[0] * s[1] - r[1] * s[0]
    if det == 0:
        if cross(a, b, c) != 0:
            return set()
        axis = 0 if r[0] else 1
        low, high = max(min(a[axis], b[axis]), min(c[axis], d[axis])), min(max(a[axis], b[axis]), max(c[axis], d[axis]))
        if low > high:
            return set()
        return {q for q in (a, b, c, d) if q[axis] == low} if low == high else None
    t = Fraction((c[0] - a[0]) * s[1] - (c[1] - a[1]) * s[0], det)
    u = Fraction((c[0] - a[0]) * r[1] - (c[1] - a[1]) * r[0], det)
    if 0 <= t <= 1 and 0 <= u <= 1:
        return {(a[0] + t * r[0], a[1] + t * r[1])}
    return set()


def test_same_polygon_up_to_rotation_direction_and_straight_corners():
    p = np.array([[0, 0], [1, 0], [2, 0], [2, 2], [0, 2], [1, 1]], dtype=float)
    square = [0, 2, 3, 4]
    assert same_polygon(p, [3, 4, 0, 2], square)
    assert same_polygon(p, [2, 0, 4, 3], square)
    assert same_polygon(p, [0, 1, 2, 3, 4], square)  # 1 lies on an edge
    assert not same_polygon(p, [0, 2, 3], square)
    assert not same_polygon(p, [0, 3, 2, 4], square)  # crosses itself
    assert not same_polygon(p, [0, 2, 3, 4, 5], square)
    assert not same_polygon(p, [], square)
    assert polygon_area(p[square]) == 4
    assert polygon_area(p[square[::-1]]) == -4


def test_hull_metrics():
    p = np.array([[0, 0], [2, 0], [2, 2], [0, 2], [1, 1.0]])
    found = PROBLEMS["hull"].metrics([p] * 3, [[2, 3, 0, 1], [0, 1, 2], [0, 2, 1, 3]], [[0, 1, 2, 3]] * 3)
    assert found == {"accuracy": pytest.approx(1 / 3), "area": pytest.approx(0.75), "simple": pytest.approx(2 / 3)}


def test_delaunay_triangles_are_delaunay_and_complete():
    for points, solution in make_delaunay((3, 12), 60, seed=3):
        triangles = np.array(solution).reshape(-1, 3)
        assert len(triangles) == 2 * len(points) - 2 - len(graham_scan(points))
        assert (np.diff(triangles, axis=1) > 0).all()
        hull = points[graham_scan(points)]
        assert sum(abs(polygon_area(points[t])) for t in triangles) == pytest.approx(polygon_area(hull))
        for t in triangles:  # nothing inside a circumcircle
            a, b, c = points[t] if polygon_area(points[t]) > 0 else points[t[::-1]]
            for q in np.delete(points, t, axis=0):
                rows = [[*(v - q), ((v - q) ** 2).sum()] for v in (a, b, c)]
                assert np.linalg.det(rows) < 1e-12
        centres = [_incentre(points[t]) for t in triangles]
        assert centres == sorted(centres)


def _incentre(t):
    sides = [np.linalg.norm(t[1] - t[2]), np.linalg.norm(t[2] - t[0]), np.linalg.norm(t[0] - t[1])]
    return tuple(np.average(t, axis=0, weights=sides))


def test_triangle_metrics():
    assert as_triangles([2, 1, 0, 3, 3, 1, 5]) == {(0, 1, 2)}
    metrics = PROBLEMS["delaunay"].metrics
    p = np.zeros((4, 2))
    assert metrics([p], [[3, 1, 0, 2, 1, 0]], [[0, 1, 2, 0, 1, 3]]) == {"accuracy": 1, "coverage": 1}
    assert metrics([p], [[0, 1, 2]], [[0, 1, 2, 0, 1, 3]]) == {"accuracy": 0, "coverage": 0.5}
    assert metrics([p], [[0, 1, 2, 0, 1, 3, 0, 1, 2]], [[0, 1, 2, 0, 1, 3]])["accuracy"] == 0  # one twice


@pytest.mark.parametrize(
    ("points", "words"),
    [
        ([[0, 0], [1, 1]], "2 points"),
        ([[0, 0], [1, 0], [0, 1], [1, 0]], "rows 2 and 4"),
        ([[0.1, 0.1], [0.2, 0.2], [0.3, 0.3], [0.7, 0.7]], "on one line"),
        ([[0, 0], [1, float("nan")], [1, 1]], "row 2"),
        ([[0, 0], [1, float("inf")], [1, 1]], "row 2"),
        ([[0, 0, 1], [1, 1, 1], [2, 1, 1]], "3 columns"),
        ([0, 1, 2], "shape"),
        ([["a", "b"]], "no table of numbers"),
        ([[0, 0], [1]], "no table of numbers"),
    ],
)
def test_bad_points_are_named(points, words):
    for problem in ("hull", "delaunay"):
        with pytest.raises(InputError, match=words):
            PROBLEMS[problem].check(points)


def test_points_that_nearly_coincide():
    with pytest.raises(InputError, match="near"):
        delaunay_triangles(np.array([[0, 0], [1, 0], [0, 1], [1e-18, 0]]))
