"""Figures of the report and of the studies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from paperworks.papers.unlearnable.evaluation import CLEAN_PART

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("#30588c", "#999999", "#c0504d", "#4f8f4f", "#8064a2")


def examples_figure(before: np.ndarray, after: np.ndarray, labels: np.ndarray, most: int = 8) -> Figure:
    """Images of different classes before, after, and their change. ``[n, c, h, w]`` in [0, 1]."""
    from matplotlib.figure import Figure

    _, first = np.unique(labels, return_index=True)
    chosen = first[:most]
    figure = Figure(figsize=(1.1 * len(chosen) + 1.0, 3.6))
    axes = figure.subplots(3, len(chosen), squeeze=False)
    largest = max(float(np.abs(after[chosen] - before[chosen]).max()), 1e-6)
    for column, row in enumerate(chosen):
        change = (after[row] - before[row]) / largest / 2 + 0.5
        for place, image in enumerate((before[row], after[row], change)):
            shown = image[0] if len(image) == 1 else np.moveaxis(image, 0, -1)
            axes[place][column].imshow(shown, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axes[place][column].set_xticks([])
            axes[place][column].set_yticks([])
    for place, name in enumerate(("before", "after", f"change\n(±{largest:.2g})")):
        axes[place][0].set_ylabel(name)
    figure.tight_layout()
    return figure


def ascent_figure(history: Sequence[dict[str, float]], ceiling: float) -> Figure:
    """Estimate of the Bayes error and accuracy of the surrogate by step."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.2))
    axes = figure.subplots()
    steps = range(1, len(history) + 1)
    axes.plot(steps, [h["bayes_error"] for h in history], color=COLOURS[0], label="Bayes error, estimate")
    axes.plot(
        steps, [h["surrogate_accuracy"] for h in history], color=COLOURS[2], label="surrogate's accuracy on its own set"
    )
    axes.axhline(ceiling, color="#888888", linestyle="--", label="features that say nothing")
    axes.set_xlabel("step")
    axes.set_ylim(0, 1.02)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    figure.set_layout_engine("constrained")
    return figure


def mixture_figure(table: pd.DataFrame, clean: float) -> Figure:
    """Accuracy on clean samples and on the training set itself by the share of changed samples, per method."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.6))
    left, right = figure.subplots(1, 2, sharex=True)
    methods = [name for name in table["method"].unique() if name != "clean"]
    for name, colour in zip(methods, COLOURS, strict=False):
        means = table[table["method"] == name].groupby("ratio")[["test_accuracy", "training_accuracy"]].mean()
        style = "--" if name == CLEAN_PART else "-"
        left.plot(means.index, means["test_accuracy"], style, color=colour, marker="o", label=name)
        right.plot(means.index, means["training_accuracy"], style, color=colour, marker="o")
    left.axhline(clean, color="#888888", linewidth=1, label="all clean")
    left.set_ylabel("accuracy on clean images")
    right.set_ylabel("accuracy on its own training set")
    for axes in (left, right):
        axes.set_xlabel("share of changed images")
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    figure.set_layout_engine("constrained")
    return figure
