"""Figures of the report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CHOSEN, REST = "#c2410c", "#b8c2cc"


def project(vectors: np.ndarray, seed: int) -> np.ndarray:
    """Two dimensions for looking at: t-SNE from the first principal components; those alone below 60 rows."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    vectors = np.asarray(vectors, np.float64)
    width = min(50, *vectors.shape)
    if width < 2 or not np.ptp(vectors, axis=0).any():
        return np.column_stack([vectors[:, 0] - vectors[:, 0].mean(), np.zeros(len(vectors))])
    with threadpool_limits(1):  # the order of sums, and so the picture, does not depend on the number of cores
        flat = PCA(width, random_state=seed).fit_transform(vectors)
        if len(vectors) < 60:
            return flat[:, :2]
        perplexity = min(30.0, len(vectors) / 4)
        scaled = flat[:, :2] / max(float(flat[:, 0].std()), 1e-12) * 1e-4
        return TSNE(2, init=scaled, perplexity=perplexity, random_state=seed, max_iter=500).fit_transform(flat)


def map_figure(points: np.ndarray, chosen: np.ndarray, labels: np.ndarray, names: dict[int, str]) -> Figure:
    """The map: all points in grey, chosen ones in colour, and the names of the largest clusters at their middle."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 7))
    axes = figure.subplots()
    axes.scatter(points[~chosen, 0], points[~chosen, 1], s=7, color=REST, linewidths=0, label="not chosen")
    axes.scatter(points[chosen, 0], points[chosen, 1], s=18, color=CHOSEN, linewidths=0, label="chosen")
    width, height = np.maximum(np.ptp(points, axis=0), 1e-9)
    placed: list[np.ndarray] = []
    for cluster, name in names.items():
        own = points[labels == cluster]
        if len(own) < 3:
            continue
        middle = own[np.square(own - np.median(own, axis=0)).sum(axis=1).argmin()]
        if any(abs(x - middle[0]) < 0.2 * width and abs(y - middle[1]) < 0.03 * height for x, y in placed):
            continue  # one name over another cannot be read
        placed.append(middle)
        axes.annotate(
            name,
            middle,
            fontsize=7.5,
            ha="center",
            va="center",
            bbox={"boxstyle": "round,pad=0.15", "facecolor": "white", "alpha": 0.8, "linewidth": 0},
        )
    axes.set_xticks([])
    axes.set_yticks([])
    axes.legend(loc="lower right", markerscale=1.6, fontsize=8)
    return figure


def quality_figure(quality: np.ndarray, chosen: np.ndarray, name: str) -> Figure:
    """Histograms of quality: the pool and the choice, each with area 1."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3))
    axes = figure.subplots()
    low, high = np.quantile(quality, [0.005, 0.995])
    bins: Any = np.linspace(low, high, 26) if high > low else 10
    axes.hist(np.clip(quality, low, high), bins, density=True, color=REST, label="pool")
    axes.hist(
        np.clip(quality[chosen], low, high),
        bins,
        density=True,
        histtype="step",
        color=CHOSEN,
        linewidth=1.6,
        label="chosen",
    )
    axes.set_xlabel(f"quality ({name})")
    axes.set_ylabel("density")
    axes.legend(fontsize=8)
    return figure


def weights_figure(history: np.ndarray, names: dict[int, str], most: int = 6) -> Figure:
    """Weight of clusters over the rounds, relative to the first: those that rose or fell most."""
    from matplotlib.figure import Figure

    relative = history / np.maximum(history[0], 1e-12)
    used = np.flatnonzero(history[0] > 0)
    order = used[np.argsort(relative[-1, used], kind="stable")]
    shown = np.unique(np.concatenate([order[: most // 2], order[-most // 2 :]]))
    figure = Figure(figsize=(8, 4))
    axes = figure.subplots()
    for cluster in used:
        axes.plot(relative[:, cluster], color=REST, linewidth=0.7)
    for cluster in sorted(shown, key=lambda j: -relative[-1, j]):
        axes.plot(relative[:, cluster], marker="o", markersize=3, label=f"{cluster}: {names.get(int(cluster), '')}")
    axes.set_xticks(range(len(history)))
    axes.set_xlabel("rounds of feedback")
    axes.set_ylabel("weight / first weight")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:.3g}")
    axes.yaxis.set_minor_formatter("{x:.3g}")
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def clusters_figure(values: dict[int, float], measure: str) -> Figure:
    """The ``measure``, silhouette or inertia, of each number of clusters tried."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogFormatter

    figure = Figure(figsize=(5, 3))
    axes = figure.subplots()
    axes.plot(list(values), list(values.values()), marker="o", color=CHOSEN)
    axes.set_xscale("log", base=2)
    axes.set_xticks(list(values), [str(k) for k in values])
    axes.minorticks_off()
    axes.set_xlabel("clusters")
    axes.set_ylabel(measure)
    if measure == "inertia":
        axes.set_yscale("log")  # as the elbow is found
        axes.yaxis.set_major_formatter("{x:.3g}")
        axes.yaxis.set_minor_formatter(LogFormatter(labelOnlyBase=False, minor_thresholds=(2, 0.5)))
    return figure
