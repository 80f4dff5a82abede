"""Figures of a search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from paperworks.papers.tas.space import Genotype, kept_widths


def widths_figure(candidates: Mapping[str, tuple[int, ...]], genotype: Genotype) -> Figure:
    """Full and found width of every layer, and blocks of every stage as numbers."""
    widths = [(name, max(candidates[name]), value) for name, value in kept_widths(genotype).items()]
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    axes = figure.add_subplot()
    places = range(len(widths))
    axes.bar(places, [full for _, full, _ in widths], color="#d8dde3", label="full")
    axes.bar(places, [found for _, _, found in widths], color="#2f6db5", width=0.55, label="found")
    axes.set_ylabel("channels or units")
    if len(widths) <= 12:
        axes.set_xticks(places, [name.replace("stages.", "").replace(".convs", "") for name, _, _ in widths])
        axes.tick_params(axis="x", rotation=35)
    else:
        axes.set_xlabel("layer")
    depths = genotype["depths"]
    if depths:
        kept = ", ".join(f"{value} of {max(candidates[name])}" for name, value in depths.items())
        axes.set_title(f"blocks kept, by stage: {kept}", fontsize=9)
    axes.legend(frameon=False)
    return figure


def search_figure(history: Sequence[Mapping[str, float]], target: float, tolerance: float) -> Figure:
    """Cost and accuracy by epoch, with the band around the target."""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    epochs = [row["epoch"] for row in history]
    left.axhspan(target * (1 - tolerance), target * (1 + tolerance), color="#f2c879", alpha=0.5, label="band")
    left.plot(epochs, [row["share"] for row in history], color="#2f6db5", label="most probable network")
    left.plot(epochs, [row["expected share"] for row in history], color="#8a8f98", ls="--", label="mean")
    left.set(xlabel="epoch", ylabel="share of the full cost", ylim=(0, 1.02))
    left.legend(frameon=False, fontsize=8)
    right.plot(epochs, [row["accuracy"] for row in history], color="#2f6db5", label="accuracy")
    right.plot(epochs, [row["discrepancy"] for row in history], color="#b5452f", label="lead of the likeliest")
    right.set(xlabel="epoch", ylim=(0, 1.02))
    right.legend(frameon=False, fontsize=8)
    return figure
