"""Figures of the report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

S3T_COLOR, SISA_COLOR = "#30588c", "#c0692b"


def requests_figure(s3t: np.ndarray, sisa: np.ndarray, expected: float, expected_sisa: float) -> Figure:
    """Requests served before a retraining: histograms of simulated streams, and the closed forms."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.4))
    axes = figure.subplots()
    last = max((float(values.max()) for values in (s3t, sisa) if np.isfinite(values).all()), default=0.0)
    bins = np.linspace(0, last + 1, 40).tolist()
    pairs = (("SISA", sisa, expected_sisa, SISA_COLOR), ("S3T", s3t, expected, S3T_COLOR))
    for name, values, mean, color in pairs:
        if not np.isfinite(mean):
            axes.plot([], [], color=color, linewidth=2, label=f"{name}: never due, by these risks")
            continue
        axes.hist(values, bins=bins, color=color, alpha=0.5, label=f"{name}: simulated, mean {values.mean():.1f}")
        axes.axvline(mean, color=color, linewidth=2, label=f"{name}: closed form {mean:.1f}")
    axes.set_xlabel("requests served before a retraining is due")
    axes.set_ylabel(f"streams of {len(s3t)}")
    axes.legend(fontsize=8)
    return figure


def timeline_figure(depth: np.ndarray, names: Sequence[str], n_slices: int) -> Figure:
    """Live blocks of every sequence after each request: ``depth`` int64 ``[requests + 1, sequences]``."""
    from matplotlib.colors import BoundaryNorm
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 0.28 * len(names) + 1.6))
    axes = figure.subplots()
    colors = _colors(n_slices)
    edges = np.arange(n_slices + 2) - 0.5
    image = axes.pcolormesh(
        np.arange(len(depth) + 1) - 0.5,
        np.arange(len(names) + 1),
        depth.T,
        cmap=colors,
        norm=BoundaryNorm(edges, n_slices + 1),
        edgecolors="white",
        linewidth=0.3 if len(depth) < 120 else 0,
    )
    axes.set_yticks(np.arange(len(names)) + 0.5, names, fontsize=8, family="monospace")
    axes.invert_yaxis()
    axes.set_xlabel("requests")
    bar = figure.colorbar(image, ax=axes, ticks=range(n_slices + 1), pad=0.02)
    bar.set_label("live blocks")
    return figure


def decline_figure(s3t: np.ndarray, sisa: np.ndarray, full: float | None, chance: float) -> Figure:
    """Accuracy after each request: means over streams, and their middle halves; ``[streams, requests + 1]``."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.4))
    axes = figure.subplots()
    x = np.arange(s3t.shape[1])
    for name, values, color in (("S3T", s3t, S3T_COLOR), ("SISA (one order)", sisa, SISA_COLOR)):
        low, high = np.quantile(values, [0.25, 0.75], axis=0)
        axes.plot(x, values.mean(0), color=color, label=name)
        axes.fill_between(x, low, high, color=color, alpha=0.2, linewidth=0)
    if full is not None:
        axes.axhline(full, color="#666666", linestyle="--", linewidth=1, label="one fine-tuning on all records")
    axes.axhline(chance, color="#999999", linestyle=":", linewidth=1, label="chance: no shard is live")
    axes.set_xlabel("requests, nothing trained in between")
    axes.set_ylabel("accuracy on held-out records")
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=8, loc="upper right", bbox_to_anchor=(1, 0.9))
    return figure


def _colors(n_slices: int) -> Colormap:
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    shades = colormaps["Blues"](np.linspace(0.3, 0.95, n_slices))
    return ListedColormap([(0.87, 0.87, 0.87, 1.0), *map(tuple, shades)])
