"""Lengths of tours: exact, heuristic, and of the network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import permutations

import numpy as np

from paperworks import runs
from paperworks.metrics import mean_interval, wilson_interval
from paperworks.papers.pointer_networks.decoding import Constraint
from paperworks.papers.pointer_networks.estimators import BUNDLED, TSPPointer
from paperworks.papers.pointer_networks.generators import uniform_points
from paperworks.papers.pointer_networks.heuristics import christofides, random_tour, reference_tour
from paperworks.papers.pointer_networks.published import TSP_LENGTHS
from paperworks.papers.pointer_networks.solving import TOUR_METHODS
from paperworks.papers.pointer_networks.studies.bench import about_bundled
from paperworks.papers.pointer_networks.tours import RANDOM_EDGE, held_karp, is_tour, tour_length
from paperworks.runs import Finding, largest
from paperworks.runs.findings import Relation


@runs.study(claims=["tsp-reference-lengths"], title="optimal and heuristic tour lengths", minutes=1)
def reference_lengths(run: runs.Run, fast: bool) -> Iterator[Finding]:
    rng = run.rng("tours")
    worst = 0.0
    for n in range(3, 8 if fast else 9):
        for _ in range(3):
            p = rng.random((n, 2))
            best = min(tour_length(p, [0, *rest]) for rest in permutations(range(1, n)))
            worst = largest((worst, abs(tour_length(p, held_karp(p)) - best)))
    claim = "tsp-reference-lengths"
    yield Finding(claim, "Largest difference of Held-Karp from all tours tried.", "exact", worst, "<=", 1e-9)
    sizes = {5: 300, 10: 150, 20: 30} if fast else {5: 3000, 10: 2000, 20: 200, 50: 300}
    ratio = 0.0
    for n, count in sizes.items():
        points = uniform_points(n, count, run.rng(f"cities {n}"))[0]
        found = {
            method: _lengths(points, [TOUR_METHODS[method](p) for p in run.progress(points, f"{method}, {n} cities")])
            for method in ("a1", "a2", "a3")
        }
        published = TSP_LENGTHS[n]
        if published.optimal is not None:
            tours = [reference_tour(p)[0] for p in run.progress(points, f"reference tours of {n} cities")]
            found["optimal"] = _lengths(points, tours)
        if n <= 10:
            ratio = largest((ratio, *(_lengths(points, [christofides(p) for p in points]) / found["optimal"])))
        error = float(found["a3"].std() / np.sqrt(count))
        for method, paper in zip(("optimal", "a1", "a2", "a3"), published[:4], strict=True):
            if paper is None:
                continue
            yield Finding(
                claim,
                f"Mean length of {method} tours of {n} uniform points: the paper's {paper}.",
                "empirical",
                mean_interval(found[method], unit="instances"),
                "==",
                paper,
                tolerance=max(0.03, 3 * error, 0.02 * paper),
                baseline=paper,
                baseline_name="paper",
            )
    yield Finding(claim, "Largest A3 / optimum, 5 and 10 points.", "exact", ratio, "<=", 1.5)
    points = uniform_points(10, 500 if fast else 4000, run.rng("cities of random tours"))[0]
    yield Finding(
        claim,
        "Mean length of a random tour per city.",
        "empirical",
        mean_interval(_lengths(points, [random_tour(p, rng) for p in points]) / 10, unit="instances"),
        "==",
        RANDOM_EDGE,
        tolerance=0.02 if fast else 0.01,
        baseline=RANDOM_EDGE,
        baseline_name="mean distance of two uniform points",
    )


def _lengths(points: np.ndarray | Sequence[np.ndarray], tours: Sequence[Sequence[int] | np.ndarray]) -> np.ndarray:
    return np.array([tour_length(p, list(t)) for p, t in zip(points, tours, strict=True)])


@runs.study(
    claims=["tsp-small", "tsp-mixed-sizes", "tsp-larger-inputs", "valid-tours"],
    title="tours by the network for 5 to 10 cities",
    minutes=1,
)
def tours(run: runs.Run, fast: bool) -> Iterator[Finding]:
    estimator = TSPPointer.from_pretrained(BUNDLED / "tsp")
    network, optimal, a1 = {}, {}, {}
    valid, invalid = {}, 0
    for n in (5, 10, 12, 20):
        count = (40 if n < 20 else 10) if fast else (1000 if n < 12 else 300)
        run.step(f"tours of {n} cities")
        points = list(uniform_points(n, count, run.rng(f"tours {n}"))[0])
        outputs, free = (_decoded(estimator, points, how, run) for how in ("permutation", None))
        invalid += sum(not is_tour(o, n) for o in outputs)
        valid[n] = wilson_interval(sum(is_tour(o, n) for o in free), count, unit="instances")
        network[n] = _lengths(points, outputs)
        optimal[n] = _lengths(points, [reference_tour(p)[0] for p in run.progress(points, "reference tours")])
        a1[n] = _lengths(points, [TOUR_METHODS["a1"](p) for p in points])
    about = about_bundled("tsp") + ", beam 3"
    for n, bound in ((5, 1.03), (10, 1.10)):
        yield Finding(
            "tsp-small",
            f"Mean ratio to the optimal length, {n} cities.",
            "empirical",
            mean_interval(network[n] / optimal[n], unit="instances"),
            "<=",
            bound,
            baseline=RANDOM_EDGE * n / optimal[n].mean(),
            baseline_name="random tour",
            detail=f"length {network[n].mean():.3f}, optimum {optimal[n].mean():.3f}, A1 {a1[n].mean():.3f}; {about}; "
            f"paper's ratio {TSP_LENGTHS[n].network / (TSP_LENGTHS[n].optimal or 1):.3f}",
        )
    yield Finding(
        "tsp-mixed-sizes",
        "Length of 5 cities by the network for 5 to 10, less 1.03 times the optimum.",
        "empirical",
        mean_interval(network[5] - 1.03 * optimal[5], unit="instances"),
        "<=",
        0,
        baseline=float(optimal[5].mean()),
        baseline_name="optimum",
        detail=f"length {network[5].mean():.3f}; a network for 5 cities alone is not trained here",
    )
    comparisons: tuple[tuple[int, Relation, str], ...] = (
        (12, "<=", "1.2 times the largest size of training: no longer than A1's (the paper's at 25 of 20)"),
        (20, ">", "twice the largest size of training: longer than A1's (the paper's at 40 of 20)"),
    )
    for n, relation, words in comparisons:
        yield Finding(
            "tsp-larger-inputs",
            f"Length of {n} cities less that of A1, {words}.",
            "empirical",
            mean_interval(network[n] - a1[n], unit="instances"),
            relation,
            0,
            baseline=float(a1[n].mean()),
            baseline_name="A1",
            detail=f"length {network[n].mean():.3f}, {network[n].mean() / optimal[n].mean():.3f} times the reference; "
            f"{about}",
        )
    yield Finding(
        "valid-tours",
        "Outputs of beam search with the permutation constraint that are no tours.",
        "exact",
        invalid,
        "==",
        0,
    )
    for n in (5, 10):
        yield Finding(
            "valid-tours",
            f"Share of valid tours without constraint, {n} cities (seen in training).",
            "empirical",
            valid[n],
            ">=",
            0.99,
            detail=about,
        )
    yield Finding(
        "valid-tours",
        "Share of valid tours without constraint, 20 cities: twice the largest size of training.",
        "empirical",
        valid[20],
        "<=",
        0.10,
        baseline=valid[10].estimate,
        baseline_name="10 cities",
    )


def _decoded(estimator: TSPPointer, points: list[np.ndarray], constraint: Constraint, run: runs.Run) -> list[list[int]]:
    estimator.constraint = constraint
    return estimator.predict(points, progress=run.progress)


@runs.study(claims=["tsp-student-beats-teacher"], title="tours of 50 cities, learned from A1", minutes=2)
def student(run: runs.Run, fast: bool) -> Iterator[Finding]:
    n, count = 50, 20 if fast else 500
    estimator = TSPPointer.from_pretrained(BUNDLED / f"tsp-{n}")
    points = list(uniform_points(n, count, run.rng(f"tours {n}"))[0])
    outputs, free = (_decoded(estimator, points, how, run) for how in ("permutation", None))
    lengths = _lengths(points, outputs)
    a1, a3 = (
        _lengths(points, [TOUR_METHODS[method](p) for p in run.progress(points, method)]) for method in ("a1", "a3")
    )
    about = (
        f"network {lengths.mean():.3f}, A1 {a1.mean():.3f}, A3 {a3.mean():.3f}; valid without constraint "
        f"{np.mean([is_tour(o, n) for o in free]):.1%}; {about_bundled(f'tsp-{n}')}, beam 3; paper: network 6.42, A1 "
        "6.46, A3 5.79; the part that is trained on A3's tours (6.09) is not measured"
    )
    for teacher, other, relation in (("A1, its teacher", a1, "<"), ("A3, a good heuristic", a3, ">")):
        yield Finding(
            "tsp-student-beats-teacher",
            f"Length of {n} cities by the network trained on A1's tours, less that of {teacher}.",
            "empirical",
            mean_interval(lengths - other, unit="instances"),
            relation,  # type: ignore[arg-type]
            0,
            baseline=float(other.mean()),
            baseline_name=teacher[:2],
            detail=about,
        )
