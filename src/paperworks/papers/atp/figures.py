"""The course of a fit, as a figure."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from paperworks import runs
from paperworks.papers.atp.report import ATPReport


def course_figure(report: ATPReport) -> runs.Figure:
    """Remaining share, flips, losses and group norms by step."""
    course = report.trajectory
    figure = Figure(figsize=(9, 8), layout="constrained")
    size, flips, losses, norms = figure.subplots(4, 1, sharex=True)
    size.plot(course.remaining, label="masks of the step")
    size.axhline(report.remaining_share, color="0.5", linestyle="--", linewidth=1, label="cut model")
    size.set_ylabel("prunable share")
    size.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    flips.plot(course.flips, color="C1", linewidth=0.8)
    flips.set_ylabel("entries flipped")
    losses.plot(course.search_loss, color="C2", linewidth=0.8, label="search forward")
    start = len(course.flips) - len(course.tuning_loss)
    losses.plot(
        start + np.arange(len(course.tuning_loss)),
        course.tuning_loss,
        color="C0",
        linewidth=0.8,
        label="LoRA-aware forward",
    )
    losses.set_ylabel("loss, nats")
    losses.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    norms.plot(course.norm_steps, course.kept_norm, marker=".", label="kept units")
    norms.plot(course.norm_steps, course.dropped_norm, marker=".", label="pruned units")
    norms.set_ylabel("adapter norm")
    norms.set_xlabel("step")
    norms.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    return runs.Figure(
        "The search and the tuning",
        figure,
        "Share of the prunable parameters under the masks, mask entries that change from step to step, the two losses, "
        "and mean adapter norms of kept and pruned units.",
    )
