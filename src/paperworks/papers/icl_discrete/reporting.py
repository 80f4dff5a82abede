"""Tables and figures of accuracy curves, heads and answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from paperworks import runs
from paperworks.papers.icl_discrete.curves import curve, last, mean_interval
from paperworks.papers.icl_discrete.heads import THRESHOLD

PAPER = {
    **dict.fromkeys(
        ("conjunction", "disjunction", "sparse_disjunction", "dnf", "cnf", "nearest_neighbours"), "near 100 %"
    ),
    **dict.fromkeys(("majority", "sparse_thres", "int_halfspace"), "above chance, not perfect"),
    **dict.fromkeys(("parity", "sparse_parity"), "about 50 %"),
    **dict.fromkeys(("teach_conjunction", "teach_biconjunction", "teach_dnf"), "perfect after the teaching sequence"),
    "teach_sparse_parity": "perfect after the teaching sequence",
}
"""What the paper says of its Transformer at n = 28 (parities: 20 and 10), from public reviews and the abstract."""

LEVEL = 0.95


def accuracy_table(
    title: str, right: Mapping[str, np.ndarray], rng: np.random.Generator, paper: Mapping[str, str], note: str = ""
) -> runs.Table:
    """One row per predictor: mean over all positions with its interval, the last five, when 95 % is reached."""
    rows: list[list[Any]] = []
    for name, hits in right.items():
        mean, low, high = mean_interval(hits, rng)
        rows.append([name, mean, f"{low:.3f} to {high:.3f}", last(hits), examples_needed(hits), paper.get(name, "")])
    columns = [
        "predictor",
        "mean accuracy",
        "5 % to 95 % of resamples",
        "last 5 positions",
        f"examples until {LEVEL:.0%}",
        "the paper's Transformer",
    ]
    return runs.Table(title, columns, rows, note)


def examples_needed(hits: np.ndarray, level: float = LEVEL) -> int | None:
    """The number of examples from which on the accuracy stays at or above the level; None if it never does."""
    below = np.flatnonzero(hits.mean(0) < level)
    first = 0 if not len(below) else int(below[-1]) + 1
    return first if first < hits.shape[1] else None


def curve_figure(right: Mapping[str, np.ndarray], positions: Sequence[int] | None = None, title: str = "") -> Figure:
    """Accuracy against the number of examples, with bootstrap bands; bold: the models."""
    figure = Figure(figsize=(7.2, 4.6), layout="constrained")
    axes = figure.subplots()
    for name, hits in right.items():
        table = curve(hits)
        at = np.asarray(table["position"] if positions is None else positions)
        model = "model" in name or "trained" in name
        style: dict[str, Any] = {"linewidth": 2.4, "zorder": 3} if model else {"linewidth": 1.1, "alpha": 0.9}
        (line,) = axes.plot(at, table["accuracy"], label=name, **style)
        axes.fill_between(at, table["lo"], table["hi"], color=line.get_color(), alpha=0.12, linewidth=0)
    axes.set_xlabel("labelled examples before the question")
    axes.set_ylabel("accuracy")
    axes.set_ylim(0.3, 1.02)
    axes.axhline(0.5, color="0.8", linewidth=0.8, zorder=0)
    axes.set_title(title, fontsize=10)
    figure.legend(fontsize=8, ncols=4, loc="outside lower center", frameon=False)  # no line runs below it
    return figure


def heads_figure(scores: Mapping[str, np.ndarray]) -> Figure:
    """A map of layers and heads per kind of score."""
    figure = Figure(figsize=(3.4 * len(scores), 3.0))
    for axes, (kind, values) in zip(np.atleast_1d(figure.subplots(1, len(scores))), scores.items(), strict=True):
        axes.imshow(values, vmin=0, vmax=1, cmap="viridis")
        for (layer, head), value in np.ndenumerate(values):
            axes.text(head, layer, f"{value:.2f}", ha="center", va="center", color="w" if value < 0.6 else "k", size=7)
        axes.set_xlabel("head")
        axes.set_ylabel("layer")
        axes.set_xticks(range(values.shape[1]))
        axes.set_yticks(range(values.shape[0]))
        axes.set_title(f"{kind}: {(values >= THRESHOLD).sum()} heads at {THRESHOLD:g} or more", fontsize=9)
    figure.tight_layout()
    return figure


def loss_figure(losses: Sequence[float]) -> Figure:
    """Training loss per step."""
    figure = Figure(figsize=(6, 3))
    axes = figure.subplots()
    axes.plot(np.arange(1, len(losses) + 1), losses, linewidth=0.8)
    axes.set_xlabel("step")
    axes.set_ylabel("cross-entropy, nats per label")
    figure.tight_layout()
    return figure


def curves_frame(
    groups: Mapping[str, Mapping[str, np.ndarray]], positions: Sequence[int] | None = None
) -> pd.DataFrame:
    """All curves below each other: columns prompts, predictor, position, accuracy, std, lo, hi."""
    frames = []
    for group, right in groups.items():
        for name, hits in right.items():
            frame = curve(hits)
            if positions is not None:
                frame["position"] = positions
            frame.insert(0, "predictor", name)
            frame.insert(0, "prompts", group)
            frames.append(frame)
    return pd.concat(frames, ignore_index=True)
