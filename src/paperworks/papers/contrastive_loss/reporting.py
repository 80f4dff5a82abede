"""Tables and figures of sweeps and diagnoses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from paperworks.papers.contrastive_loss.diagnosis import PRINTED, Diagnosis
from paperworks.papers.contrastive_loss.sweep import SweepResult
from paperworks.runs import Figure, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MEASURED = ("probe_accuracy", "uniformity", "tolerance", "positive", "nearest_negative", "effective_negatives", "top1")
TITLES = {
    "probe_accuracy": "accuracy of a linear probe",
    "uniformity": "uniformity",
    "tolerance": "tolerance",
    "positive": "similarity of the positive",
    "nearest_negative": "of the nearest negative",
    "effective_negatives": "effective negatives",
    "top1": "push on the nearest",
}


def settings_of(result: SweepResult) -> list[tuple[str, float | None]]:
    """(loss, temperature) in the order trained."""
    return list(dict.fromkeys((r.loss, r.temperature) for r in result.rows))


def sweep_table(result: SweepResult) -> Table:
    """A row for each loss and temperature, means over seeds."""
    rows: list[list[str | int | float | bool | None]] = [
        [loss, tau, *(result.mean(loss, tau, name) for name in MEASURED)] for loss, tau in settings_of(result)
    ]
    seeds = len({r.seed for r in result.rows})
    return Table(
        "What the temperature does",
        ["loss", "temperature", *(TITLES[name] for name in MEASURED)],
        rows,
        f"Test examples, mean of {seeds} seed{'s' if seeds > 1 else ''}. Uniformity is -L_uniformity at t = 2.",
    )


def sweep_figure(result: SweepResult) -> Figure:
    """Probe accuracy, uniformity, tolerance and the similarities of pairs against the temperature."""
    from matplotlib.figure import Figure as Drawing

    drawing = Drawing(figsize=(9, 6), layout="constrained")
    axes: list[Axes] = list(drawing.subplots(2, 2).ravel())
    for loss, color in (("contrastive", "C0"), ("hard", "C1")):
        taus = sorted({r.temperature for r in result.rows if r.loss == loss and r.temperature is not None})
        for ax, name in zip(axes, ("probe_accuracy", "uniformity", "tolerance"), strict=False):
            if taus:
                ax.plot(taus, [result.mean(loss, tau, name) for tau in taus], "o-", color=color, label=loss)
        for name, style in (("positive", "-"), ("nearest_negative", "--")):
            if taus:
                values = [result.mean(loss, tau, name) for tau in taus]
                axes[3].plot(taus, values, style, color=color, label=f"{loss}, {TITLES[name].split()[-1]}")
    for loss, color in (("simple", "C2"), ("hard-simple", "C3")):
        if any(r.loss == loss for r in result.rows):
            for ax, name in zip(axes, ("probe_accuracy", "uniformity", "tolerance"), strict=False):
                ax.axhline(result.mean(loss, None, name), color=color, linestyle=":", label=loss)
    for ax, title in zip(
        axes, ("accuracy of a linear probe", "uniformity", "tolerance", "similarity of pairs"), strict=True
    ):
        ax.set_xlabel("temperature")
        ax.set_xscale("log")
        ax.set_title(title)
    axes[0].legend()
    axes[3].legend()
    return Figure(
        "The temperature sweep",
        drawing,
        "Softmax losses by temperature; dotted: the simple losses, which have none (figures 4 to 9 of the paper).",
    )


def diagnosis_tables(found: Diagnosis) -> list[Table]:
    """The metrics beside the paper's, and the push by temperature."""
    metrics: list[list[str | int | float | bool | None]] = [
        ["uniformity of all pairs", found.uniformity.value, found.limit],
        ["uniformity of pairs of different classes", found.between.value if found.between else None, found.limit],
        ["tolerance (mean similarity within a class)", found.tolerance, 1.0],
    ]
    printed = ", ".join(f"{value:.2f} at {tau:g}" for tau, value in PRINTED)
    frame = found.temperatures
    return [
        Table(
            "Embeddings",
            ["metric", "measured", "at most"],
            [row for row in metrics if row[1] is not None],
            f"{found.n:,} rows, {found.dimensions} dimensions. The paper's uniformity on CIFAR10 (128 dimensions, at "
            f"most 3.94) by temperature: {printed}.",
        ),
        Table(
            "Where the push on negatives would go",
            [str(c) for c in frame.columns],
            frame.to_numpy().tolist(),
            "For these embeddings, by temperature of the softmax loss; up to 4,096 negatives of each of up to 1,000 "
            "anchors.",
        ),
    ]


def diagnosis_figure(found: Diagnosis) -> Figure:
    """Effective negatives, and the share of the push on the own class, against the temperature."""
    from matplotlib.figure import Figure as Drawing

    drawing = Drawing(figsize=(8, 3.2), layout="constrained")
    left, right = drawing.subplots(1, 2)
    frame = found.temperatures
    taus = frame["temperature"].to_numpy()
    left.plot(taus, frame["effective negatives"].to_numpy(), "o-")
    left.set(xscale="log", yscale="log", xlabel="temperature", title="effective negatives")
    right.plot(taus, frame["share of the nearest"].to_numpy(), "o-", label="on the nearest")
    if "share on the own class" in frame:
        right.plot(taus, frame["share on the own class"].to_numpy(), "o-", label="on the own class")
        right.axhline(float(np.mean(frame["own class, even push"])), color="grey", linestyle=":", label="even push")
    right.set(xscale="log", xlabel="temperature", title="share of the push")
    right.legend()
    return Figure(
        "The push by temperature",
        drawing,
        "How many negatives share the push on an example, and how much hits its own class.",
    )
