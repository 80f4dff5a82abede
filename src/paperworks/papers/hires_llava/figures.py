"""Figures of the report and of the studies: images with their cuts drawn, heat maps of the nine positions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from paperworks.papers.hires_llava.fragmentation import FragmentationReport, ImageFragmentation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, RED, GREY, GREEN = "#30588c", "#c0504d", "#999999", "#4f8f4f"


def cuts_figure(report: FragmentationReport, names: Sequence[str], most: int = 4) -> Figure:
    """Images with their cuts drawn, and below how much each token changes when the cut is not there.

    ``names`` are those of all images that were given, of which some may have no cut.
    """
    from matplotlib.figure import Figure

    chosen = report.images[:most]
    figure = Figure(figsize=(2.1 * len(chosen) + 0.9, 4.6), layout="constrained")
    axes = figure.subplots(2, len(chosen), squeeze=False)
    known = np.concatenate([one.change[~np.isnan(one.change)] for one in chosen])
    largest = float(np.quantile(known, 0.98))
    shown = None
    for column, one in enumerate(chosen):
        _draw_image(axes[0][column], one)
        axes[0][column].set_title(names[one.number][-22:], fontsize=8)
        height, width = one.canvas.shape[:2]
        axes[1][column].imshow(one.canvas, alpha=0.25)
        shown = axes[1][column].imshow(
            one.change, cmap="magma_r", vmin=0, vmax=largest, extent=(0, width, height, 0), interpolation="nearest"
        )
        _bare(axes[1][column])
    axes[0][0].set_ylabel("cut into slices", fontsize=9)
    axes[1][0].set_ylabel("change of tokens", fontsize=9)
    assert shown is not None
    figure.colorbar(shown, ax=axes[1, :].tolist(), shrink=0.8, label="|a - b| / |b|")
    return figure


def positions_figure(tables: Mapping[str, np.ndarray]) -> Figure:
    """Accuracy at the nine positions as a 3 x 3 heat map each, with the cuts drawn through it."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.5 * len(tables) + 0.8, 2.9), layout="constrained")
    axes = figure.subplots(1, len(tables), squeeze=False)[0]
    shown = None
    for axis, (name, table) in zip(axes, tables.items(), strict=True):
        shown = axis.imshow(table, cmap="viridis", vmin=0, vmax=1)
        for row in range(3):
            for column in range(3):
                value = table[row, column]
                if not np.isnan(value):
                    colour = "white" if value < 0.6 else "black"
                    axis.text(column, row, f"{value:.0%}", ha="center", va="center", color=colour, fontsize=10)
        # the cuts run through the middle row and the middle column
        axis.axhline(1, color="#ff5555", linestyle=":", linewidth=1.2, zorder=0.5)
        axis.axvline(1, color="#ff5555", linestyle=":", linewidth=1.2, zorder=0.5)
        axis.set_title(name, fontsize=9)
        _bare(axis)
    assert shown is not None
    figure.colorbar(shown, ax=axes.tolist(), shrink=0.8, label="accuracy")
    return figure


def profile_figure(report: FragmentationReport) -> Figure:
    """Change of tokens by distance from the nearest cut, beside the change mid-window."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 2.9), layout="constrained")
    axis = figure.subplots()
    axis.bar(range(len(report.profile)), report.profile, color=BLUE, width=0.7)
    axis.axhline(report.middle, color=GREY, linestyle="--", label="a window that moves, no cut near")
    axis.set_xticks(range(len(report.profile)))
    axis.set_xlabel("patches from the nearest cut")
    axis.set_ylabel("change of a token")
    axis.legend(frameon=False, fontsize=8)
    return figure


def canvas_figure(canvases: Sequence[np.ndarray], titles: Sequence[str]) -> Figure:
    """Canvases of EntityGrid with the cuts drawn."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.7 * len(canvases), 2.0), layout="constrained")
    axes = figure.subplots(1, len(canvases), squeeze=False)[0]
    for axis, canvas, title in zip(axes, canvases, titles, strict=True):
        axis.imshow(canvas)
        half = canvas.shape[0] / 2 - 0.5
        axis.axhline(half, color=RED, linewidth=1)
        axis.axvline(half, color=RED, linewidth=1)
        axis.set_title(title, fontsize=8)
        _bare(axis)
    return figure


def _draw_image(axis: Axes, one: ImageFragmentation) -> None:
    axis.imshow(one.canvas)
    side = one.placement.side
    for row in range(1, one.placement.grid[0]):
        axis.axhline(row * side - 0.5, color=RED, linewidth=1.2)
    for column in range(1, one.placement.grid[1]):
        axis.axvline(column * side - 0.5, color=RED, linewidth=1.2)
    _bare(axis)


def _bare(axis: Axes) -> None:
    axis.set_xticks([])
    axis.set_yticks([])
