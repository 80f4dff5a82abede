"""The one picture: what pruning cost each method, what training brought back, and how much faster the model became."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from paperworks import runs

BEFORE, AFTER, FAST = "#b4532a", "#1f5f8b", "#7a8b99"


def comparison_figure(summary: Sequence[dict[str, Any]], steps: int) -> runs.Figure:
    """Perplexity of every method after pruning and after all steps, beside the speed of its model.

    ``summary``: rows of ``recipe.summarise``, the dense model's first.
    """
    dense, *rest = summary
    good = sorted((s for s in rest if not math.isnan(s["after"])), key=lambda s: -s["after"])
    figure = Figure(figsize=(10, 1.7 + 0.42 * len(good)))
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    places = range(len(good))
    for place, row in zip(places, good, strict=True):
        left.plot([row["before"], row["after"]], [place, place], color="#c9ced3", linewidth=2, zorder=1)
        for when, colour in (("before", BEFORE), ("after", AFTER)):
            spread = row[f"{when} spread"] / 2
            left.errorbar(row[when], place, xerr=spread, fmt="o", color=colour, capsize=3, zorder=2)
    left.axvline(dense["after"], color=AFTER, linestyle=":", linewidth=1)
    left.axvline(dense["before"], color=BEFORE, linestyle=":", linewidth=1)
    left.set_xscale("log")
    left.set_yticks(list(places), [row["method"] for row in good])
    left.set_xlabel("perplexity (dotted: the dense model)")
    left.plot([], [], "o", color=BEFORE, label="after pruning")
    left.plot([], [], "o", color=AFTER, label=f"after {steps} steps")
    left.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    right.barh([p + 0.18 for p in places], [r["prefill ratio"] for r in good], 0.34, color=FAST, label="reading")
    right.barh([p - 0.18 for p in places], [r["decode ratio"] for r in good], 0.34, color=AFTER, label="writing")
    right.axvline(1, color="black", linewidth=0.8)
    right.set_xlabel("tokens per second, times the dense model")
    right.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="x", alpha=0.25)
    figure.tight_layout()
    return runs.Figure(
        "Methods at the same budget",
        figure,
        "Bars around a dot: half the spread over seeds to each side. Methods that train while they prune have used "
        "steps at their first dot.",
    )
