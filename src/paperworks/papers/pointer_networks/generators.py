"""Random instances, uniform in the unit square, with exact or heuristic solutions: the paper's data by definition."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from paperworks.errors import InputError
from paperworks.papers.pointer_networks.hulls import hull_targets
from paperworks.papers.pointer_networks.instances import PAD, STOP, Instances
from paperworks.papers.pointer_networks.tours import counter_clockwise, held_karp_targets, is_tour
from paperworks.papers.pointer_networks.triangulations import delaunay_triangles
from paperworks.parameters import check_seed
from paperworks.runs import Progress, no_progress

Sizes = int | tuple[int, int] | Sequence[int]
"""A number of points; a pair (smallest, largest); or a longer sequence of numbers to choose from."""

Labeller = Callable[[NDArray[np.float64]], Sequence[int] | NDArray[np.int64]]


def make_hull(n: Sizes, size: int, seed: int | np.random.Generator = 0) -> Instances:
    """``size`` instances of n uniform points with their hulls, counter-clockwise from the smallest index."""
    points, lengths = uniform_points(n, size, seed, least=3)
    return Instances(points, lengths, hull_targets(points, lengths))


def make_delaunay(
    n: Sizes, size: int, seed: int | np.random.Generator = 0, progress: Progress = no_progress
) -> Instances:
    """``size`` instances of n uniform points with their Delaunay triangles (see ``delaunay_triangles``), flattened."""
    points, lengths = uniform_points(n, size, seed, least=3)
    solutions = [
        delaunay_triangles(points[row, :k]).ravel()
        for row, k in progress(enumerate(lengths), "triangulating", total=size)
    ]
    targets = np.full((size, max(map(len, solutions)) + 1), PAD, dtype=np.int64)
    for row, solution in enumerate(solutions):
        targets[row, : len(solution)] = solution + 1
        targets[row, len(solution)] = STOP
    return Instances(points, lengths, targets)


def make_tsp(
    n: Sizes,
    size: int,
    seed: int | np.random.Generator = 0,
    *,
    label: str | Labeller = "exact",
    progress: Progress = no_progress,
) -> Instances:
    """``size`` instances of n uniform points with tours from city 0, counter-clockwise.

    ``label`` is ``exact`` (Held-Karp), a method of ``solve`` such as ``a1``, or a function from points [n, 2] to a
    tour.
    """
    points, lengths = uniform_points(n, size, seed, least=1)
    if label == "exact":
        parts = [points[i : i + 1000] for i in range(0, size, 1000)]
        done = [
            held_karp_targets(part, lengths[i * 1000 : i * 1000 + len(part)])
            for i, part in progress(enumerate(parts), "solving", total=len(parts))
        ]
        return Instances(points, lengths, np.concatenate(done))
    if isinstance(label, str):
        from paperworks.papers.pointer_networks.solving import tour_method

        label = tour_method(label)
    targets = np.full((size, points.shape[1] + 1), PAD, dtype=np.int64)
    for row, k in progress(enumerate(lengths), "solving", total=size):
        tour = np.ascontiguousarray(label(points[row, :k]), dtype=np.int64)
        if not is_tour(tour, int(k)):
            raise InputError("label", f"a function that returned {tour.tolist()}", f"every index 0 to {k - 1} once")
        targets[row, :k] = counter_clockwise(points[row], tour) + 1
        targets[row, k] = STOP
    return Instances(points, lengths, targets)


def uniform_points(
    n: Sizes, size: int, seed: int | np.random.Generator, *, least: int = 1
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """``size`` sets of uniform points of the unit square, float64 [size, nmax, 2] padded with 0, and their lengths."""
    if not isinstance(seed, np.random.Generator):
        check_seed("seed", seed, "or a numpy.random.Generator")
    choices = sizes_of(n)
    if min(choices) < least:
        raise InputError("n", min(choices), f"at least {least} points")
    if size < 1:
        raise InputError("size", size, "at least 1 instance")
    rng = np.random.default_rng(seed)
    lengths = rng.choice(np.array(choices, dtype=np.int64), size)
    points = rng.random((size, max(choices), 2))
    points[np.arange(max(choices)) >= lengths[:, None]] = 0
    return points, lengths


def sizes_of(n: Sizes) -> list[int]:
    """The numbers of points that ``n`` stands for."""
    if isinstance(n, (int, np.integer)):
        return [int(n)]
    if isinstance(n, tuple) and len(n) == 2:
        if n[0] > n[1]:
            raise InputError("n", f"{n[0]} to {n[1]}", "the smaller number first")
        return list(range(n[0], n[1] + 1))
    if not len(n):
        raise InputError("n", "no sizes", "at least one number of points")
    return [int(k) for k in n]
