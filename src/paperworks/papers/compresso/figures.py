"""What the course of a pruning looks like."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from paperworks import runs
from paperworks.papers.compresso.report import CompressoReport


def course_figure(report: CompressoReport) -> runs.Figure:
    """Sparsity and its target, the multipliers, and the loss, by step."""
    figure = Figure(figsize=(9, 6), layout="constrained")
    upper, middle, lower = figure.subplots(3, 1, sharex=True)
    steps = np.arange(len(report.course))
    upper.plot(steps, [step.target for step in report.course], color="0.6", linestyle="--", label="target")
    upper.plot(steps, [step.sparsity for step in report.course], label="expected")
    upper.axhline(report.sparsity_realised, color="C2", linewidth=1, label="cut model")
    upper.set_ylabel("share removed")
    upper.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    middle.plot(steps, [step.lambda_1 for step in report.course], label=r"$\lambda_1$")
    middle.plot(steps, [step.lambda_2 for step in report.course], label=r"$\lambda_2$")
    middle.set_ylabel("multipliers")
    middle.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    losses = np.array([step.loss for step in report.course])
    lower.plot(steps, losses, color="0.8", linewidth=0.8)
    width = max(1, len(losses) // 20)
    smooth = np.convolve(losses, np.ones(width) / width, "valid")
    lower.plot(np.arange(len(smooth)) + (width - 1) / 2, smooth, color="C0")
    lower.set_ylabel("loss, nats")
    lower.set_xlabel("step of pruning")
    return runs.Figure(
        "The constraint over the steps",
        figure,
        "The expected sparsity follows its rising target; the loss is that of the responses under sampled masks.",
    )
