"""Figures of the report: what was kept along the videos, the similarities, segments beside the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from paperworks.papers.sieve_swap.results import SieveResult
from paperworks.papers.sieve_swap.steps_dataset import StepDataset

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KEPT, WENT, TRUE, OTHER = "#30588c", "#d9d9d9", "#4f8f4f", "#c0504d"
MOST_VIDEOS = 14
LABEL_LETTERS = 34


def timeline_figure(result: SieveResult, references: StepDataset | None = None) -> Figure:
    """One line a video: sentences that stayed and went, and true steps below where they are known."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    videos = list(dict.fromkeys(row.video for row in result.audit))[:MOST_VIDEOS]
    figure = Figure(figsize=(9, 0.46 * len(videos) + 1.3))
    axes = figure.subplots()
    for line, video in enumerate(videos):
        for kept, colour in ((False, WENT), (True, KEPT)):
            bars = [(r.start, r.end - r.start) for r in result.audit if r.video == video and r.kept == kept]
            axes.broken_barh(bars, (line - 0.30, 0.42), facecolors=colour)
        if references is not None and video in references:
            bars = [(start, end - start) for start, end in references[video].timestamps]
            axes.broken_barh(bars, (line + 0.16, 0.16), facecolors=TRUE)
    axes.set_yticks(range(len(videos)), [video[:LABEL_LETTERS] for video in videos])
    axes.invert_yaxis()
    axes.set_xlabel("seconds")
    handles = [Patch(color=KEPT, label="kept: matches a written step"), Patch(color=WENT, label="dropped")]
    if references is not None:
        handles.append(Patch(color=TRUE, label="true step"))
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.set_layout_engine("constrained")
    return figure


def similarity_figure(result: SieveResult) -> Figure:
    """Best cosines of the transcripts' sentences and of irrelevant sentences, and the threshold."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.2))
    axes = figure.subplots()
    values = result.similarities()
    everything = np.concatenate([values, result.irrelevant_similarities])
    low, high = min(0.0, float(everything.min(initial=0))), max(1.0, float(everything.max(initial=1)))
    bins = np.linspace(low, high, 41).tolist()
    axes.hist(values, bins, color=KEPT, label="sentences of the transcripts")
    if len(result.irrelevant_similarities):
        axes.hist(result.irrelevant_similarities, bins, color=OTHER, alpha=0.65, label="irrelevant sentences")
    axes.axvline(result.tau, color="#333333", linestyle="--", label=f"threshold {result.tau:.2f}")
    axes.set_xlabel("cosine to the nearest written step")
    axes.set_ylabel("sentences")
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    figure.set_layout_engine("constrained")
    return figure


def segments_figure(lines: Mapping[str, Sequence[tuple[float, float]]], title: str = "") -> Figure:
    """Segments of one video, a line for each source (predicted, true, ...), in seconds."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 0.55 * len(lines) + 1.0))
    axes = figure.subplots()
    for line, (_, segments) in enumerate(lines.items()):
        bars = [(start, end - start) for start, end in segments]
        axes.broken_barh(bars, (line - 0.3, 0.6), facecolors=(KEPT, TRUE, OTHER)[line % 3], edgecolors="white")
    axes.set_yticks(range(len(lines)), list(lines))
    axes.invert_yaxis()
    axes.set_xlabel("seconds")
    axes.set_title(title, fontsize=10)
    figure.set_layout_engine("constrained")
    return figure


def loss_figure(losses: Mapping[str, Sequence[float]]) -> Figure:
    """The loss of every step of each training."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3))
    axes = figure.subplots()
    for (name, values), colour in zip(losses.items(), (KEPT, OTHER), strict=False):
        axes.plot(range(1, len(values) + 1), values, color=colour, linewidth=1, label=name)
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    figure.set_layout_engine("constrained")
    return figure
