"""Figures of the report: slices with what the network saw, probabilities along scans, curves, strata."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from paperworks.metrics import roc_auc

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from paperworks.papers.petct_slices.slice_table import SliceTable

BLUE, RED, GREEN, ORANGE, GREY = "#30588c", "#c0504d", "#4f8f4f", "#d08a2e", "#8a8a8a"
SHOWN_SUV = 10.0
SHOWN_HU = (-500.0, 500.0)
_STRIPS = 6


def montage_figure(
    table: SliceTable, rows: np.ndarray, kinds: list[str], probabilities: np.ndarray, maps: np.ndarray, columns: int = 4
) -> Figure:
    """Slices with their maps: PET (dark is high), the map in colour, and the outline of the lesions in red."""
    from matplotlib.figure import Figure

    has_mask = table.has("mask")
    images = table.images("pet", rows)
    lesions = table.images("mask", rows) if has_mask else np.zeros(images.shape, dtype=bool)
    groups = list(dict.fromkeys(kinds))
    lines = sum(-(-kinds.count(kind) // columns) for kind in groups)
    figure = Figure(figsize=(1.9 * columns, 2.15 * lines), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False)
    for axis in axes.ravel():
        axis.axis("off")
    line = 0
    for kind in groups:
        members = [i for i, name in enumerate(kinds) if name == kind]
        for place, i in enumerate(members):
            axis = axes[line + place // columns][place % columns]
            axis.imshow(images[i], cmap="gray_r", vmin=0, vmax=SHOWN_SUV, interpolation="nearest")
            shown = np.ma.masked_less(maps[i], 0.25)
            axis.imshow(shown, cmap="autumn_r", alpha=0.38, vmin=0, vmax=1, interpolation="bilinear")
            if lesions[i].any():
                axis.contour(lesions[i], [0.5], colors=[BLUE], linewidths=1.3)
            axis.set_title(f"p = {probabilities[i]:.2f}", fontsize=9, pad=2)
            if place % columns == 0:
                axis.text(-0.06, 0.5, kind, rotation=90, transform=axis.transAxes, ha="right", va="center", fontsize=9)
        line += -(-len(members) // columns)
    return figure


def strip_figure(rows: pd.DataFrame, probabilities: np.ndarray, threshold: float) -> Figure:
    """The probability along scans, from the feet to the head, with the slices that cut a lesion behind it."""
    from matplotlib.figure import Figure

    cases = list(dict.fromkeys(rows["case_id"]))[:_STRIPS]
    figure = Figure(figsize=(7.4, 1.15 * len(cases) + 0.7), layout="constrained")
    axes = figure.subplots(len(cases), 1, squeeze=False, sharey=True, sharex=True)[:, 0]
    for axis, case in zip(axes, cases, strict=True):
        mine = (rows["case_id"] == case).to_numpy()
        number, p = rows["slice"].to_numpy()[mine], probabilities[mine]
        label = rows["label"].to_numpy()[mine]
        axis.fill_between(number, 0, 1, where=label == 1, step="mid", color=RED, alpha=0.25, linewidth=0)
        axis.plot(number, p, color=BLUE, linewidth=1.4)
        axis.axhline(threshold, color=GREY, linewidth=0.8, linestyle="--")
        axis.set_ylim(-0.02, 1.02)
        axis.set_xlim(number.min() - 0.5, number.max() + 0.5)
        axis.set_ylabel(str(case)[-6:], fontsize=8)
        axis.set_yticks([0, 1])
    axes[-1].set_xlabel("slice, from the feet to the head")
    return figure


def curves_figure(
    rows: pd.DataFrame,
    probabilities: np.ndarray,
    lroc: tuple[np.ndarray, np.ndarray, float] | None,
) -> Figure:
    """ROC of all slices and of each center, and LROC; beside it, how often slices of a probability are positive."""
    from matplotlib.figure import Figure
    from sklearn.metrics import roc_curve

    y = rows["label"].to_numpy()
    figure = Figure(figsize=(8.2, 3.9), layout="constrained")
    left, right = figure.subplots(1, 2)
    parts = [("all", np.ones(len(y), dtype=bool), BLUE, 2.0)]
    centers = sorted(set(rows["center"].astype(str)))
    if len(centers) > 1:
        colours = (GREEN, ORANGE, "#7a5ea8", "#3f9a9a")
        for name, colour in zip(centers, colours, strict=False):
            parts.append((f"center {name}", (rows["center"] == name).to_numpy(), colour, 1.1))
    for name, chosen, colour, width in parts:
        area = roc_auc(y[chosen], probabilities[chosen])
        if np.isfinite(area):
            false, true, _ = roc_curve(y[chosen], probabilities[chosen])
            left.plot(false, true, color=colour, linewidth=width, label=f"{name}, area {area:.3f}")
    if lroc is not None:
        left.plot(
            lroc[0], lroc[1], color=RED, linewidth=1.3, linestyle="--", label=f"and localised, area {lroc[2]:.3f}"
        )
    left.plot([0, 1], [0, 1], color=GREY, linewidth=0.7)
    left.set_xlabel("false positive rate")
    left.set_ylabel("sensitivity")
    left.legend(loc="lower right", fontsize=8, frameon=False)
    edges = np.linspace(0, 1, 11)
    bins = np.clip(np.digitize(probabilities, edges) - 1, 0, 9)
    count = np.bincount(bins, minlength=10)
    there = count > 0
    share = np.bincount(bins, y == 1, 10)[there] / count[there]
    right.plot([0, 1], [0, 1], color=GREY, linewidth=0.7)
    right.plot(np.bincount(bins, probabilities, 10)[there] / count[there], share, color=BLUE, marker="o", markersize=4)
    right.set_xlabel("mean probability of a tenth")
    right.set_ylabel("share of positive slices")
    for axis in (left, right):
        axis.set_xlim(-0.02, 1.02)
        axis.set_ylim(-0.02, 1.02)
    return figure


def sensitivity_figure(per_case: pd.DataFrame, strata: pd.DataFrame) -> Figure:
    """Sensitivity of every scan, and of slices by what their lesions are like."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.2, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 2.2))
    values = per_case["sensitivity"].to_numpy()
    left.boxplot(values, widths=0.5, showfliers=False, medianprops={"color": RED})
    spread = np.linspace(-0.12, 0.12, len(values)) if len(values) > 1 else np.zeros(len(values))
    left.scatter(1 + spread, np.sort(values), s=14, color=BLUE, alpha=0.7, zorder=3)
    left.set_xticks([])
    left.set_xlabel(f"{len(values)} scans")
    left.set_ylabel("sensitivity of a scan's positive slices")
    left.set_ylim(-0.03, 1.03)
    names = [f"{_short(row['slices of'])}\n({row['positive']})" for row in strata.to_dict("records")]
    colours = dict(zip(dict.fromkeys(strata["by"]), (RED, BLUE, GREEN), strict=False))
    heights = strata["sensitivity"].fillna(0).to_numpy()
    right.bar(range(len(names)), heights, color=[colours[by] for by in strata["by"]])
    right.set_xticks(range(len(names)), names, fontsize=7.5)
    right.set_ylim(0, 1.03)
    for by in colours:
        right.bar([0], [0], color=colours[by], label=f"{by}, mm²" if by.endswith("area") else by)
    right.legend(fontsize=8, frameon=False, ncols=3, loc="lower left", bbox_to_anchor=(0, 1))
    return figure


def _short(name: str) -> str:
    """The name of a stratum for an axis."""
    return name.removesuffix(" mm²").replace("up to", "≤").replace("above", ">").replace("to ", "≤ ")
