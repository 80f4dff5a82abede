"""Random trees and random samples: active choice, crowded observed sets, sample complexity."""

from __future__ import annotations

import numpy as np

from paperworks import runs
from paperworks.metrics import mean_interval, wilson_interval
from paperworks.papers.loki.graphs import TreeSpace, random_tree
from paperworks.papers.loki.loci import locus
from paperworks.papers.loki.selection import next_class, random_observed


@runs.study(claims=["active-beats-random"], title="Active choice of classes", minutes=0.3)
def active(run: runs.Run, fast: bool) -> list[runs.Finding]:
    """Mean locus size while classes are added one by one, chosen actively and at random."""
    trees, repeats = (10, 3) if fast else (50, 10)
    differences, ahead, larger = [], 0, 0
    for i in run.progress(range(trees), "trees"):
        rng = run.rng(f"active {i}")
        tree = random_tree(50, rng)
        start = rng.choice(50, 6, replace=False)
        chosen = next_class(tree, start, k=15).tolist()
        ours = _sizes(tree, start, [*chosen, *[chosen[-1]] * (15 - len(chosen))] if chosen else [int(start[0])] * 15)
        rest = np.setdiff1d(np.arange(50), start)
        theirs = np.array([_sizes(tree, start, rng.choice(rest, 15, replace=False).tolist()) for _ in range(repeats)])
        differences.append(float(ours.mean() - theirs.mean()))
        ahead = max(ahead, int((theirs - ours).max()))
        larger += bool(ours.mean() > theirs.mean())
    return [
        runs.Finding(
            "active-beats-random",
            "Labels reached, mean over 15 additions, active less random choice (trees of 50, 6 observed at first)",
            "empirical",
            mean_interval(differences, unit="trees"),
            ">",
            0.0,
            baseline_name="uniform random choice",
            unit="labels",
            detail=f"random choice: mean of {repeats} draws per tree",
        ),
        runs.Finding(
            "active-beats-random",
            f"Labels by which a random choice is ahead, most of {trees} trees, {repeats} draws and 15 additions",
            "exact",
            ahead,
            "<=",
            0,
            unit="labels",
            detail="on a tree the choice of the farthest label is the best of all plans of any length",
        ),
        runs.Finding(
            "active-beats-random",
            "Trees on which active choice reaches more labels, share",
            "empirical",
            wilson_interval(larger, trees, unit="trees"),
            ">=",
            0.9,
        ),
    ]


def _sizes(tree: TreeSpace, start: np.ndarray, added: list[int]) -> np.ndarray:
    """Labels reached after each addition, int ``[len(added)]``."""
    known, sizes = start.tolist(), []
    for label in added:
        known.append(int(label))
        sizes.append(len(locus(tree, known)))
    return np.array(sizes)


@runs.study(claims=["central-observed-sets-reach-less"], title="Crowded observed sets", minutes=0.2)
def crowding(run: runs.Run, fast: bool) -> list[runs.Finding]:
    """Locus size of 30 observed labels of 100 as they crowd around the centre: theta from 0 to 4 in steps of 0.1."""
    trees = 5 if fast else 20
    thetas = np.round(np.arange(0, 4.05, 0.4 if fast else 0.1), 2)
    drops, slopes = [], []
    for i in run.progress(range(trees), "trees"):
        rng = run.rng(f"crowded {i}")
        tree = random_tree(100, rng)
        sizes = [
            np.mean([len(locus(tree, random_observed(tree, 30, rng, theta=float(t)))) for _ in range(10)])
            for t in thetas
        ]
        drops.append(sizes[-1] - sizes[0])
        slopes.append(np.polyfit(thetas, sizes, 1)[0])
    return [
        runs.Finding(
            "central-observed-sets-reach-less",
            "Labels reached at concentration 4 less those at 0 (100 labels, 30 observed)",
            "empirical",
            mean_interval(drops, unit="trees"),
            "<",
            0.0,
            baseline_name="uniform choice",
            unit="labels",
        ),
        runs.Finding(
            "central-observed-sets-reach-less",
            "Slope of the number of labels reached over the concentration",
            "empirical",
            mean_interval(slopes, unit="trees"),
            "<",
            0.0,
            unit="labels per unit",
        ),
    ]


@runs.study(claims=["sample-complexity"], title="Samples against diameter", minutes=1)
def samples(run: runs.Run, fast: bool) -> list[runs.Finding]:
    """Hit probability on a path of L edges whose ends are observed, weights by a logistic model of n samples."""
    repeats = 20 if fast else 400
    cases = [(8, 100, 2), (16, 400, 2), (32, 1600, 2), (16, 100, 2), (32, 100, 2), (8, 400, 8), (8, 100, 8)]
    hits = {
        case: np.array([_hit(*case, run.rng(f"{case} {i}")) for i in range(repeats)])
        for case in run.progress(cases, "settings")
    }
    shown = "; ".join(f"L={c[0]}, n={c[1]}, p={c[2]}: {v.mean():.3f}" for c, v in hits.items())
    equal = mean_interval(hits[8, 100, 2] - hits[32, 1600, 2], unit="pairs of fits")
    features = mean_interval(hits[8, 400, 8] - hits[8, 100, 2], unit="pairs of fits")
    return [
        runs.Finding(
            "sample-complexity",
            "|Hit probability at (L, n) = (8, 100) less that at (32, 1600)|: n / L^2 is the same",
            "empirical",
            runs.largest((abs(equal.low), abs(equal.high))),
            "<",
            0.06,
            deterministic=f"the far end of the interval {equal}",
            detail=shown,
        ),
        runs.Finding(
            "sample-complexity",
            "Hit probability at (8, 100) less that at (32, 100): 16 times too few samples",
            "empirical",
            mean_interval(hits[8, 100, 2] - hits[32, 100, 2], unit="pairs of fits"),
            ">",
            0.2,
            detail=shown,
        ),
        runs.Finding(
            "sample-complexity",
            "Hit probability with 8 features and 4 times the samples less that with 2 features",
            "empirical",
            features,
            ">",
            -0.05,
            detail=f"n in proportion to the features suffices. {shown}",
        ),
    ]


def _hit(length: int, n: int, features: int, rng: np.random.Generator) -> float:
    from sklearn.linear_model import LogisticRegression

    slope = rng.normal(size=features)
    slope *= 2 / np.linalg.norm(slope)

    def ball(count: int) -> np.ndarray:
        x = rng.normal(size=(count, features))
        return x / np.linalg.norm(x, axis=1, keepdims=True) * rng.random((count, 1)) ** (1 / features)

    x, new = ball(n), ball(2000)
    y = rng.random(n) < 1 / (1 + np.exp(-x @ slope))
    if y.all() or not y.any():
        return 0.0
    fitted = LogisticRegression(C=1e6, fit_intercept=False, max_iter=500).fit(x, y).coef_[0]
    # on a path with both ends observed the minimiser is the vertex nearest to the weighted mean
    right, found = (np.rint(length / (1 + np.exp(-new @ w))) for w in (slope, fitted))
    return float((right == found).mean())
