"""What the studies share: digits, the plain network of six convolutions, findings of paired differences."""

from __future__ import annotations

import numpy as np

from paperworks.metrics import mean_interval
from paperworks.papers.pruning_survey.bench import Bench, Protocol, Row
from paperworks.papers.pruning_survey.contrasts import accuracies, contrast_of, run_contrast
from paperworks.pruning import ImageOptions, PlainCNN, image_task, model_maker
from paperworks.runs import Finding, Run

EPOCHS = 15


def digits_bench(run: Run, fast: bool) -> Bench:
    """1,437 digits of 8 x 8 to train on, 360 to test on; the specification's 15 epochs, and as many after pruning."""
    task = image_task(ImageOptions(limit=300 if fast else None), run)
    make, _ = model_maker("plain-cnn", task)
    if fast:
        make = _small
    epochs = 2 if fast else EPOCHS
    protocol = Protocol(epochs=epochs, recovery_epochs=epochs)
    return Bench(task, make, protocol, state=run.state, progress=run.progress)


def _small(seed: int) -> PlainCNN:
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return PlainCNN(factor=0.25)


def seeds_of(fast: bool, count: int = 3) -> list[int]:
    """2 seeds in a fast run."""
    return list(range(2 if fast else count))


def differences(rows: list[Row], left: str, right: str, ratio: float) -> np.ndarray:
    """Accuracy of the left less that of the right, seed by seed."""
    a, b = accuracies(rows, left, ratio), accuracies(rows, right, ratio)
    return np.array([a[seed] - b[seed] for seed in sorted(a.keys() & b.keys())])


def said(rows: list[Row], names: list[str], ratio: float) -> str:
    """Means over seeds, in words."""
    return ", ".join(f"{n} {np.mean(list(accuracies(rows, n, ratio).values())):.3f}" for n in names)


def finding(
    claim: str,
    rows: list[Row],
    left: str,
    right: str,
    ratio: float,
    bound: float = 0.0,
    *,
    detail: str = "",
) -> Finding:
    """That the left is better than the right by ``bound`` at least."""
    by = "" if not bound else f" by {bound:g} at least"
    return Finding(
        claim,
        f"{ratio:.0%} removed: {left}, less {right}: better{by}",
        "empirical",
        mean_interval(differences(rows, left, right, ratio)),
        ">=",
        bound,
        baseline=float(np.mean(list(accuracies(rows, right, ratio).values()))),
        baseline_name=right,
        unit="accuracy",
        detail="; ".join(filter(None, [said(rows, [left, right], ratio), detail])),
    )


def rows_of(bench: Bench, name: str, ratio: float, seeds: list[int], only: tuple[str, ...] = ()) -> list[Row]:
    """The rows of a contrast at one ratio."""
    return run_contrast(contrast_of(name), bench, [ratio], seeds, only)
