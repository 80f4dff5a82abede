"""The tables and figures that every report on a pruned model shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from paperworks.runs import Figure as ReportFigure
from paperworks.runs import Table


def before_and_after(names: Sequence[str], rows: Sequence[Sequence[Any]], note: str = "") -> Table:
    """A row per figure (its name, then a value per stage in ``names``), with the ratio of the last stage to the first.

    The ratio is empty where either is missing or the first is 0.
    """
    shown = [[*row, ratio(row[1], row[-1])] for row in rows]
    return Table("Before and after", ["", *names, "ratio"], shown, note)


def size_said(before: float, after: float) -> str:
    """What became of the size, in words: a model may also have grown."""
    change = after / before - 1
    if change > 0:
        return f"The model has {change:.1%} more parameters than the dense one"
    return f"{-change:.1%} of the parameters are gone"


def quality_said(before: float, after: float, measured_on: str, what: str = "perplexity") -> str:
    """What became of the perplexity, in words: whether it is better or worse, and on which text."""
    word = "the same" if after == before else "worse" if after > before else "better"
    return f"{what} on {measured_on} is {after:.2f}, {word} than the dense model's {before:.2f}".replace(
        "the same than", "the same as"
    )


def ratio(before: float | None, after: float | None) -> float | None:
    """``after / before``, or None where there is no such number."""
    return after / before if before and after is not None else None


def kept_widths_figure(kept: Mapping[str, Sequence[int]], whole: Mapping[str, Sequence[int]]) -> ReportFigure:
    """Bars of the share of units that each layer keeps; ``kept`` and ``whole`` map a kind to its units by layer."""
    figure = Figure(figsize=(9, 3), layout="constrained")
    axes: Any = figure.subplots()
    width = 0.8 / max(1, len(kept))
    for number, (kind, counts) in enumerate(kept.items()):
        layers = np.arange(len(counts))
        shares = [k / w if w else 0.0 for k, w in zip(counts, whole[kind], strict=True)]
        bars = axes.bar(layers + (number + 0.5) * width - 0.4, shares, width, label=kind)
        axes.set_xticks(layers)
        if len(counts) <= 16:
            axes.bar_label(bars, labels=[str(k) for k in counts], fontsize=7)
    axes.set(xlabel="layer", ylabel="share kept", ylim=(0, 1.15))
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    return ReportFigure("What every layer keeps", figure, "Numbers are the units that are left.")


def trajectory_figure(
    title: str, xlabel: str, series: Mapping[str, Sequence[float]], caption: str = ""
) -> ReportFigure:
    """One panel per named series, over a common step axis."""
    figure = Figure(figsize=(8, 1 + 2 * len(series)), layout="constrained")
    panels = np.atleast_1d(figure.subplots(len(series), 1, sharex=True))
    for axes, (name, values) in zip(panels, series.items(), strict=True):
        axes.plot(np.arange(1, len(values) + 1), values, linewidth=1)
        axes.set_ylabel(name)
        axes.grid(alpha=0.3)
    panels[-1].set_xlabel(xlabel)
    return ReportFigure(title, figure, caption)
