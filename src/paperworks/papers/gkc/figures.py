"""Figures of the report: overlays of trained and of asked names, and the losses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from paperworks.papers.gkc.segments import Scene

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 8
PALETTE = ("#e0218a", "#00b3b3", "#ff8c1a", "#7b3fbf", "#8fbf1a", "#b5651d", "#5c9ded", "#d4b400", "#6b8e6b", "#c94f4f")
"""None of the first ones is plain red, green, blue or yellow, which names themselves may speak of."""


def overlay_figure(scenes: Sequence[Scene], classes: Sequence[np.ndarray], names: Sequence[str], shown: int) -> Figure:
    """Images above, and below the same with the pixels of the first ``shown`` classes in colour, with a legend.

    Images in which a shown class was found come first.

    Parameters
    ----------
    classes : class of each pixel of each image, int ``[H, W]``.
    names : of the classes.
    """
    from matplotlib.colors import to_rgb
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    found = [len({int(c) for c in np.unique(m) if 0 <= c < shown}) for m in classes]
    order = sorted(range(len(scenes)), key=lambda n: -found[n])[:MOST]
    figure = Figure(figsize=(1.55 * max(len(order), 3), 3.9), layout="constrained")
    axes = figure.subplots(2, len(order), squeeze=False)
    colours = [to_rgb(PALETTE[n % len(PALETTE)]) for n in range(len(names))]
    present: set[int] = set()
    for column, n in enumerate(order):
        image = scenes[n].image.astype(float) / 255
        axes[0][column].imshow(image, interpolation="nearest")
        grey = image.mean(2, keepdims=True).repeat(3, 2) * 0.55 + 0.35
        for number in (int(c) for c in np.unique(classes[n]) if 0 <= c < shown):
            mask = classes[n] == number
            grey[mask] = 0.35 * grey[mask] + 0.65 * np.asarray(colours[number])
            present.add(number)
        axes[1][column].imshow(grey.clip(0, 1), interpolation="nearest")
        for axis in (axes[0][column], axes[1][column]):
            axis.axis("off")
    listed = sorted(present)[:12] or list(range(min(shown, 12)))
    handles = [Patch(color=colours[n], label=names[n]) for n in listed]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(4, len(handles)), fontsize=8, frameon=False)
    return figure


def loss_figure(losses: Sequence[float]) -> Figure:
    """The loss by step, and its running mean over a tenth of the steps."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.4, 2.6), layout="constrained")
    axis = figure.subplots()
    axis.plot(losses, color="#c8d2e0", linewidth=0.8)
    window = max(1, len(losses) // 10)
    smooth = np.convolve(losses, np.ones(window) / window, mode="valid")
    axis.plot(np.arange(len(smooth)) + window - 1, smooth, color="#30588c", linewidth=1.6)
    axis.set_xlabel("step")
    axis.set_ylabel("loss, all outputs of the decoder")
    return figure


def bars_figure(
    groups: Sequence[str], arms: Sequence[str], means: np.ndarray, spreads: np.ndarray, unit: str
) -> Figure:
    """Bars of arms in groups with their spread: ``means`` and ``spreads`` are ``[groups, arms]``."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.4, 3.2), layout="constrained")
    axis = figure.subplots()
    width = 0.8 / len(arms)
    colours = ("#8a8a8a", "#d08a2e", "#7a5ea8", "#4f8f4f", "#30588c", "#c0504d")
    for n, arm in enumerate(arms):
        place = np.arange(len(groups)) + (n - (len(arms) - 1) / 2) * width
        axis.bar(place, means[:, n], width * 0.9, yerr=spreads[:, n], label=arm, color=colours[n % len(colours)])
    axis.set_xticks(np.arange(len(groups)), groups)
    axis.set_ylabel(unit)
    axis.legend(fontsize=8, frameon=False, ncols=3, loc="upper right")
    return figure
