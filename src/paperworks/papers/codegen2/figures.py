"""Figures of the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BEFORE, AFTER, OTHER = "#a8a8a8", "#30588c", "#c0692b"
WIDEST, LINES = 84, 7


def holes_figure(examples: Sequence[Mapping[str, str]], title: str = "") -> Figure:
    """Code with filled holes. Each example has ``prefix``, ``suffix``, ``fill``, and ``middle`` where it is known."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    blocks = [_block(example) for example in examples]
    rows = sum(len(block) + 1 for block in blocks)
    figure = Figure(figsize=(8, 0.2 * rows + 0.5))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, 1)
    axes.set_ylim(rows, -2.0)
    axes.axis("off")
    axes.text(0.02, -1.3, title, fontsize=9, color="#444444", va="center")
    row = 0
    colours = {"fill": "#d5e5f6", "right": "#d8efd8", "was": "#f6e3d5"}
    for block in blocks:
        for kind, text in block:
            if kind in colours:
                axes.add_patch(Rectangle((0.015, row - 0.5), 0.97, 1, color=colours[kind], linewidth=0))
            label = {"was": "was  ", "fill": "model", "right": "model"}.get(kind, "     ")
            axes.text(0.02, row, label, fontsize=7.5, family="monospace", color="#888888", va="center")
            shown = text if len(text) <= WIDEST else text[: WIDEST - 1] + "…"
            axes.text(0.085, row, shown, fontsize=7.5, family="monospace", va="center", parse_math=False)
            row += 1
        axes.axhline(row, xmin=0.015, xmax=0.985, color="#dddddd", linewidth=0.6)
        row += 1
    return figure


def _block(example: Mapping[str, str]) -> list[tuple[str, str]]:
    """Lines of one example with what they are."""
    prefix, suffix, fill = example["prefix"], example["suffix"], example["fill"]
    right = "middle" in example and example["middle"].rstrip() == fill.rstrip()
    head, _, start = prefix.rpartition("\n")
    end, _, tail = suffix.partition("\n")
    before = [line.expandtabs(4) for line in head.split("\n")][-3:]
    after = [line.expandtabs(4) for line in tail.split("\n")][:2]
    filled = f"{start}{fill}{end}".expandtabs(4).split("\n")[:LINES]
    block = [("", line) for line in before]
    block += [("right" if right else "fill", line) for line in filled]
    if "middle" in example and not right:
        block += [("was", line) for line in f"{start}{example['middle']}{end}".expandtabs(4).split("\n")[:LINES]]
    return [*block, *(("", line) for line in after)]


def bits_figure(names: Sequence[str], before: Sequence[float], after: Sequence[float] | None) -> Figure:
    """Bits per byte before and after training, as bars."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.2), layout="constrained")
    axes = figure.subplots()
    width = 0.38
    for shift, values, colour, label in ((-0.5, before, BEFORE, "before"), (0.5, after, AFTER, "after training")):
        if values is None:
            continue
        places = [i + shift * width for i in range(len(names))]
        axes.bar(places, values, width, color=colour, label=label)
        for place, value in zip(places, values, strict=True):
            axes.text(place, value, f"{value:.2f}", ha="center", va="bottom", fontsize=8)
    axes.set_xticks(range(len(names)), names)
    axes.set_ylabel("bits per byte of held-out code")
    axes.margins(y=0.15)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return figure


def loss_figure(losses: Sequence[float]) -> Figure:
    """Loss by step, with its running mean."""
    import numpy as np
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 2.8), layout="constrained")
    axes = figure.subplots()
    steps = np.arange(1, len(losses) + 1)
    axes.plot(steps, losses, color=BEFORE, linewidth=0.8, label="step")
    span = max(1, len(losses) // 20)
    if span > 1:
        means = np.convolve(losses, np.ones(span) / span, mode="valid")
        axes.plot(steps[span - 1 :], means, color=AFTER, linewidth=1.6, label=f"mean of {span} steps")
    axes.set_xlabel("step")
    axes.set_ylabel("nats per token")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9)
    return figure
