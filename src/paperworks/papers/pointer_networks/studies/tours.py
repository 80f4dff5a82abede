"""Lengths of tours: exact, heuristic, and of the network."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations

import numpy as np

from paperworks import runs
from paperworks.papers.pointer_networks.estimators import ESTIMATORS
from paperworks.papers.pointer_networks.generators import make_tsp, uniform_points
from paperworks.papers.pointer_networks.heuristics import christofides, random_tour, reference_tour
from paperworks.papers.pointer_networks.problems import PROBLEMS
from paperworks.papers.pointer_networks.published import TSP_LENGTHS
from paperworks.papers.pointer_networks.solving import TOUR_METHODS
from paperworks.papers.pointer_networks.studies.bench import about_bundled
from paperworks.papers.pointer_networks.tours import RANDOM_EDGE, held_karp, tour_length
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
    sizes = {5: 300, 10: 150, 20: 30} if fast else {5: 3000, 10: 2000, 20: 200, 50: 100}
    ratio = 0.0
    for n, count in sizes.items():
        points = [p for p, _ in _uniform(n, count, run)]
        optimal = [reference_tour(p)[0] for p in run.progress(points, f"reference tours of {n} cities")]
        means = {"optimal": _mean(points, optimal)}
        for method in ("a1", "a2", "a3"):
            tours = [TOUR_METHODS[method](p) for p in run.progress(points, f"{method}, {n} cities")]
            means[method] = _mean(points, tours)
        if n <= 10:
            ratio = largest(
                (
                    ratio,
                    *(
                        tour_length(p, christofides(p)) / tour_length(p, o)
                        for p, o in zip(points, optimal, strict=True)
                    ),
                )
            )
        error = float(np.std([tour_length(p, o) for p, o in zip(points, optimal, strict=True)]) / np.sqrt(count))
        published = TSP_LENGTHS[n]
        for method, paper in zip(means, published[:4], strict=True):
            if paper is None:
                continue
            yield Finding(
                claim,
                f"Mean length of {method} tours of {n} uniform points, distance from the paper's {paper}.",
                "empirical",
                abs(means[method] - paper),
                "<=",
                max(0.03, 3 * error, 0.02 * paper),
                baseline=paper,
                baseline_name="paper",
                detail=f"{means[method]:.3f} on {count} instances, standard error {error:.3f}",
            )
    yield Finding(claim, "Largest A3 / optimum, 5 and 10 points.", "exact", ratio, "<=", 1.5)
    points = [p for p, _ in _uniform(10, 500 if fast else 4000, run)]
    random = np.mean([tour_length(p, random_tour(p, rng)) for p in points]) / 10
    yield Finding(
        claim,
        "Mean length of a random tour per city.",
        "empirical",
        float(random),
        "==",
        RANDOM_EDGE,
        tolerance=0.02 if fast else 0.01,
    )


def _uniform(n: int, count: int, run: runs.Run) -> list[tuple[np.ndarray, int]]:
    points, lengths = uniform_points(n, count, run.rng(f"cities {n}"))
    return list(zip(points, lengths.tolist(), strict=True))


def _mean(points: list[np.ndarray], tours: list[np.ndarray]) -> float:
    return float(np.mean([tour_length(p, t) for p, t in zip(points, tours, strict=True)]))


@runs.study(
    claims=["tsp-small", "tsp-mixed-sizes", "tsp-larger-inputs", "valid-tours"], title="tours by the network", minutes=1
)
def tours(run: runs.Run, fast: bool) -> Iterator[Finding]:
    estimator = ESTIMATORS["tsp"].bundled()
    lengths: dict[int, dict[str, float]] = {}
    valid, invalid = {}, 0
    for n in (5, 10, 12, 20):
        count = (40 if n < 20 else 10) if fast else (1000 if n < 12 else 300)
        run.step(f"tours of {n} cities")
        points = make_tsp(n, count, run.rng(f"tours {n}"), label=lambda p: np.arange(len(p))).inputs()
        estimator.constraint = "permutation"
        outputs = estimator.predict(points, progress=run.progress)
        invalid += sum(sorted(o) != list(range(n)) for o in outputs)
        reference = [reference_tour(p)[0].tolist() for p in run.progress(points, "reference tours")]
        lengths[n] = PROBLEMS["tsp"].metrics(points, outputs, reference)
        lengths[n]["a1"] = _mean(points, [TOUR_METHODS["a1"](p) for p in points])
        lengths[n]["optimal"] = _mean(points, [np.array(r) for r in reference])
        estimator.constraint = None
        free = estimator.predict(points, progress=run.progress)
        valid[n] = PROBLEMS["tsp"].metrics(points, free, reference)["valid"]
    about = about_bundled("tsp") + ", beam 3"
    for n, bound in ((5, 1.03), (10, 1.10)):
        m = lengths[n]
        yield Finding(
            "tsp-small",
            f"Mean ratio to the optimal length, {n} cities.",
            "empirical",
            m["ratio"],
            "<=",
            bound,
            baseline=RANDOM_EDGE * n / m["optimal"],
            baseline_name="random tour",
            detail=f"length {m['length']:.3f}, optimum {m['optimal']:.3f}, A1 {m['a1']:.3f}; {about}; paper's ratio "
            f"{TSP_LENGTHS[n].network / (TSP_LENGTHS[n].optimal or 1):.3f}",
        )
    yield Finding(
        "tsp-mixed-sizes",
        "Mean length of 5 cities by the network for 5 to 10, against the optimum.",
        "empirical",
        lengths[5]["length"],
        "<=",
        1.03 * lengths[5]["optimal"],
        baseline=lengths[5]["optimal"],
        baseline_name="optimum",
        detail="a network for 5 cities alone is not trained here",
    )
    comparisons: tuple[tuple[int, Relation, str], ...] = (
        (12, "<=", "1.2 times the largest size of training: no longer than A1's (the paper's at 25 of 20)"),
        (20, ">", "twice the largest size of training: longer than A1's (the paper's at 40 of 20)"),
    )
    for n, relation, words in comparisons:
        m = lengths[n]
        yield Finding(
            "tsp-larger-inputs",
            f"Mean length of {n} cities, {words}.",
            "empirical",
            m["length"],
            relation,
            m["a1"],  # type: ignore[arg-type]
            baseline=m["a1"],
            baseline_name="A1",
            detail=f"ratio to the reference {m['ratio']:.3f}; {about}",
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
            detail=f"{about}; the paper's network saw many times more instances",
        )
    yield Finding(
        "valid-tours",
        "Share of valid tours without constraint, 20 cities: twice the largest size of training.",
        "empirical",
        valid[20],
        "<=",
        0.10,
        baseline=valid[10],
        baseline_name="10 cities",
    )
