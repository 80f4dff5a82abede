"""Hundreds of thousands of labels: the tree paths beside the dense product, in one run."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from paperworks import runs
from paperworks.metrics import mean_interval, ratio_interval
from paperworks.papers.loki.frechet import FrechetMean
from paperworks.papers.loki.graphs import random_tree
from paperworks.papers.loki.spaces import TOLERANCE


@runs.study(claims=["many-classes"], title="Hundreds of thousands of classes", minutes=1)
def scale(run: runs.Run, fast: bool) -> list[runs.Finding]:
    """Predictions for 64 rows with 1,000 observed labels among 200,000, and among a million."""
    n, k = (20_000, 200) if fast else (200_000, 1000)
    rng = run.rng("scale")
    tree = random_tree(n, rng)
    observed = rng.choice(n, k, replace=False)
    weights = rng.dirichlet(np.full(k, 0.05), size=64)
    run.step("rows of squared distances for the dense product")
    rows = tree.squared(observed)
    mean = FrechetMean(tree, observed)
    mean.predict(weights[:2])
    fast_times, dense_times = [], []
    predicted = np.empty(0)
    variances = np.empty((0, 0))
    for _ in run.progress(range(5), "timing in turn"):
        seconds, predicted = _timed(lambda: mean.predict(weights))
        fast_times.append(seconds)
        seconds, variances = _timed(lambda: _dense(weights, rows)[0])
        dense_times.append(seconds)
    least = variances.min(axis=1)
    reached = variances[np.arange(64), predicted]
    ratio = ratio_interval(np.divide(dense_times, fast_times))
    sample = rng.choice(n, 200, replace=False)
    whole = mean.variances(weights)[:, sample]
    error = float((np.abs(whole - variances[:, sample]) / variances[:, sample].clip(1e-300)).max())
    million = 50_000 if fast else 1_000_000
    big = random_tree(million, rng)
    run.step(f"{million} labels")
    chosen = rng.choice(million, k, replace=False)
    large_times, large = [], np.empty(0)
    for _ in run.progress(range(3), "preparing and predicting"):
        seconds, large = _timed(lambda: FrechetMean(big, chosen).predict(weights))
        large_times.append(seconds)
    return [
        runs.Finding(
            "many-classes",
            f"Largest excess of the variance of a fast prediction over the least one, {n} labels",
            "exact",
            float(((reached - least) / least).max()),
            "<=",
            TOLERANCE,
            baseline_name="dense product",
            detail=f"relative; 64 rows, {k} observed labels",
        ),
        runs.Finding(
            "many-classes",
            "Largest relative error of variances by rerooting on 200 labels",
            "exact",
            error,
            "<=",
            1e-6,
            baseline_name="dense product",
        ),
        runs.Finding(
            "many-classes",
            "Time of the dense product and argmin over that of the prediction on the tree",
            "empirical",
            ratio,
            ">",
            20.0,
            baseline=float(np.median(dense_times)),
            baseline_name="seconds of the dense product",
            unit="times",
            detail="in turn; both give the same labels, and the rows of distances were made before",
        ),
        runs.Finding(
            "many-classes",
            f"Seconds to prepare and predict 64 rows with {million} labels, without a matrix of labels",
            "empirical",
            mean_interval(large_times, unit="rounds"),
            "<",
            60.0,
            unit="s",
            detail=f"{len(set(large.tolist()))} different labels were predicted",
        ),
    ]


def _dense(weights: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    variances = weights @ rows
    return variances, variances.argmin(axis=1)


def _timed(call: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    found = call()
    return time.perf_counter() - began, found
