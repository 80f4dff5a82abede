"""Figures of the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, RED, GREY, GREEN = "#30588c", "#c0504d", "#b9b9b9", "#4f8f4f"


def parts_figure(accuracy: Mapping[str, float], ours: str = "ModHiFi-P") -> Figure:
    """One bar for each network, the method's in colour."""
    from matplotlib.figure import Figure

    names = list(accuracy)[::-1]
    figure = Figure(figsize=(6.4, 0.36 * len(names) + 0.8), layout="constrained")
    axis = figure.subplots()
    colours = [BLUE if name == ours else GREEN if name == "dense" else GREY for name in names]
    bars = axis.barh(names, [accuracy[name] for name in names], color=colours)
    axis.bar_label(bars, labels=[f"{accuracy[name]:.3f}" for name in names], padding=3, fontsize=8)
    axis.set(xlim=(0, 1.12), xlabel="accuracy")
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def kept_figure(groups: Sequence[Sequence[Any]], most: int = 40) -> Figure:
    """Bars of (name, before, after)."""
    from matplotlib.figure import Figure

    shown = list(groups)[:most][::-1]
    figure = Figure(figsize=(6.4, 0.28 * len(shown) + 0.9), layout="constrained")
    axis = figure.subplots()
    names = [str(row[0]) for row in shown]
    axis.barh(names, [row[1] for row in shown], color=GREY, label="before")
    axis.barh(names, [row[2] for row in shown], color=BLUE, label="after", height=0.55)
    axis.set(xlabel="channels")
    axis.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncol=2, fontsize=8)
    axis.tick_params(axis="y", labelsize=7)
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def classes_figure(
    names: Sequence[str], before: Sequence[float], after: Sequence[float], recalled: Sequence[float] | None, forget: int
) -> Figure:
    """Accuracy of every class before, after, and after the attack by statistics."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(max(5.0, 0.62 * len(names) + 1.6), 3.2), layout="constrained")
    axis = figure.subplots()
    places = list(range(len(names)))
    axis.bar([x - 0.27 for x in places], before, 0.26, color=GREY, label="before")
    axis.bar(places, after, 0.26, color=[RED if x == forget else BLUE for x in places], label="after")
    if recalled is not None:
        axis.bar([x + 0.27 for x in places], recalled, 0.26, color=GREEN, label="after renewed statistics")
    axis.set_xticks(places, names, rotation=0 if max(map(len, names)) < 4 else 40)
    axis.set(ylim=(0, 1.05), ylabel="accuracy")
    axis.legend(frameon=False, ncols=3, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, 1.18))
    axis.spines[["top", "right"]].set_visible(False)
    return figure
