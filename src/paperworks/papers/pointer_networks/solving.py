"""``solve(points, method=...)``: exact solutions, heuristics and networks behind one name."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from paperworks.errors import InputError, nearest
from paperworks.papers.pointer_networks.estimators import ESTIMATORS, PlanePointer
from paperworks.papers.pointer_networks.heuristics import (
    christofides,
    greedy_edge,
    lin_kernighan,
    nearest_neighbour,
    nearest_two_opt,
    random_tour,
)
from paperworks.papers.pointer_networks.problems import PROBLEMS
from paperworks.papers.pointer_networks.tours import Cities, Points, Tour, canonical_tour, held_karp, two_opt

ProblemName = Literal["hull", "delaunay", "tsp"]

TOUR_METHODS: dict[str, Callable[[Points | Cities], Tour]] = {
    "exact": held_karp,
    "a1": greedy_edge,
    "a2": nearest_two_opt,
    "a3": christofides,
    "nearest": nearest_neighbour,
    "random": random_tour,
    "lkh": lin_kernighan,
}

MODEL_METHODS = ("model", "model+2opt", "sample", "sample+2opt")


def tour_method(name: str) -> Callable[[Points | Cities], Tour]:
    """The heuristic or exact method of that name."""
    if name not in TOUR_METHODS:
        raise InputError("method", repr(name), f"one of {', '.join(TOUR_METHODS)}{nearest(name, TOUR_METHODS)}")
    return TOUR_METHODS[name]


@functools.cache
def bundled(problem: str) -> PlanePointer:
    """The bundled network of a problem, read once."""
    return ESTIMATORS[problem].bundled()


def solve(
    points: ArrayLike,
    method: str = "model+2opt",
    *,
    problem: ProblemName = "tsp",
    model: PlanePointer | None = None,
    samples: int = 32,
) -> list[int]:
    """Solve one instance.

    Parameters
    ----------
    points : [n, 2].
    method : tours: exact (up to 22 points), a1, a2, a3, nearest, random, lkh (needs elkai), model, model+2opt, sample,
        sample+2opt. Hulls and triangulations: exact, model.
    model : the estimator for the methods with a model; by default the bundled one.
    samples : draws of ``sample``.

    Returns
    -------
    0-based indices: a tour from city 0; hull corners counter-clockwise; triangles as triples, flattened.
    """
    if problem not in PROBLEMS:
        raise InputError("problem", repr(problem), f"one of {', '.join(PROBLEMS)}")
    checked = PROBLEMS[problem].check(points)
    allowed = [*TOUR_METHODS, *MODEL_METHODS] if problem == "tsp" else ["exact", "model"]
    if method not in allowed:
        raise InputError("method", repr(method), f"one of {', '.join(allowed)}{nearest(method, allowed)}")
    if method == "exact":
        return PROBLEMS[problem].solve(checked)
    if method in TOUR_METHODS:
        return TOUR_METHODS[method](checked).tolist()
    if problem == "tsp" and len(checked) <= 3:
        return list(range(len(checked)))
    estimator = model or bundled(problem)
    how: dict[str, Any] = {"samples": samples} if method.startswith("sample") else {}
    output = estimator.predict([checked], **how)[0]
    if method.endswith("+2opt"):
        return canonical_tour(two_opt(checked, np.array(output))).tolist()
    return output
