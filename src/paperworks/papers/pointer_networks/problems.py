"""The problems: what an instance must be, its exact solution, how outputs are decoded, and the paper's metrics."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paperworks.errors import InputError
from paperworks.papers.pointer_networks.decoding import Constraint
from paperworks.papers.pointer_networks.hulls import graham_scan, is_simple, polygon_area, same_polygon
from paperworks.papers.pointer_networks.instances import as_elements
from paperworks.papers.pointer_networks.tours import held_karp, is_tour, tour_length
from paperworks.papers.pointer_networks.triangulations import as_triangles, delaunay_triangles

Points = NDArray[np.float64]


class Problem(ABC):
    """One kind of instance and its solutions, which are lists of 0-based indices.

    Attributes
    ----------
    name : ``hull``, ``delaunay``, ``tsp`` or ``sequence``.
    constraint : what decoding may point at unless told otherwise (the paper constrains tours only).
    """

    name: str
    constraint: Constraint = None

    @abstractmethod
    def check(self, points: Any, field: str = "points") -> Points:
        """The instance as float64 [n, d]; InputError naming rows and what would be right."""

    def solve(self, points: Points) -> list[int]:
        """The exact solution."""
        raise InputError("method", f"exact for {self.name}", "a problem with an exact solver: hull, delaunay or tsp")

    def most_outputs(self, n: int) -> int:
        """How long a solution of n elements can be."""
        return n

    @abstractmethod
    def metrics(
        self, points: Sequence[Points], outputs: Sequence[Sequence[int]], solutions: Sequence[Sequence[int]]
    ) -> dict[str, float]:
        """Named means over the instances."""


class ConvexHull(Problem):
    """The hull's corners, counter-clockwise from the smallest index."""

    name = "hull"

    def check(self, points: Any, field: str = "points") -> Points:
        return plane_points(points, field, general=True)

    def solve(self, points: Points) -> list[int]:
        return graham_scan(points).tolist()

    def metrics(
        self, points: Sequence[Points], outputs: Sequence[Sequence[int]], solutions: Sequence[Sequence[int]]
    ) -> dict[str, float]:
        """``accuracy``: the right polygon, up to rotation and direction. ``simple``: outputs that are simple polygons.
        ``area``: mean share of the hull's area of those that are; the paper prints FAIL when ``simple`` < 0.99.
        """
        equal, simple, areas = 0, 0, []
        for p, output, solution in zip(points, outputs, solutions, strict=True):
            equal += same_polygon(p, list(output), list(solution))
            if is_simple(p[list(output)]):
                simple += 1
                areas.append(abs(polygon_area(p[list(output)])) / abs(polygon_area(p[list(solution)])))
        count = len(points)
        return {
            "accuracy": equal / count,
            "area": float(np.mean(areas)) if areas else float("nan"),
            "simple": simple / count,
        }


class Delaunay(Problem):
    """Triangles in increasing order of their indices, sorted by incentre, as one list of 3t indices."""

    name = "delaunay"

    def check(self, points: Any, field: str = "points") -> Points:
        return plane_points(points, field, general=True)

    def solve(self, points: Points) -> list[int]:
        return delaunay_triangles(points).ravel().tolist()

    def most_outputs(self, n: int) -> int:
        return 3 * max(2 * n - 5, 1)

    def metrics(
        self, points: Sequence[Points], outputs: Sequence[Sequence[int]], solutions: Sequence[Sequence[int]]
    ) -> dict[str, float]:
        """``accuracy``: the same set of triangles. ``coverage``: mean share of the true triangles that are there."""
        equal, coverage = 0, []
        for output, solution in zip(outputs, solutions, strict=True):
            found, true = as_triangles(list(output)), as_triangles(list(solution))
            equal += len(output) % 3 == 0 and len(output) // 3 == len(found) and found == true
            coverage.append(len(found & true) / len(true))
        return {"accuracy": equal / len(points), "coverage": float(np.mean(coverage))}


class TSP(Problem):
    """The cities in the order of a shortest closed tour from city 0."""

    name = "tsp"
    constraint: Constraint = "permutation"

    def check(self, points: Any, field: str = "points") -> Points:
        return plane_points(points, field, general=False)

    def solve(self, points: Points) -> list[int]:
        return held_karp(points).tolist()

    def metrics(
        self, points: Sequence[Points], outputs: Sequence[Sequence[int]], solutions: Sequence[Sequence[int]]
    ) -> dict[str, float]:
        """``length``: mean over the valid tours. ``valid``: their share. ``ratio``: mean of length / solution's."""
        valid = [is_tour(list(o), len(p)) for p, o in zip(points, outputs, strict=True)]
        kept = [
            (tour_length(p, list(o)), tour_length(p, list(s)))
            for p, o, s, ok in zip(points, outputs, solutions, valid, strict=True)
            if ok
        ]
        if not kept:
            return {"length": float("nan"), "valid": 0.0, "ratio": float("nan")}
        ours, reference = np.array(kept).T
        ratios = np.divide(ours, reference, out=np.ones_like(ours), where=reference > 0)
        return {"length": float(ours.mean()), "valid": float(np.mean(valid)), "ratio": float(ratios.mean())}


class Pointing(Problem):
    """Any problem whose solutions are lists of positions of the input, learned from examples alone."""

    name = "sequence"

    def __init__(self, constraint: Constraint = None, longest: float = 1.0, most: int = 1) -> None:
        self.constraint = constraint
        self.longest, self.most = longest, most

    @classmethod
    def of(cls, lengths: Sequence[int], sizes: Sequence[int], constraint: Constraint = None) -> Pointing:
        """The problem of solutions of some lengths for inputs of some sizes: it lets outputs become as long."""
        shares = [length / size for length, size in zip(lengths, sizes, strict=True)]
        return cls(constraint, max(1.0, *shares), max(1, *lengths))

    def check(self, points: Any, field: str = "points") -> Points:
        return as_elements(points, field)

    def most_outputs(self, n: int) -> int:
        """``longest`` times the number of elements, and ``most`` at least."""
        return max(self.most, round(self.longest * n))

    def metrics(
        self, points: Sequence[Points], outputs: Sequence[Sequence[int]], solutions: Sequence[Sequence[int]]
    ) -> dict[str, float]:
        """``accuracy``: outputs equal to the solution. ``positions``: mean share of its positions that agree."""
        equal = [list(o) == list(s) for o, s in zip(outputs, solutions, strict=True)]
        agree = [
            sum(a == b for a, b in zip(o, s, strict=False)) / max(len(o), len(s), 1)
            for o, s in zip(outputs, solutions, strict=True)
        ]
        return {"accuracy": float(np.mean(equal)), "positions": float(np.mean(agree))}


PROBLEMS: dict[str, Problem] = {p.name: p for p in (ConvexHull(), Delaunay(), TSP())}


def plane_points(points: Any, field: str, *, general: bool) -> Points:
    """Points in the plane, float64 [n, 2].

    ``general`` asks for what hulls and triangulations need: at least 3 points, no two equal, not all on one line.
    """
    array = as_elements(points, field)
    if array.shape[1] != 2:
        raise InputError(field, f"{array.shape[1]} columns", "2: x and y")
    if not general:
        return array
    if len(array) < 3:
        raise InputError(field, f"{len(array)} points", "at least 3")
    _, first, counts = np.unique(array, axis=0, return_index=True, return_counts=True)
    if len(first) < len(array):
        one = array[first[np.argmax(counts > 1)]]
        rows = (np.flatnonzero((array == one).all(axis=1)) + 1)[:2]
        raise InputError(field, f"the same point in rows {rows[0]} and {rows[1]}", "points that all differ")
    if all_on_one_line(array):
        raise InputError(field, f"{len(array)} points on one line", "at least one point off it")
    return array


def all_on_one_line(points: Points) -> bool:
    """Whether no triangle of the points has an area above rounding, relative to their extent."""
    centred = points - points.mean(axis=0)
    singular = np.linalg.svd(centred, compute_uv=False)
    return len(singular) < 2 or bool(singular[1] <= 1e-12 * singular[0])
