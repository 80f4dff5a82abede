"""Pictures for the reports: a contact sheet, a video over time, and the results of an encoder."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from paperworks.papers.quilt1m.curator import CuratedVideo

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from paperworks.metrics import Interval
    from paperworks.papers.quilt1m.scoring import ZeroShot

COLUMNS, MOST = 4, 12
INK, DOMAIN, OTHER = "#1f2a44", "#2a7f62", "#c2c7d0"


def contact_sheet(folder: Path, pairs: Sequence[Mapping[str, Any]]) -> Figure:
    """The first pictures with a sentence each, evenly chosen if there are many."""
    from matplotlib.figure import Figure

    first: dict[str, str] = {}
    for row in pairs:
        first.setdefault(str(row["image"]), _own_sentence(row, pairs))
    names = list(first)
    names = (
        [names[i] for i in np.unique(np.linspace(0, len(names) - 1, min(MOST, len(names))).astype(int))]
        if names
        else []
    )
    rows = max(1, -(-len(names) // COLUMNS))
    figure = Figure(figsize=(2.6 * COLUMNS, 2.75 * rows), layout="constrained")
    axes = np.atleast_1d(figure.subplots(rows, COLUMNS, squeeze=False)).reshape(-1)
    for axis in axes:
        axis.axis("off")
    for axis, name in zip(axes, names, strict=False):
        with Image.open(folder / name) as opened:
            opened.thumbnail((320, 320))
            axis.imshow(np.asarray(opened.convert("RGB")))
        axis.set_title(textwrap.shorten(Path(name).stem, 32, placeholder="..."), fontsize=7, color="#667")
        axis.text(
            0.5,
            -0.04,
            textwrap.fill(textwrap.shorten(first[name], 96, placeholder=" ..."), 34),
            transform=axis.transAxes,
            ha="center",
            va="top",
            fontsize=8,
            color=INK,
        )
    return figure


def _own_sentence(row: Mapping[str, Any], pairs: Sequence[Mapping[str, Any]]) -> str:
    """Of a picture's sentences the one in the middle: the first belongs to what was shown before more often."""
    texts = [str(other["text"]) for other in pairs if other["image"] == row["image"]]
    return texts[len(texts) // 2]


def timeline(one: CuratedVideo) -> Figure:
    """Key frames, still segments, chunks and cues of a video."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 2.6), layout="constrained")
    axis = figure.subplots()
    assert one.watched is not None
    assert one.paired is not None
    assert one.transcript is not None
    watched = one.watched
    colours = np.where(watched.positive, DOMAIN, OTHER)
    axis.scatter(watched.times, np.full(len(watched.times), 3.0), c=colours, s=28, marker="d", zorder=3)
    for still in watched.stills:
        axis.barh(2, still.end - still.start, left=still.start, height=0.5, color=DOMAIN if still.file else OTHER)
    for number, chunk in enumerate(one.paired.chunks):
        axis.barh(
            1 + 0.22 * (number % 2) - 0.1, chunk.end - chunk.start, left=chunk.start, height=0.22, color="#3b6fb5"
        )
    for cue in one.transcript.cues:
        axis.barh(0, cue.end - cue.start, left=cue.start, height=0.4, color="#8a93a6")
    axis.set_yticks([0, 1, 2, 3], ["cues", "chunks", "stills", "key frames"])
    axis.set_xlim(0, watched.duration)
    axis.set_xlabel("seconds")
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
    axis.tick_params(axis="y", length=0)
    return figure


def scores_figure(shot: ZeroShot, probes: Mapping[float, Interval], raw: Mapping[float, Interval]) -> Figure:
    """Accuracy of zero-shot classification by template, and of linear probes by share of the training data."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    names = ["all templates", *(textwrap.shorten(t, 30, placeholder=" ...") for t in shot.templates)]
    values = [shot.accuracy.estimate, *shot.by_template]
    places = np.arange(len(names))[::-1]
    left.barh(places, values, color=[DOMAIN, *[OTHER] * len(shot.templates)])
    left.axvline(1 / len(shot.classes), color=INK, linewidth=1, linestyle=":")
    left.set_yticks(places, names, fontsize=8)
    left.set_xlim(0, 1)
    left.set_xlabel("zero-shot accuracy (dotted: chance)")
    for scores, colour, name in ((probes, DOMAIN, "features"), (raw, "#8a93a6", "raw pixels")):
        shares = [100 * share for share in scores]
        means = [one.estimate for one in scores.values()]
        errors = [
            [one.estimate - one.low for one in scores.values()],
            [one.high - one.estimate for one in scores.values()],
        ]
        right.errorbar(shares, means, yerr=np.clip(errors, 0, None), color=colour, marker="o", capsize=3, label=name)
    right.set_xscale("log")
    right.set_xticks(shares, [f"{share:g} %" for share in shares])
    right.minorticks_off()
    right.set_xlabel("of the training data")
    right.set_ylabel("accuracy of a linear probe")
    right.legend(frameon=False)
    for axis in (left, right):
        axis.spines[["top", "right"]].set_visible(False)
    return figure
