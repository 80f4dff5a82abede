"""The report's pictures: rows and dimensions of the fields, the search, and the rows' norms beside the thresholds."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from paperworks.papers.optembed.evolution import Found

BLUE, ORANGE, GREY = "#2f6db5", "#d9822b", "#9a9a9a"
MOST_FIELDS = 40


def fields_figure(fields: list[dict[str, Any]], dim: int) -> Figure:
    """The table of every field as a rectangle: kept rows wide, dimension high, in front of the full one."""
    shown = sorted(fields, key=lambda f: -f["rows"])[:MOST_FIELDS]
    figure = Figure(figsize=(7.5, 0.9 + 0.3 * len(shown)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    places = np.arange(len(shown))[::-1]
    left.barh(places, [f["rows"] for f in shown], color="#e3e3e3", label="values")
    left.barh(places, [f["rows_kept"] for f in shown], color=BLUE, height=0.5, label="rows kept")
    left.set_xscale("symlog")
    left.set_yticks(places, [_short(f["field"]) for f in shown])
    left.set_xlabel("rows (logarithmic)")
    left.legend(loc="lower right", fontsize=8, frameon=False)
    right.barh(places, [dim] * len(shown), color="#e3e3e3")
    right.barh(places, [f["dimension"] for f in shown], color=ORANGE, height=0.5)
    right.set_xlabel(f"dimension, of {dim}")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def search_figure(found: Found, dense: tuple[int, float] | None) -> Figure:
    """Every candidate by parameters and validation AUC; and the best by generation."""
    figure = Figure(figsize=(7.5, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    sizes, scores = [s for _, _, s in found.scored], [v for _, v, _ in found.scored]
    left.scatter(sizes, scores, s=14, color=GREY, label="candidates")
    best = max(found.scored, key=lambda c: c[1])
    left.scatter([best[2]], [best[1]], s=60, color=ORANGE, zorder=3, label="chosen")
    if dense is not None:
        left.scatter([dense[0]], [dense[1]], s=60, marker="D", color=BLUE, zorder=3, label="all dimensions")
    left.set_xlabel("parameters of the table")
    left.set_ylabel("validation AUC of the supernet")
    left.legend(fontsize=8, frameon=False)
    right.plot(np.arange(1, len(found.by_generation) + 1), found.by_generation, color=ORANGE, marker="o", markersize=3)
    right.set_xlabel("generation")
    right.set_ylabel("best so far")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def thresholds_figure(history: list[dict[str, float]], norm: int) -> Figure:
    """Quantiles of the rows' norms and the range of thresholds, by epoch: what is above is kept."""
    figure = Figure(figsize=(7.5, 3), layout="constrained")
    axes = figure.subplots()
    epochs = [h["epoch"] for h in history]
    axes.fill_between(epochs, [h["norm_10%"] for h in history], [h["norm_90%"] for h in history], color=BLUE, alpha=0.2)
    axes.plot(epochs, [h["norm_50%"] for h in history], color=BLUE, marker="o", label="norm of a row: 10, 50, 90%")
    axes.fill_between(
        epochs, [h["threshold_min"] for h in history], [h["threshold_max"] for h in history], color=ORANGE, alpha=0.3
    )
    axes.plot(
        epochs, [h["threshold_mean"] for h in history], color=ORANGE, marker="o", label="threshold: least, mean, most"
    )
    axes.set_xlabel("epoch of the supernet")
    axes.set_ylabel(f"L{norm} norm")
    axes.set_xticks(epochs)
    axes.legend(fontsize=8, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _short(name: str) -> str:
    return name if len(name) <= 24 else name[:22] + "..."
