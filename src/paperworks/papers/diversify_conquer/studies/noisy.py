"""Noisy clusters: every method on two pools, what the feedback does, its sources, other models, poor clusters."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from paperworks import runs
from paperworks.embedding import KMeans
from paperworks.metrics import mean_interval
from paperworks.papers.diversify_conquer.studies import pools
from paperworks.papers.diversify_conquer.studies.pools import NoisyPool
from paperworks.papers.diversify_conquer.weights import InertFeedbackWarning
from paperworks.runs import Finding

Table = dict[str, np.ndarray]
"""Figures by name, one for each seed."""
EARLIER = ("Deita", "QDIT")
LEAD = 0.1
"""What kMQ must be above random by, in accuracy: clusters of random labels make random choice bad by construction."""
GAIN_RANDOM, GAIN_EARLIER = 0.07, 0.038
"""The relative gains that the paper's abstract gives."""
SIZES = (10, 30, 100, 300)


@runs.study(
    claims=[
        "clusters-with-quality",
        "diversity-alone",
        "iterative-refinement",
        "relative-gain",
        "feedback-source",
        "other-base-models",
        "alpaca",
        "poor-clusters-appear",
        "noise-is-filtered",
    ],
    title="digits and word glosses with noisy clusters: every method, every feedback",
    minutes=2,
)
def noisy_clusters(run: runs.Run, fast: bool) -> Iterator[Finding]:
    """Pools of 1,197 with 9 of 30 clusters of random labels; 150 chosen; logistic regression; 450 test rows."""
    seeds = range(2 if fast else 10)
    x, y = pools.digits()
    found = _measure(run, x, y, seeds, "digits")
    yield from _methods(found)
    yield from _filtering(found)
    yield from _sources(found)
    yield from _others(found)
    yield from _poor(found)
    x, y = pools.parts_of_speech(run.state / "parts.npy", run.progress)
    second = _measure(run, x, y, seeds, "glosses", methods_only=True)
    yield from _second_pool(found, second)


def _measure(run: runs.Run, x: np.ndarray, y: np.ndarray, seeds: range, name: str, methods_only: bool = False) -> Table:
    """Accuracies, shares of corrupted rows and weights, by seed."""
    found: dict[str, list[float]] = defaultdict(list)
    for seed in run.progress(seeds, f"{name}: seeds"):
        pool = pools.make_pool(x, y, seed)
        chosen = pools.choices(pool, seed)
        rows = {m: getattr(c, "indices_", c) for m, c in chosen.items()}
        for method, picked in rows.items():
            found[method].append(pool.accuracy(picked))
            found[f"noise {method}"].append(float(pool.corrupted[picked].mean()))
        found["noise pool"].append(float(pool.corrupted.mean()))
        if methods_only:
            continue
        for method in ("iter-kM", "iter-kMQ"):
            weights = chosen[method].weights_
            found[f"weight {method}"].append(float(weights[-1][pool.noisy].sum()))
            found[f"first weight {method}"].append(float(weights[0][pool.noisy].sum()))
        _feedbacks(pool, seed, found)
        for model, make in pools.OTHER_MODELS.items():
            for method in ("random", "kM-Random", "kMQ", "iter-kM", "iter-kMQ"):
                found[f"{model}: {method}"].append(pool.accuracy(rows[method], make()))
        _poor_clusters(pool, found)
    return {key: np.array(values) for key, values in found.items()}


def _feedbacks(pool: NoisyPool, seed: int, found: dict[str, list[float]]) -> None:
    for name, feedback in (("rating", pools.rating), ("perplexity", pools.perplexity)):
        selector = pools.selector_of(pool, "random", None, seed)
        found[f"feedback {name}"].append(pool.accuracy(pools.iterate(pool, selector, feedback).indices_))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        inert = pools.iterate(pool, pools.selector_of(pool, "random", None, seed), memorised=True)
    found["inert warned"].append(float(any(w.category is InertFeedbackWarning for w in said)))
    scores = np.concatenate([s for _, s in inert.state_.score_history])
    found["inert zeros"].append(float((scores == 0).mean()))
    found["inert noise"].append(float(pool.corrupted[inert.indices_].mean()))


def _poor_clusters(pool: NoisyPool, found: dict[str, list[float]]) -> None:
    """Share of clusters whose mean quality, the judge's probability of the given label, is below 0.3."""
    quality = np.exp(pool.judged(np.arange(len(pool.x)), pool.given))
    for k in SIZES:
        labels = KMeans(k, random_state=42).fit(pool.x).labels_
        sizes = np.bincount(labels, minlength=k)
        means = np.bincount(labels, quality, minlength=k)[sizes > 0] / sizes[sizes > 0]
        found[f"poor {k}"].append(float((means < 0.3).mean()))


def _gain(
    claim: str, found: Table, better: str, worse: str, bound: float = 0.0, what: str = "Digits", detail: str = ""
) -> Finding:
    return Finding(
        claim,
        f"{what}: accuracy of {better} less that of {worse}" + (f", at least {bound:g}." if bound else "."),
        "empirical",
        mean_interval(found[better] - found[worse]),
        ">",
        bound,
        baseline=float(found[worse].mean()),
        baseline_name=worse,
        detail=detail,
    )


def _means(found: Table) -> str:
    names = [name for name in found if f"noise {name}" in found]
    return "; ".join(f"{n} {found[n].mean():.3f} ({found[f'noise {n}'].mean():.2f})" for n in names)


def _methods(found: Table) -> Iterator[Finding]:
    detail = (
        f"mean accuracy (share of chosen rows with noisy labels; pool {found['noise pool'].mean():.2f}): "
        + _means(found)
    )
    yield _gain("clusters-with-quality", found, "kMQ", "random", LEAD, detail=detail)
    for other in ("top-quality", "Deita", "QDIT", "k-center", "kM-Closest", "kM-Random"):
        yield _gain("clusters-with-quality", found, "kMQ", other)
    for other in ("random", "k-center", "top-quality", "Deita"):
        yield _gain("diversity-alone", found, "kM-Random", other)
    yield _gain("iterative-refinement", found, "iter-kM", "kM-Random")
    yield _gain("iterative-refinement", found, "iter-kMQ", "kMQ")
    relative = found["iter-kMQ"] / found["random"] - 1
    yield Finding(
        "relative-gain",
        "Digits: accuracy of iter-kMQ over that of random, less one; the paper's gain is 0.07.",
        "empirical",
        mean_interval(relative),
        ">",
        GAIN_RANDOM,
        baseline=float(found["random"].mean()),
        baseline_name="random",
    )
    earlier = np.maximum.reduce([found[m] for m in EARLIER])
    yield Finding(
        "relative-gain",
        "Digits: accuracy of iter-kMQ over that of the better of Deita and QDIT, less one; the paper's gain is 0.038.",
        "empirical",
        mean_interval(found["iter-kMQ"] / earlier - 1),
        ">",
        GAIN_EARLIER,
        baseline=float(earlier.mean()),
        baseline_name="better of Deita and QDIT",
    )


def _filtering(found: Table) -> Iterator[Finding]:
    share = found["noise iter-kM"] / found["noise kM-Random"]
    yield Finding(
        "noise-is-filtered",
        "Digits: share of noisy rows that iter-kM chooses, over that of kM-Random; at most 0.6.",
        "empirical",
        mean_interval(share),
        "<",
        0.6,
        baseline=float(found["noise kM-Random"].mean()),
        baseline_name="kM-Random, whose weights stay fixed",
    )
    for method in ("iter-kM", "iter-kMQ"):
        yield Finding(
            "noise-is-filtered",
            f"Digits: weight of the noisy clusters after the last round of {method}, less the first.",
            "empirical",
            mean_interval(found[f"weight {method}"] - found[f"first weight {method}"]),
            "<",
            0.0,
            baseline=float(found[f"first weight {method}"].mean()),
            baseline_name="weight in the first round",
            detail=f"mean weight after the last round {found[f'weight {method}'].mean():.3f}",
        )
    yield Finding(
        "noise-is-filtered",
        "Digits: share of runs that warn, where the answers are those of a model that has memorised its rows and most "
        "scores are 0; all should.",
        "exact",
        float(found["inert warned"].mean()),
        "==",
        1.0,
        detail=f"share of scores that are 0: {found['inert zeros'].mean():.3f}; share of noisy rows chosen "
        f"{found['inert noise'].mean():.3f} of {found['noise pool'].mean():.3f} in the pool",
    )


def _sources(found: Table) -> Iterator[Finding]:
    named = {"reward": "iter-kM", "rating": "feedback rating", "perplexity": "feedback perplexity"}
    table = {name: found[key] for name, key in named.items()}
    detail = "mean accuracy: " + ", ".join(f"{name} {values.mean():.3f}" for name, values in table.items())
    for better, worse in (("reward", "rating"), ("rating", "perplexity"), ("reward", "perplexity")):
        yield _gain(
            "feedback-source",
            table,
            better,
            worse,
            what="Digits, iter-kM by its feedback",
            detail=detail if better == "reward" else "",
        )


def _others(found: Table) -> Iterator[Finding]:
    for model in pools.OTHER_MODELS:
        table = {m: found[f"{model}: {m}"] for m in ("random", "kM-Random", "kMQ", "iter-kM", "iter-kMQ")}
        what = f"Digits, {model} trained on what was chosen with logistic regression"
        detail = "mean accuracy: " + ", ".join(f"{m} {values.mean():.3f}" for m, values in table.items())
        yield _gain("other-base-models", table, "kMQ", "random", what=what, detail=detail)
        yield _gain("other-base-models", table, "iter-kMQ", "random", what=what)


def _poor(found: Table) -> Iterator[Finding]:
    detail = "mean share: " + ", ".join(f"{k} clusters {found[f'poor {k}'].mean():.3f}" for k in SIZES)
    for few, many in ((10, 30), (30, 100), (100, 300)):
        yield Finding(
            "poor-clusters-appear",
            f"Digits: share of clusters with a mean quality below 0.3, {many} clusters less {few}.",
            "empirical",
            mean_interval(found[f"poor {many}"] - found[f"poor {few}"]),
            ">",
            0.0,
            baseline=float(found[f"poor {few}"].mean()),
            baseline_name=f"{few} clusters",
            detail=detail if few == 10 else "",
        )


def _second_pool(first: Table, second: Table) -> Iterator[Finding]:
    names = [name for name in first if f"noise {name}" in first]
    ranks: list[Any] = [
        spearmanr([first[n][i] for n in names], [second[n][i] for n in names]).statistic
        for i in range(len(first["random"]))
    ]
    yield Finding(
        "alpaca",
        f"Rank correlation of the accuracies of {len(names)} methods on digits and on word glosses (noun, verb or "
        "adjective), by seed.",
        "empirical",
        mean_interval(ranks),
        ">",
        0.5,
        detail=f"glosses, mean accuracy (share of noisy rows; pool {second['noise pool'].mean():.2f}): "
        f"{_means(second)}; "
        "1 is the same order, 0 none, and 0.5 is half of the way",
    )
    yield _gain("alpaca", second, "kMQ", "random", what="Glosses")
    yield _gain("alpaca", second, "kM-Random", "random", what="Glosses")
