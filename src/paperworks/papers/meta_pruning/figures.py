"""Figures of the report and of the studies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("#999999", "#30588c", "#c0504d", "#4f8f4f", "#8064a2")


def curves_figure(
    speeds: Sequence[float], curves: Mapping[str, np.ndarray], bands: Mapping[str, np.ndarray] | None = None
) -> Figure:
    """Accuracy against speed-up, one line a network; ``bands`` are half widths around them."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.8))
    axes = figure.subplots()
    for colour, (name, curve) in zip(COLOURS, curves.items(), strict=False):
        axes.plot(speeds, curve, color=colour, marker="o", markersize=3, label=name)
        if bands and name in bands:
            axes.fill_between(speeds, curve - bands[name], curve + bands[name], color=colour, alpha=0.15, linewidth=0)
    axes.set_xlabel("dense over kept multiply-accumulates")
    axes.set_ylabel("accuracy")
    axes.set_ylim(0, 1)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8)
    figure.tight_layout()
    return figure


def history_figure(rows: Sequence[Mapping[str, float]], best: int) -> Figure:
    """The selection network's score and the cross-entropy of edited networks, by epoch."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.4))
    axes = figure.subplots()
    shown = [row for row in rows if "score" in row]
    axes.plot([r["epoch"] for r in shown], [r["score"] for r in shown], color=COLOURS[2], marker="o", markersize=3)
    axes.axvline(best, color=COLOURS[2], linestyle=":", linewidth=1)
    axes.set_xlabel("epoch of meta-training")
    axes.set_ylabel("mean of the accuracy curve", color=COLOURS[2])
    other = axes.twinx()
    other.plot([r["epoch"] for r in rows], [r["cross_entropy"] for r in rows], color=COLOURS[1], linewidth=1)
    other.set_ylabel("cross-entropy after the edit", color=COLOURS[1])
    figure.tight_layout()
    return figure
