"""Drawings of solutions: tours, hulls and triangulations, each beside what is exact."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from paperworks.papers.pointer_networks.triangulations import as_triangles

Points = NDArray[np.float64]
EXACT, OURS = "0.72", "tab:blue"


def draw_solutions(
    problem: str,
    names: Sequence[str],
    points: Sequence[Points],
    outputs: Sequence[list[int]],
    references: Sequence[list[int] | None],
) -> Figure:
    """One panel per instance: the output in blue over the reference (optimum or exact solution) in grey."""
    columns = min(3, len(points))
    rows = -(-len(points) // columns)
    figure = Figure(figsize=(4 * columns, 4 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat[len(points) :]:
        axes.set_visible(False)
    for axes, name, p, output, reference in zip(grid.flat, names, points, outputs, references, strict=False):
        if reference is not None:
            _draw(axes, problem, p, reference, color=EXACT, linewidth=5, label="exact or reference")
        _draw(axes, problem, p, output, color=OURS, linewidth=1.5, label="network")
        axes.plot(p[:, 0], p[:, 1], "o", color="black", markersize=4)
        axes.set_title(name, fontsize=10)
        axes.set_aspect("equal")
        axes.tick_params(labelsize=7)
    # Above all drawings: within one of them it would cover points.
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False)
    return figure


def _draw(axes: Axes, problem: str, points: Points, output: list[int], *, label: str, **style: object) -> None:
    if problem == "delaunay":
        for number, triangle in enumerate(sorted(as_triangles(output))):
            corners = points[[*triangle, triangle[0]]]
            axes.plot(corners[:, 0], corners[:, 1], label=label if number == 0 else None, **style)  # type: ignore[arg-type]
        return
    cycle = points[[*output, output[0]]] if output else points[:0]
    axes.plot(cycle[:, 0], cycle[:, 1], label=label, **style)  # type: ignore[arg-type]


def loss_curve(losses: Sequence[float]) -> Figure:
    """The training loss per step, smoothed over a hundredth of the training."""
    figure = Figure(figsize=(6, 3.2), layout="constrained")
    axes = figure.subplots()
    width = max(1, len(losses) // 100)
    smooth = np.convolve(losses, np.ones(width) / width, mode="valid")
    axes.plot(np.arange(width, len(losses) + 1), smooth, color=OURS)
    axes.set_xlabel("step")
    axes.set_ylabel("loss per output, nats")
    axes.set_yscale("log")
    return figure
