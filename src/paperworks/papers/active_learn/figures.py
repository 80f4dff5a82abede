"""Figures of the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("#c8641e", "#30588c", "#4d8c57", "#8a4f9e", "#a33b3b", "#2a8f9c", "#777777", "#b59b2b", "#5b5b9e")
MARKERS = "osD^vP*X<"


def draw_classes(
    names: Sequence[str], best: Sequence[float], risks: Mapping[str, Sequence[float]], unit: str
) -> Figure:
    """Worst risk of each policy in each class, above the class's own best policy. The first policy is ours."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 4))
    axes = figure.subplots()
    at = np.arange(len(names))
    axes.plot(at, best, color="black", linestyle="--", marker="_", markersize=14, label="class-optimal, learned (l*)")
    for number, (name, values) in enumerate(risks.items()):
        own = number == 0
        axes.plot(
            at,
            values,
            color=COLOURS[number % len(COLOURS)],
            marker=MARKERS[number % len(MARKERS)],
            linewidth=2.4 if own else 1.2,
            alpha=1 if own else 0.8,
            label=name,
            zorder=5 if own else 2,
        )
    axes.set_xticks(at, names)
    axes.set_xlabel("class, from easy to hard")
    axes.set_ylabel(f"worst {unit}")
    axes.set_ylim(bottom=0)
    axes.margins(x=0.1)
    axes.grid(alpha=0.3)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    return figure


def draw_instances(risks: Mapping[str, np.ndarray], unit: str, what: str) -> Figure:
    """Risks of all instances, sorted for each policy: the right end is the worst case."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 3.8))
    axes = figure.subplots()
    for number, (name, values) in enumerate(risks.items()):
        colour = COLOURS[number % len(COLOURS)]
        axes.plot(
            np.arange(1, len(values) + 1),
            np.sort(values),
            color=colour,
            linewidth=2.4 if number == 0 else 1.2,
            label=f"{name} (mean {values.mean():.3f})",
        )
    axes.set_xlabel(f"{what}s, from the easiest to the hardest for each policy")
    axes.set_ylabel(unit)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    return figure


def draw_training(history: Sequence[Mapping[str, Any]], unit: str) -> Figure:
    """The risk that the adversary's particles get in each phase, as moving means."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 3.4))
    axes = figure.subplots()
    start = 0
    phases = list(dict.fromkeys(str(row["phase"]) for row in history))
    for number, phase in enumerate(phases):
        losses = np.array([float(row["loss"]) for row in history if row["phase"] == phase])
        width = max(1, len(losses) // 20)
        smooth = np.convolve(
            np.pad(losses, (width // 2, width - 1 - width // 2), mode="edge"), np.ones(width) / width, "valid"
        )
        at = start + np.arange(1, len(losses) + 1)
        colour = COLOURS[0] if phase == "robust" else COLOURS[1 + number % (len(COLOURS) - 1)]
        axes.plot(at, losses, color=colour, alpha=0.2, linewidth=0.7)
        axes.plot(at, smooth, color=colour, linewidth=2, label=phase.replace("-", " "))
        start += len(losses)
    axes.set_xlabel("iteration")
    axes.set_ylabel(f"{unit}, against the adversary")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(loc="upper right", ncols=min(4, len(phases)))
    return figure
