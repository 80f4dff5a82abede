"""What is known before any training: how a choice covers its pool, and the number of clusters."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from paperworks import runs
from paperworks.embedding import encode_to_file, load_text_encoder
from paperworks.metrics import mean_interval
from paperworks.papers.diversify_conquer.coverage import nearest_distances
from paperworks.papers.diversify_conquer.methods import select
from paperworks.papers.diversify_conquer.pool import bundled_records
from paperworks.papers.diversify_conquer.quality import compression_quality, compression_ratio
from paperworks.papers.diversify_conquer.selector import KMeansSelector
from paperworks.papers.diversify_conquer.silhouette import choose_n_clusters
from paperworks.runs import Finding

GRID = (5, 10, 20, 40, 80)


def glosses() -> list[Any]:
    """Records of the bundled WordNet glosses, validation and test."""
    records = bundled_records() + bundled_records(split="test")
    return [r for r in records if r.extra["kind"] == "gloss"]


@runs.study(claims=["diversity-alone"], title="3,000 word glosses: how a choice covers its pool", minutes=2)
def coverage(run: runs.Run, fast: bool) -> Iterator[Finding]:
    """MiniLM vectors of glosses, 150 chosen, 50 clusters; distances of the pool to the nearest chosen gloss."""
    texts = [str(r.response) for r in glosses()][: 300 if fast else 3000]
    path = run.state / "glosses.npy"
    if path.is_file():
        vectors = np.load(path)
    else:
        vectors = np.asarray(encode_to_file(load_text_encoder(), texts, path, progress=run.progress))
    quality = compression_quality(np.array([compression_ratio(t) for t in texts]), np.array([len(t) for t in texts]))
    budget, clusters, seeds = (30, 10, range(3)) if fast else (150, 50, range(10))
    methods = ("random", "km-random", "km-closest", "k-center", "top-quality")
    mean: dict[str, list[float]] = {m: [] for m in methods}
    largest: dict[str, list[float]] = {m: [] for m in methods}
    for seed in run.progress(seeds, "seeds"):
        selector = KMeansSelector(clusters, "random", budget, random_state=seed).fit(vectors)
        for method in methods:
            rows = select(vectors, budget, method, quality=quality, selector=selector, random_state=seed)  # type: ignore[arg-type]
            squared = nearest_distances(vectors, rows)
            mean[method].append(float(squared.mean()))
            largest[method].append(float(np.sqrt(squared.max())))
    means = {m: np.array(v) for m, v in mean.items()}
    detail = "mean squared distance / largest distance: " + "; ".join(
        f"{m} {means[m].mean():.4f} / {np.mean(largest[m]):.4f}" for m in methods
    )
    for method in ("km-random", "km-closest"):
        yield Finding(
            "diversity-alone",
            f"Glosses, {budget} chosen, {clusters} clusters: mean squared distance of the pool to the nearest chosen "
            f"one, {method} less random.",
            "empirical",
            mean_interval(means[method] - means["random"]),
            "<",
            0.0,
            baseline=float(means["random"].mean()),
            baseline_name="random",
            detail=detail if method == "km-random" else "",
        )
    for method in methods:
        if method != "k-center":
            yield Finding(
                "diversity-alone",
                f"Glosses: largest distance of the pool to the nearest chosen one, k-center less {method}.",
                "empirical",
                mean_interval(np.array(largest["k-center"]) - np.array(largest[method])),
                "<",
                0.0,
                baseline=float(np.mean(largest[method])),
                baseline_name=method,
            )
    rest = np.maximum.reduce([means[m] for m in methods if m != "top-quality"])
    yield Finding(
        "diversity-alone",
        "Glosses: mean squared distance to the nearest chosen one, top-quality less the worst of the others.",
        "empirical",
        mean_interval(means["top-quality"] - rest),
        ">",
        0.0,
        baseline=float(rest.mean()),
        baseline_name="worst of the others",
    )


@runs.study(claims=["silhouette-chooses-k"], title="digits: the silhouette and the number of clusters", minutes=2)
def number_of_clusters(run: runs.Run, fast: bool) -> Iterator[Finding]:
    """Silhouettes of 5 to 80 clusters of 1,197 digits, and the accuracy of logistic regression on 50 chosen ones."""
    digits = load_digits()
    seeds = range(2 if fast else 10)
    gaps, picked, values = [], [], []
    accuracy: dict[int, list[float]] = {k: [] for k in GRID}
    for seed in run.progress(seeds, "seeds"):
        order = np.random.default_rng([seed, 1]).permutation(len(digits.data))
        pool, test = order[:1197], order[1197:]
        best, found = choose_n_clusters(digits.data[pool], GRID, random_state=seed)
        picked.append(best)
        values.append([found[k] for k in GRID])
        gaps.append(found[10] - max(v for k, v in found.items() if k != 10))
        for k in GRID:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # 80 clusters for 50 rows
                rows = KMeansSelector(k, "random", 50, random_state=seed).fit(digits.data[pool] / 16).indices_
            model = LogisticRegression(max_iter=500).fit(digits.data[pool][rows] / 16, digits.target[pool][rows])
            accuracy[k].append(model.score(digits.data[test] / 16, digits.target[test]))
    mean = np.mean(values, axis=0)
    yield Finding(
        "silhouette-chooses-k",
        "Digits: silhouette at 10 clusters, the number of classes, less the best of 5, 20, 40 and 80.",
        "empirical",
        mean_interval(gaps),
        ">",
        0.0,
        baseline=float(max(m for m, k in zip(mean, GRID, strict=True) if k != 10)),
        baseline_name="best other number of clusters",
        detail=f"mean silhouettes of {GRID}: {', '.join(f'{m:.3f}' for m in mean)}; picked: {picked}",
    )
    table = np.array([accuracy[k] for k in GRID])
    chosen = np.array([table[GRID.index(k), i] for i, k in enumerate(picked)])
    yield Finding(
        "silhouette-chooses-k",
        "Digits, 50 chosen at random inside clusters: accuracy at the number of clusters of the best silhouette, less "
        "the mean over the numbers tried.",
        "empirical",
        mean_interval(chosen - table.mean(axis=0)),
        ">",
        0.0,
        baseline=float(table.mean()),
        baseline_name="mean over the numbers of clusters",
        detail="mean accuracy by number of clusters: "
        + ", ".join(f"{k} {a:.3f}" for k, a in zip(GRID, table.mean(axis=1), strict=True)),
    )
