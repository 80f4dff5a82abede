"""Figures of the report and of the studies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from paperworks.metrics import mean_interval
from paperworks.papers.pruning_survey.bench import Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("#30588c", "#c0504d", "#4f8f4f", "#8064a2", "#c77f2c", "#3b9ab2", "#777777", "#222222")
MARKS = "osD^vPX*"


def variants_of(rows: Sequence[Row]) -> list[str]:
    """Names of the variants, in the order in which they come first."""
    return list(dict.fromkeys(row.variant for row in rows))


def ends(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of a mean accuracy over seeds, inside 0 to 1; the value twice where there is one."""
    if len(values) < 2:
        return values[0], values[0]
    found = mean_interval(values)
    return max(0.0, found.low), min(1.0, found.high)


def contrast_figure(rows: Sequence[Row], dense: float, title: str) -> Figure:
    """Accuracy at the end by the share that was removed: means over seeds, bars from low to high."""
    from matplotlib.figure import Figure

    ratios = sorted({row.ratio for row in rows})
    figure = Figure(figsize=(7.5, 4.2))
    axes = figure.subplots()
    names = variants_of(rows)
    for number, name in enumerate(names):
        means, low, high, places = [], [], [], []
        for place, ratio in enumerate(ratios):
            values = [row.accuracy for row in rows if row.variant == name and row.ratio == ratio]
            if values:
                means.append(float(np.mean(values)))
                low.append(means[-1] - min(values))
                high.append(max(values) - means[-1])
                places.append(place + (number - (len(names) - 1) / 2) * 0.05)
        axes.errorbar(
            places,
            means,
            yerr=[low, high],
            color=COLOURS[number % len(COLOURS)],
            marker=MARKS[number % len(MARKS)],
            markersize=5,
            capsize=2,
            linewidth=1.2,
            label=name,
        )
    axes.axhline(dense, color="#999999", linestyle="--", linewidth=1, label="dense")
    axes.set_xticks(range(len(ratios)), [f"{ratio:.3g}" for ratio in ratios])
    axes.set_xlabel("share removed")
    axes.set_ylabel("accuracy on test images")
    axes.set_ylim(0, 1.02)
    axes.set_title(title, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    figure.set_layout_engine("constrained")
    return figure


def bars_figure(names: Sequence[str], values: Sequence[Sequence[float]], dense: float, label: str) -> Figure:
    """One bar a method, the mean over seeds, with the seeds as points."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 0.32 * len(names) + 1.4))
    axes = figure.subplots()
    order = np.argsort([np.mean(v) for v in values])
    for place, index in enumerate(order):
        axes.barh(place, float(np.mean(values[index])), color=COLOURS[0], height=0.65)
        axes.plot(values[index], [place] * len(values[index]), ".", color="#222222", markersize=4)
    axes.axvline(dense, color="#999999", linestyle="--", linewidth=1)
    axes.set_yticks(range(len(names)), [names[i] for i in order], fontsize=8)
    axes.set_xlabel(f"{label} (dashed: dense)")
    axes.set_xlim(0, 1.02)
    axes.spines[["top", "right"]].set_visible(False)
    figure.set_layout_engine("constrained")
    return figure
