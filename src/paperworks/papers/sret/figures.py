"""Figures of the report: groups of tokens on an image, cost and accuracy of networks, the loss, and predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from paperworks.papers.sret.modeling import SReTForImageClassification

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("#30588c", "#c0504d", "#4f8f4f", "#8064a2", "#d98b1f", "#3a9aa8", "#7f6044", "#999999")


def group_maps(model: SReTForImageClassification, stage: int = 0) -> list[tuple[str, np.ndarray]]:
    """Title and group of each token, int64 ``[H_s, W_s]``, for the passes of a stage's first block."""
    config: Any = model.config
    stages: Any = model.sret.stages
    stack, shape = stages[stage], config.grids[stage]
    tokens = shape[0] * shape[1]
    found = []
    for number, (block, turn) in enumerate(stack.schedule):
        if block:
            continue
        groups = stack.groups[min(turn, 1)]
        place = np.arange(tokens)
        if turn and groups > 1 and stack.permute != "none":
            from paperworks.papers.sret.recursion import fixed_permutation

            place = np.argsort(fixed_permutation(tokens, stack.seed, number).numpy())
        count = f"{groups} group{'s' * (groups > 1)}"
        found.append((f"pass {turn + 1}: {count}", (place // (tokens // groups)).reshape(shape)))
    return found


def groups_figure(image: np.ndarray, model: SReTForImageClassification) -> Figure:
    """An image ``[c, h, w]`` in [0, 1] with its tokens coloured by group, for the first passes of the first stage."""
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure

    maps = group_maps(model)[:3]
    shown = image[0] if len(image) == 1 else np.moveaxis(image, 0, -1)
    figure = Figure(figsize=(2.3 * (len(maps) + 1), 2.6))
    axes = figure.subplots(1, len(maps) + 1)
    extent = (0, image.shape[2], image.shape[1], 0)
    axes[0].imshow(shown, cmap="gray", vmin=0, vmax=1, extent=extent, interpolation="nearest")
    axes[0].set_title("image", fontsize=10)
    for place, (title, groups) in zip(axes[1:], maps, strict=True):
        # lighter than it is, so that colours show on black
        place.imshow(0.45 + 0.55 * shown, cmap="gray", vmin=0, vmax=1, extent=extent, interpolation="nearest")
        colours = ListedColormap(COLOURS[: max(2, min(len(COLOURS), int(groups.max()) + 1))])
        place.imshow(groups % len(COLOURS), cmap=colours, alpha=0.6, extent=extent, interpolation="nearest")
        place.set_title(title, fontsize=10)
    for place in axes:
        place.set_xticks([])
        place.set_yticks([])
    figure.set_layout_engine("constrained")
    return figure


def networks_figure(rows: Sequence[tuple[str, int, int, tuple[float, float, float]]]) -> Figure:
    """Parameters, multiply-adds and accuracy (with its interval) of networks, side by side.

    ``rows``: name, parameters, multiply-adds, and accuracy with both ends of its interval.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 0.55 * len(rows) + 1.3))
    axes = figure.subplots(1, 3, sharey=True)
    place = np.arange(len(rows))
    names = [name for name, *_ in rows]
    axes[0].barh(place, [parameters / 1e3 for _, parameters, _, _ in rows], color=COLOURS[0])
    axes[0].set_xlabel("parameters, thousands")
    axes[1].barh(place, [macs / 1e6 for _, _, macs, _ in rows], color=COLOURS[0])
    axes[1].set_xlabel("multiply-adds, millions")
    centre = np.array([row[3][0] for row in rows])
    ends = np.array([[row[3][0] - row[3][1], row[3][2] - row[3][0]] for row in rows]).T
    axes[2].errorbar(centre, place, xerr=np.maximum(ends, 0), fmt="o", color=COLOURS[1], capsize=3)
    axes[2].set_xlabel("accuracy on test images (95 %)")
    axes[0].set_yticks(place, names)
    axes[0].invert_yaxis()
    figure.set_layout_engine("constrained")
    return figure


def losses_figure(losses: Mapping[str, np.ndarray]) -> Figure:
    """Loss of every training by step, as a moving mean."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.2))
    axes = figure.subplots()
    for (name, values), colour in zip(losses.items(), COLOURS, strict=False):
        width = max(1, len(values) // 50)
        smooth = np.convolve(values, np.ones(width) / width, "valid")
        axes.plot(np.arange(len(smooth)) + width, smooth, color=colour, label=name)
    axes.set_xlabel("step")
    axes.set_ylabel("loss, nats")
    axes.set_yscale("log")
    axes.legend(frameon=False, fontsize=9)
    figure.set_layout_engine("constrained")
    return figure


def predictions_figure(images: np.ndarray, said: Sequence[str], right: np.ndarray, most: int = 16) -> Figure:
    """Test images ``[n, c, h, w]`` with what the network says, those that it gets wrong in front and in red."""
    from matplotlib.figure import Figure

    order = np.argsort(right, kind="stable")[:most]
    columns, step = 8, 1.25
    lines = -(-len(order) // columns)
    figure = Figure(figsize=(9, 1.45 * lines))
    axes = figure.subplots()  # one for all: axes cost more than images
    axes.axis("off")
    height, width = (side / max(images.shape[2:]) for side in images.shape[2:])
    for number, row in enumerate(order):
        x, y = number % columns, step * (lines - 1 - number // columns)
        shown = images[row][0] if images.shape[1] == 1 else np.moveaxis(images[row], 0, -1)
        extent = (x - width / 2, x + width / 2, y - height / 2, y + height / 2)
        axes.imshow(shown, cmap="gray", vmin=0, vmax=1, interpolation="nearest", extent=extent)
        colour = "black" if right[row] else COLOURS[1]
        axes.text(x, y + 0.53, said[row], fontsize=8, color=colour, ha="center", va="bottom")
    axes.set(xlim=(-0.6, columns - 0.4), ylim=(-0.6, step * lines - 0.4), aspect="equal")
    figure.set_layout_engine("constrained")
    return figure
