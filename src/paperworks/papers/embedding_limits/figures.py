"""Figures of the report."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from paperworks.papers.embedding_limits.critical import CriticalN, paper_curve
from paperworks.papers.embedding_limits.published import CRITICAL_N

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

BLUE, ORANGE, GREY = "#30588c", "#c8641e", "#777777"


def draw_ceiling(table: pd.DataFrame, enough: int) -> Figure:
    """Share of result sets that fitted vectors return, by dimensions, and where the construction returns all."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.6))
    axes = figure.subplots()
    d, share = table["dimensions"].to_numpy(), table["of all (%)"].to_numpy()
    axes.plot(d, share, "o-", color=BLUE, label="fitted vectors, float32")
    if enough:
        axes.axvline(enough, color=GREY, linestyle="--", label=f"proved to be enough with tiny gaps: {enough}")
    axes.set_xscale("log", base=2)
    ticks = sorted({int(x) for x in (*d, enough) if x})
    shown = [t for i, t in enumerate(ticks) if t in (ticks[0], enough) or all(t / s >= 1.3 for s in ticks[:i][-1:])]
    axes.set_xticks(shown, [str(t) for t in shown])
    axes.minorticks_off()
    axes.set_ylim(-3, 103)
    axes.set_xlabel("dimensions of the index")
    axes.set_ylabel("result sets returned (%)")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    return figure


def draw_recall(tables: list[pd.DataFrame], k: int, fitted: pd.DataFrame | None) -> Figure:
    """Recall at k: encoders by dimensions, others as lines, and fitted vectors."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.8))
    axes = figure.subplots()
    colours = iter([BLUE, ORANGE, "#4d8c57", "#8a4f9e", "#a33b3b", "#2a8f9c"])
    dashes = iter([(0, (6, 3)), (4, (4, 5)), (0, (1, 2))])
    column = f"recall@{k}"
    for table in tables:
        colour, name = next(colours, GREY), str(table["system"].iloc[0])
        if table["dimensions"].notna().all():
            part = table.sort_values("dimensions")
            axes.plot(part["dimensions"].astype(int), part[column], "o-", color=colour, label=name)
        else:
            axes.axhline(float(table[column].iloc[0]), color=colour, linestyle=next(dashes, "--"), label=name)
    if fitted is not None and f"{column} (%)" in fitted:
        axes.plot(
            fitted["dimensions"], fitted[f"{column} (%)"], "^:", color=GREY, label="vectors fitted to the answers"
        )
    axes.set_xscale("log", base=2)
    from matplotlib.ticker import ScalarFormatter

    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.set_ylim(-3, 105)
    axes.set_xlabel("dimensions")
    axes.set_ylabel(f"recall at {k} (%)")
    axes.grid(alpha=0.3)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    return figure


def draw_critical(found: list[CriticalN]) -> Figure:
    """Critical n found here beside the paper's table and cubic, near and far."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.8))
    near, far = figure.subplots(1, 2)
    curve = paper_curve()
    d, n = np.array(list(CRITICAL_N)), np.array(list(CRITICAL_N.values()))
    last = max((one.d for one in found), default=8) + 2
    for axes, end in ((near, max(last, 10)), (far, 4096)):
        grid = np.linspace(4, end, 200) if end < 100 else np.geomspace(4, end, 200)
        axes.plot(grid, [curve(x) for x in grid], "-", color=ORANGE, label="the paper's cubic")
        shown = d <= end
        axes.plot(d[shown], n[shown], "o", color=GREY, markersize=4, label="the paper, Table 6")
        axes.plot([one.d for one in found], [one.n for one in found], "D", color=BLUE, label="here")
        axes.set_xlabel("dimensions")
        axes.grid(alpha=0.3)
    near.set_ylabel("documents of which all pairs are returned")
    near.legend(loc="upper left")
    far.set_xscale("log")
    far.set_yscale("log")
    far.axvspan(45, 4096, color=ORANGE, alpha=0.1)
    far.text(430, 20, "extrapolation", color=ORANGE, ha="center")
    figure.subplots_adjust(wspace=0.25)
    return figure
