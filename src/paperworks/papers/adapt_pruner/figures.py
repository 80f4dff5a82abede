"""Drawings of a pruning: how importance, sparsity and losses went."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from paperworks import runs
from paperworks.papers.adapt_pruner.accel import StageRecord
from paperworks.papers.adapt_pruner.report import PruneReport


def trajectory(reports: Sequence[PruneReport]) -> runs.Figure:
    """Normalised importance and cumulative sparsity of every layer, and the calibration loss, step by step."""
    steps = [step for report in reports for step in report.steps if step.normalised and step.sparsity]
    figure = Figure(figsize=(8, 7), layout="constrained")
    top, middle, bottom = figure.subplots(3, 1, sharex=True)
    numbers = np.arange(1, len(steps) + 1)
    n = len(steps[0].sparsity) if steps else 0
    colours = colormaps["viridis"](np.linspace(0, 0.9, max(2, n)))
    for layer in range(n):
        label = f"layer {layer}"
        top.plot(numbers, [s.normalised[layer] for s in steps], color=colours[layer], linewidth=1, label=label)
        middle.plot(numbers, [s.sparsity[layer] for s in steps], color=colours[layer], linewidth=1)
    bottom.plot(numbers, [np.nan if s.loss is None else s.loss for s in steps], color="black", linewidth=1)
    ends = np.cumsum([len(report.steps) for report in reports])[:-1]
    for axes in (top, middle, bottom):
        axes.grid(alpha=0.3)
        for end in ends:
            axes.axvline(end + 0.5, color="grey", linewidth=0.5, linestyle=":")
    if 0 < n <= 16:
        top.legend(fontsize=7, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    top.set_ylabel("importance, normalised")
    middle.set_ylabel("sparsity S")
    bottom.set_ylabel("calibration loss, nats")
    bottom.set_xlabel("pruning step")
    return runs.Figure(
        "Importance, sparsity and loss",
        figure,
        "Loss in front of each cut, on fresh sequences. Dotted lines part the stages, where S starts anew.",
    )


def training_course(stages: Sequence[StageRecord]) -> runs.Figure:
    """Training loss and learning rate over all stages."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True)
    losses = [loss for stage in stages for loss in stage.losses]
    rates = [rate for stage in stages for rate in stage.rates]
    numbers = np.arange(1, len(losses) + 1)
    top.plot(numbers, losses, color="black", linewidth=1)
    bottom.plot(numbers, rates, color="tab:blue", linewidth=1)
    for axes in (top, bottom):
        axes.grid(alpha=0.3)
        for end in np.cumsum([len(stage.losses) for stage in stages])[:-1]:
            axes.axvline(end + 0.5, color="grey", linewidth=0.5, linestyle=":")
    top.set_ylabel("training loss, nats")
    bottom.set_ylabel("learning rate")
    bottom.set_xlabel("training step")
    return runs.Figure("Training between the cuts", figure, "Dotted lines: a stage ends, and the next cut is made.")
