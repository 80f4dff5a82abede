"""What a report on permutations shows: the rows themselves, accuracy by ensemble size, means, and required sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter
from numpy.typing import NDArray

from paperworks.papers.permutations_ntk.diagnostics import Agreement
from paperworks.papers.permutations_ntk.ensemble_size import required_models
from paperworks.papers.permutations_ntk.theory import Kernel, Moments

SHOWN_ROWS = 48


def rows_figure(panels: Mapping[str, NDArray], wanted: NDArray[np.uint8], rows: int = SHOWN_ROWS) -> Figure:
    """Rows of bits as images side by side; wrong bits in red."""
    k = wanted.shape[1]
    count = min(rows, len(wanted))
    figure = Figure(figsize=(max(1.4, 0.13 * k) * len(panels) + 0.6, 0.11 * count + 0.8))
    axes = np.atleast_1d(figure.subplots(1, len(panels)))
    for place, (ax, (title, bits)) in enumerate(zip(axes, panels.items(), strict=True)):
        shown, right = np.asarray(bits[:count], dtype=float), wanted[:count]
        image = np.repeat(1 - shown[:, :, None], 3, axis=2) * 0.8 + 0.1
        if place:
            wrong = shown != right
            image[wrong] = np.where(shown[wrong][:, None] == 1, [0.75, 0.1, 0.1], [1.0, 0.6, 0.6])
        ax.imshow(image, interpolation="nearest", aspect="equal")
        ax.set_title(title, fontsize=8)
        ax.set_xticks([])
        ax.set_yticks([])
    figure.tight_layout()
    return figure


def accuracy_figure(
    sizes: Sequence[int],
    shares: Sequence[float],
    theory: Mapping[str, tuple[NDArray, NDArray]],
    marks: Mapping[str, int],
) -> Figure:
    """Share of rows that are exact against the number of networks, beside theory; ``marks`` are required sizes."""
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    ax: Axes = figure.subplots()
    for label, (x, y) in theory.items():
        ax.plot(x, y, linestyle="--", linewidth=1.2, label=label)
    ax.plot(sizes, shares, color="black", linewidth=1.4, marker=".", markersize=4, label="this run")
    for number, (label, size) in enumerate(marks.items()):
        ax.axvline(size, color=f"C{number + 5}", linewidth=1.5, linestyle=":", label=f"{label}: {size:,}")
    ax.set_xscale("log")
    ax.set_ylim(-0.03, 1.03)
    ax.set_xlabel("networks in the ensemble")
    ax.set_ylabel("share of rows that are exact")
    figure.legend(fontsize=7, ncols=3, loc="outside lower center", frameon=False)
    ax.grid(alpha=0.3)
    return figure


def means_figure(moments: Moments, agreement: Sequence[Agreement], members: int) -> Figure:
    """Mean outputs by number of ones: theory with one network's and the ensemble's spread, and this run as dots."""
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    ax: Axes = figure.subplots()
    n, k = moments.ones, moments.bits
    for color, mean, name, keep in (
        ("C0", moments.one_mean, "bits that are 1", n >= 1),
        ("C3", moments.zero_mean, "bits that are 0", n < k),
    ):
        x, y, s = n[keep], mean[keep], moments.std[keep]
        ax.fill_between(x, y - s, y + s, color=color, alpha=0.12, linewidth=0)
        half = s / np.sqrt(members)
        ax.fill_between(x, y - half, y + half, color=color, alpha=0.35, linewidth=0)
        ax.plot(x, y, color=color, label=f"theory, {name}")
    ones = [(a.ones, a.one_mean) for a in agreement if a.one_mean is not None]
    ax.plot([n for n, _ in ones], [mean for _, mean in ones], "k.", label="this run")
    zeros = [(a.ones, a.zero_mean) for a in agreement if a.zero_mean is not None]
    ax.plot([a for a, _ in zeros], [b for _, b in zeros], "k.")
    ax.axhline(0, color="black", linewidth=0.8)
    ax.set_xlabel("ones in the input")
    ax.set_ylabel("averaged output")
    figure.legend(fontsize=7, ncols=3, loc="outside lower center", frameon=False)
    return figure


def sizes_figure(bits: int, delta: float, kernel: Kernel) -> Figure:
    """Required networks against the number of bits, for one input and for all inputs, by bound and by exact tails."""
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    ax: Axes = figure.subplots()
    ks = np.unique(np.geomspace(3, max(64, 2 * bits), 28).astype(int))
    for scope, color in ((2, "C0"), ("all", "C3")):
        name = "one input with two ones" if scope == 2 else "all inputs at once"
        for method, style in (("bound", "-"), ("tails", "--")):
            y = [required_models(int(k), delta, scope, method=method, kernel=kernel) for k in ks]  # type: ignore[arg-type]
            ax.plot(ks, y, style, color=color, label=f"{name}, {'bound' if method == 'bound' else 'exact tails'}")
    ax.axvline(bits, color="black", linewidth=0.8, linestyle=":", label=f"k = {bits}")
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_formatter(ScalarFormatter())
    ax.set_yscale("log")
    ax.set_xlabel("bits k")
    ax.set_ylabel(f"networks for failure below {delta:g}")
    figure.legend(fontsize=7, ncols=3, loc="outside lower center", frameon=False)
    ax.grid(alpha=0.3)
    return figure
