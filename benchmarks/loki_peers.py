"""Loki beside argmax, expected distance and HiClass on digits with unseen classes; the tree path beside the dense one.

    python benchmarks/loki_peers.py [--draws 20]

Writes docs/benchmarks/loki.md. HiClass (Miranda et al. 2023) trains one classifier per parent node of the tree. The
tree is the average linkage of the class means of the training rows: all rules get the same tree. About two minutes.
"""

from __future__ import annotations

import argparse
import platform
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from hiclass import LocalClassifierPerParentNode
from scipy.cluster.hierarchy import linkage
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from paperworks.metrics import mean_interval
from paperworks.papers.loki import FrechetMean, LokiClassifier, TreeSpace, from_edges, random_tree
from paperworks.papers.loki.evaluation import restricted
from paperworks.runs.files import write_text

OUTPUT = Path(__file__).parent.parent / "docs" / "benchmarks" / "loki.md"


def class_tree(means: np.ndarray) -> TreeSpace:
    """The average-linkage tree of class means; leaves are the classes, edges have length 1."""
    merges, n = linkage(means, "average"), len(means)
    # from the last merge on, so that the tree is rooted there
    edges = [(f"node {n + k}", name(int(c), n)) for k, row in reversed(list(enumerate(merges))) for c in row[:2]]
    space = from_edges(edges)
    assert isinstance(space, TreeSpace)
    return space


def name(node: int, n: int) -> str:
    """A class, or an inner node of the tree."""
    return str(node) if node < n else f"node {node}"


def paths(space: TreeSpace, labels: list[str]) -> np.ndarray:
    """The nodes from below the root to each label, padded with empty text: what HiClass takes."""
    rows = []
    for label in labels:
        node, row = int(space.node[space.index([label])[0]]), []
        while node >= 0:
            row.append(str(space.labels[int(space.label_of_node[node])]))
            node = int(space.parent[node])
        rows.append(row[::-1])
    width = max(map(len, rows))
    return np.array([r + [""] * (width - len(r)) for r in rows], dtype=object)


def quality(draws: int) -> dict[str, list[tuple[float, float, float]]]:
    """Mean squared tree distance, accuracy and seconds of fitting and predicting, for each draw of observed classes."""
    x, y = load_digits(return_X_y=True)
    x = x / 16
    found: dict[str, list[tuple[float, float, float]]] = {}
    for draw in range(draws):
        rng = np.random.default_rng(draw)
        order = rng.permutation(len(y))
        train, test = order[: len(y) // 2], order[len(y) // 2 :]
        space = class_tree(np.stack([x[train][y[train] == c].mean(axis=0) for c in range(10)]))
        observed = np.sort(rng.choice(10, 6, replace=False))
        kept = train[np.isin(y[train], observed)]
        labels, truth = y[kept].astype(str), space.index(y[test].astype(str))
        leaves = space.index([str(c) for c in range(10)])
        began = time.perf_counter()
        loki = LokiClassifier(LogisticRegression(max_iter=1000), space).fit(x[kept], labels)
        weights = loki.weights(x[test])
        fitted = time.perf_counter() - began
        mean = loki.frechet_mean_
        rules: dict[str, Callable[[], np.ndarray]] = {
            "argmax": lambda m=mean, w=weights: m.observed[w.argmax(axis=1)],
            "least expected distance": lambda m=mean, w=weights: m.expected_cost(w, 1),
            "Loki": lambda m=mean, w=weights: m.predict(w),
            "Loki, leaves only": lambda m=mean, w=weights, a=leaves: restricted(m, w, a),
        }
        for rule, predict in rules.items():
            began = time.perf_counter()
            predicted = predict()
            seconds = fitted + time.perf_counter() - began
            found.setdefault(rule, []).append(_figures(space, truth, predicted, seconds))
        began = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            peer = LocalClassifierPerParentNode(LogisticRegression(max_iter=1000))
            peer.fit(x[kept], paths(space, labels.tolist()))
            last = [[cell for cell in row if cell][-1] for row in peer.predict(x[test]).tolist()]
        seconds = time.perf_counter() - began
        found.setdefault("HiClass, per parent node", []).append(_figures(space, truth, space.index(last), seconds))
    return found


def _figures(space: TreeSpace, truth: np.ndarray, predicted: np.ndarray, seconds: float) -> tuple[float, float, float]:
    return float((space.paired(predicted, truth) ** 2).mean()), float((predicted == truth).mean()), seconds


def speed(n: int, k: int) -> list[tuple[str, float]]:
    """Seconds for 64 rows: medians of five timings in turn."""
    rng = np.random.default_rng(0)
    tree = random_tree(n, rng)
    observed = rng.choice(n, k, replace=False)
    weights = rng.dirichlet(np.full(k, 0.05), size=64)
    rows = tree.squared(observed)
    mean = FrechetMean(tree, observed)
    calls: dict[str, Callable[[], Any]] = {
        "prediction between observed labels": lambda: mean.predict(weights),
        "rerooting, all variances": lambda: mean.variances(weights),
        "dense product and argmin": lambda: (weights @ rows).argmin(axis=1),
    }
    for call in calls.values():
        call()
    times: dict[str, list[float]] = {what: [] for what in calls}
    for _ in range(5):
        for what, call in calls.items():
            began = time.perf_counter()
            call()
            times[what].append(time.perf_counter() - began)
    assert (mean.predict(weights) == calls["dense product and argmin"]()).all()
    return [(what, float(np.median(values))) for what, values in times.items()]


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=20)
    draws = parser.parse_args().draws
    found = quality(draws)
    lines = [
        "# Loki beside its peers",
        "",
        f"`python benchmarks/loki_peers.py --draws {draws}`, {platform.machine()}, scikit-learn "
        f"{version('scikit-learn')}, HiClass {version('hiclass')}.",
        "",
        f"Digits, 6 of 10 classes observed, {draws} draws; the tree is the average linkage of the class means. "
        "Costs are squared tree distances on held-out rows of all classes.",
        "",
        "| rule | mean squared distance (95 %) | accuracy | seconds |",
        "| --- | --- | --- | --- |",
    ]
    for rule, rows in found.items():
        values = np.array(rows)
        cost = mean_interval(values[:, 0], unit="draws")
        seconds = np.median(values[:, 2])
        lines.append(
            f"| {rule} | {cost.estimate:.2f} ({cost.low:.2f} to {cost.high:.2f}) | {values[:, 1].mean():.3f} "
            f"| {seconds:.2f} |"
        )
    lines += ["", "A random tree of 200,000 labels, 1,000 observed, 64 rows; medians of five timings in turn.", ""]
    lines += ["| what | seconds | dense / this |", "| --- | --- | --- |"]
    measured = speed(200_000, 1000)
    dense = dict(measured)["dense product and argmin"]
    lines += [f"| {what} | {seconds:.4f} | {dense / seconds:.1f} |" for what, seconds in measured]
    lines += ["", "All three give the same labels. The rows of distances of the dense product were made before."]
    write_text(OUTPUT, "\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
