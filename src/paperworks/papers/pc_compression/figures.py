"""What a person wants to see: samples, where the bits go, sizes side by side, the course of learning."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from paperworks import runs


def samples(held: np.ndarray, drawn: np.ndarray, shape: tuple[int, ...], n_categories: int) -> runs.Figure:
    """Held-out rows above, rows drawn from the model below."""
    figure = Figure(figsize=(7, 4.6))
    for axes, rows, title in zip(figure.subplots(2, 1), (held[:40], drawn[:40]), ("held out", "drawn"), strict=True):
        axes.imshow(_grid(rows, shape, 20, n_categories), cmap="gray", vmin=0, vmax=1)
        axes.set_title(title, fontsize=9)
        axes.axis("off")
    figure.tight_layout()
    return runs.Figure("Rows drawn from the model", figure, "Above rows that training did not see, below samples.")


def bit_maps(bits: np.ndarray, rows: np.ndarray, shape: tuple[int, ...], n_categories: int) -> runs.Figure:
    """Mean bits per pixel over the held-out rows, and the bits of single rows beside them."""
    figure = Figure(figsize=(7, 4))
    axes = figure.subplots(2, 4)
    mean = _plane(bits.mean(0), shape)
    left = axes[0, 0].imshow(mean, cmap="viridis")
    axes[0, 0].set_title("mean", fontsize=9)
    axes[1, 0].axis("off")
    figure.colorbar(left, ax=axes[0, 0], fraction=0.046)
    top = float(np.quantile(bits[:3], 0.995))
    for i in range(3):
        if i >= len(bits):
            axes[0, i + 1].axis("off")
            axes[1, i + 1].axis("off")
            continue
        axes[0, i + 1].imshow(_grid(rows[i : i + 1], shape, 1, n_categories), cmap="gray", vmin=0, vmax=1)
        axes[0, i + 1].set_title(f"{bits[i].sum():.0f} bits", fontsize=9)
        image = axes[1, i + 1].imshow(_plane(bits[i], shape), cmap="viridis", vmin=0, vmax=max(top, 1e-9))
    figure.colorbar(image, ax=axes[1, 1:].tolist(), fraction=0.03)
    for one in axes.ravel():
        one.set_xticks([])
        one.set_yticks([])
    return runs.Figure("Bits per pixel", figure, "What each pixel costs in the code: on average, and for three rows.")


def bits_by_variable(bits: np.ndarray, names: Sequence[str]) -> runs.Figure:
    """Mean bits of each variable, the dearest first."""
    order = np.argsort(-bits)[:40]
    figure = Figure(figsize=(7, max(2, 0.22 * len(order))))
    axes = figure.subplots()
    axes.barh([names[i] for i in order][::-1], bits[order][::-1])
    axes.set_xlabel("bits per row")
    return runs.Figure("Bits per column", figure, "Mean cost of a value given those coded before it, held-out rows.")


def sizes(by_coder: dict[str, float]) -> runs.Figure:
    """Bytes by coder."""
    figure = Figure(figsize=(7, 0.32 * len(by_coder) + 0.8))
    axes = figure.subplots()
    ranked = sorted(by_coder.items(), key=lambda item: -item[1])
    colours = ["tab:orange" if name.startswith("circuit") else "tab:blue" for name, _ in ranked]
    axes.barh([name for name, _ in ranked], [size for _, size in ranked], color=colours)
    axes.set_xlabel("bytes")
    return runs.Figure(
        "Size by coder", figure, "The same rows by every coder; models without a file at their ideal rate."
    )


def learning(history: Sequence[float], validation: Sequence[float], rate: float) -> runs.Figure:
    """Bits per value by epoch."""
    figure = Figure(figsize=(6, 3.4), layout="constrained")
    axes = figure.subplots()
    axes.plot(np.arange(1, len(history) + 1), history, label="training rows, as met")
    if validation:
        axes.plot(np.arange(1, len(validation) + 1), validation, label="validation rows")
    axes.axhline(rate, color="gray", linestyle=":", label="held-out rows, in the file")
    axes.set_xlabel("epoch")
    axes.set_ylabel("bits per value")
    figure.legend(fontsize=8, ncols=3, loc="outside lower center", frameon=False)
    return runs.Figure(
        "Learning", figure, "Bits per value by epoch; the weights with the best validation rate are kept."
    )


def _grid(rows: np.ndarray, shape: tuple[int, ...], columns: int, n_categories: int) -> np.ndarray:
    images = rows.reshape(len(rows), *shape) / max(1, n_categories - 1)
    lines = -(-len(images) // columns)
    sheet = np.zeros((lines * columns, *shape))
    sheet[: len(images)] = images
    grid = sheet.reshape(lines, columns, *shape).swapaxes(1, 2)
    return grid.reshape(lines * shape[0], columns * shape[1], *shape[2:])


def _plane(bits: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """One number per pixel: channels are added."""
    image = bits.reshape(shape)
    return image.sum(2) if image.ndim == 3 else image
