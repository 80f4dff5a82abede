"""Figures of the report: slices as a chart with examples, groups before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from paperworks.papers.ladder.backends.predicates import PredicateSlice
from paperworks.papers.ladder.slices import ErrorSlice

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WITH, WITHOUT, GREY = "#30588c", "#c0504d", "#999999"
MOST_BARS, THUMBNAILS = 12, 6


def slices_figure(slices: Sequence[ErrorSlice], thumbnails: Mapping[int, Sequence[np.ndarray]] | None = None) -> Figure:
    """Accuracy with and without each attribute, with examples of the slice where there are images.

    ``thumbnails``: position among ``slices`` -> uint8 images ``[h, w, 3]``.
    """
    from matplotlib.figure import Figure

    shown = list(slices)[:MOST_BARS]
    images = {k: v for k, v in (thumbnails or {}).items() if k < len(shown) and len(v)}
    figure = Figure(figsize=(9.5 if images else 7.5, 0.55 * len(shown) + 1.3))
    grid = figure.add_gridspec(max(len(shown), 1), 1 + THUMBNAILS if images else 1, width_ratios=_widths(bool(images)))
    axes = figure.add_subplot(grid[:, 0])
    for row, found in enumerate(shown):
        axes.plot([found.accuracy_without, found.accuracy_with], [row, row], color=GREY, linewidth=2, zorder=1)
        axes.plot([found.class_accuracy] * 2, [row - 0.3, row + 0.3], color=GREY, linewidth=1)
    rows = range(len(shown))
    axes.scatter([s.accuracy_without for s in shown], rows, color=WITHOUT, s=50, label="attribute missing", zorder=2)
    axes.scatter([s.accuracy_with for s in shown], rows, color=WITH, s=50, label="attribute present", zorder=2)
    axes.set_yticks(
        list(rows), [f"{_short(s.class_name)}: {_short(s.name)}{' *' if s.confirmed else ''}" for s in shown]
    )
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.set_xlim(-0.03, 1.03)
    axes.set_xlabel("accuracy (grey line: the whole class)")
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    for position, pictures in images.items():
        for column, picture in enumerate(pictures[:THUMBNAILS]):
            small = figure.add_subplot(grid[position, 1 + column])
            small.imshow(picture, interpolation="nearest")
            small.set_axis_off()
    figure.legend(loc="outside upper left", ncols=2, frameon=False, fontsize=9)
    figure.set_layout_engine("constrained")
    return figure


def groups_figure(accuracies: Mapping[str, Sequence[float]], groups: Sequence[str]) -> Figure:
    """Accuracy of each known group by method."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 3.3))
    axes = figure.subplots()
    width = 0.8 / len(accuracies)
    colours = (GREY, "#d8a13a", WITH, "#4f8f4f", WITHOUT)
    for number, (name, values) in enumerate(accuracies.items()):
        places = np.arange(len(groups)) + (number - (len(accuracies) - 1) / 2) * width
        axes.bar(places, values, width * 0.92, color=colours[number % len(colours)], label=name)
    axes.set_xticks(range(len(groups)), [_short(g, 26) for g in groups], fontsize=9)
    axes.set_ylabel("accuracy")
    axes.set_ylim(0, 1)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    figure.set_layout_engine("constrained")
    return figure


def predicates_figure(found: Sequence[PredicateSlice], error: float) -> Figure:
    """Error inside and outside of predicates."""
    from matplotlib.figure import Figure

    shown = list(found)[:MOST_BARS]
    figure = Figure(figsize=(7.5, 0.42 * len(shown) + 1.3))
    axes = figure.subplots()
    for row, one in enumerate(shown):
        axes.plot([one.error_outside, one.error], [row, row], color=GREY, linewidth=2, zorder=1)
    axes.scatter([s.error for s in shown], range(len(shown)), color=WITHOUT, s=45, label="inside", zorder=2)
    axes.scatter([s.error_outside for s in shown], range(len(shown)), color=WITH, s=45, label="outside", zorder=2)
    axes.axvline(error, color=GREY, linewidth=1, linestyle="--", label="all rows")
    names = [f"{_short(str(s), 48)}{' *' if s.confirmed else ''}" for s in shown]
    axes.set_yticks(range(len(shown)), names)
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.set_xlabel("share of wrong predictions")
    figure.legend(loc="outside upper left", ncols=3, frameon=False, fontsize=9)
    figure.set_layout_engine("constrained")
    return figure


def _widths(images: bool) -> list[float]:
    return [6.5, *[1.0] * THUMBNAILS] if images else [1.0]


def _short(text: Any, most: int = 24) -> str:
    # a dollar sign would begin a formula
    shown = str(text).replace("$", r"\$")
    return shown if len(shown) <= most else shown[: most - 1] + "…"
