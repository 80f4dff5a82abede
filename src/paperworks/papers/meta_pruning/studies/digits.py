"""Perceptrons 64-96-64-10 with batch norms on digits: curves, transfer, controls, other criteria."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from paperworks import runs
from paperworks.metrics import mean_interval, ratio_interval
from paperworks.nn import MLP
from paperworks.papers.meta_pruning.meta_training import MetaSettings
from paperworks.papers.meta_pruning.studies.protocol import (
    GROWING,
    NORMS,
    OTHERS,
    REG,
    RHO,
    STRONGER,
    MakeModel,
    Measures,
    means,
    measured,
    sparse_masks,
)
from paperworks.runs import Finding, Run

SEEDS, MASK_SEEDS = (0, 1, 2, 3, 4), (0, 1, 2)
OPTIONS = {"hidden": 16, "layers": 4, "rho": RHO}
SETTINGS = MetaSettings(epochs=20, batches=3, reg=REG, norms=NORMS, select_every=4)
FAST = MetaSettings(epochs=1, batches=1)
MASKS = MetaSettings(epochs=12, batches=3, reg=0.001, norms=NORMS, select_every=4)


def perceptron(hidden: tuple[int, ...]) -> MakeModel:
    """A function from a seed to a perceptron."""

    def make(seed: int) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return MLP(inputs=64, hidden=hidden, outputs=10, batch_norm=True)

    return make


@runs.study(
    claims=[
        "slower-accuracy-loss",
        "transfer",
        "learned-edit-matters",
        "fine-tuning-after-it-is-needed",
        "cost-per-target",
        "other-criteria",
    ],
    title="Perceptrons on digits, with and without a metanetwork",
    minutes=8,
)
def digits(run: Run, fast: bool) -> Iterator[Finding]:
    """Five seeds; for each, four networks to learn from, one that chooses the epoch, and two to test."""
    seeds = SEEDS[:2] if fast else SEEDS
    make, other = perceptron((96, 64)), perceptron((128, 48))
    rows, masks = [], []
    for seed in run.progress(seeds, "seeds"):
        rows.append(
            measured(
                run,
                "mlp",
                seed,
                make,
                OPTIONS,
                FAST if fast else SETTINGS,
                transfer=other,
                fast=fast,
            )
        )
        if seed in MASK_SEEDS:
            masks.append(sparse_masks(run, "mlp", seed, make, FAST if fast else MASKS, fast=fast))
    yield from curve_findings(rows, "perceptron")
    yield _transfer(rows)
    yield from _controls(rows)
    yield from _criteria(rows, masks)


def curve_findings(rows: list[Measures], what: str) -> Iterator[Finding]:
    """The claim itself: the mean of the curve, and the accuracy at the least speed-up."""
    ours, tuned, original = (means(rows, name) for name in ("ours", "tuned", "original"))
    epochs = ", ".join(str(row["epoch"]) for row in rows)
    yield Finding(
        "slower-accuracy-loss",
        f"{what}: mean accuracy over 13 speed-ups, with the metanetwork less without it, both fine-tuned",
        "empirical",
        mean_interval(ours - tuned),
        ">=",
        0.01,
        baseline=float(tuned.mean()),
        baseline_name="without the metanetwork",
        detail=f"with it {ours.mean():.3f}; as it was trained {original.mean():.3f}; chosen epochs {epochs}",
    )
    first = np.array([row["ours"][0] - row["tuned"][0] for row in rows])
    yield Finding(
        "slower-accuracy-loss",
        f"{what}: accuracy at a speed-up of 1.2, with the metanetwork less without it",
        "empirical",
        mean_interval(first),
        ">=",
        -0.01,
        baseline=float(np.mean([row["tuned"][0] for row in rows])),
        baseline_name="without the metanetwork",
    )


def _transfer(rows: list[Measures]) -> Finding:
    ours, tuned = means(rows, "transfer ours"), means(rows, "transfer tuned")
    return Finding(
        "transfer",
        "a perceptron 64-128-48-10, which the metanetwork was not trained for: mean of the curve with it less without",
        "empirical",
        mean_interval(ours - tuned),
        ">=",
        -0.005,
        baseline=float(tuned.mean()),
        baseline_name="without the metanetwork",
        detail=f"with it {ours.mean():.3f}",
    )


def _controls(rows: list[Measures]) -> Iterator[Finding]:
    ours, tuned = means(rows, "ours"), means(rows, "tuned")
    random, raw = means(rows, "random edit"), means(rows, "not tuned")
    yield Finding(
        "learned-edit-matters",
        "random edits of the same size, fine-tuned: the mean of the curve gains less than 0.01",
        "empirical",
        mean_interval(random - tuned),
        "<",
        0.01,
        baseline=float(tuned.mean()),
        baseline_name="no edit",
        detail=f"random edits {random.mean():.3f}, the metanetwork's {ours.mean():.3f}",
    )
    yield Finding(
        "learned-edit-matters",
        "mean of the curve with the metanetwork, less that of random edits of the same size, both fine-tuned",
        "empirical",
        mean_interval(ours - random),
        ">",
        0,
        baseline=float(random.mean()),
        baseline_name="random edits",
        detail=f"edits of {np.mean([row['edit'] for row in rows]):.2f} times the norm of the weights; {_reasons(rows)}",
    )
    alike = "all channels alike" if GROWING["uniform"] else "weak channels faster"
    for name, words, known in (
        ("regulariser", f"fine-tuning with its own regulariser ({REG}) for as many steps", "sparse training"),
        ("stronger regulariser", f"sparse training at {STRONGER}, chosen on other seeds", "tuned sparse training"),
        (
            "growing",
            f"growing regularisation ({alike}, by {GROWING['growth']}), chosen on other seeds",
            "growing regularisation",
        ),
        ("taylor", "fine-tuning and first-order Taylor scores", "Taylor"),
        ("l1", "fine-tuning and group L1", "group L1"),
        ("random channels", "fine-tuning and random channels", "random channels"),
    ):
        other = means(rows, name)
        yield Finding(
            "learned-edit-matters",
            f"mean of the curve with the metanetwork and group L2, less that of {words}",
            "empirical",
            mean_interval(ours - other),
            ">",
            0,
            baseline=float(other.mean()),
            baseline_name=known,
            detail=f"with the metanetwork {ours.mean():.3f}",
        )
    yield Finding(
        "fine-tuning-after-it-is-needed",
        "mean of the curve of the edited network, fine-tuned less not",
        "empirical",
        mean_interval(ours - raw),
        ">",
        0,
        baseline=float(raw.mean()),
        baseline_name="pruned right after the edit",
    )
    yield Finding(
        "cost-per-target",
        "processor time of the edit and fine-tuning over that of sparse training for as many epochs",
        "empirical",
        ratio_interval([row["ratio of times"] for row in rows], unit="seeds"),
        "<=",
        1,
        unit="times",
        baseline=1.0,
        baseline_name="sparse training",
        detail="the same loop for both; the metanetwork's own training is not in it",
    )


def _reasons(rows: list[Measures]) -> str:
    """What parts of a random edit do, and what norms say of channels after each edit."""
    parts = [f"{name} {means(rows, name).mean():.3f}" for name in ("scaled channels", "noise at equal norms")]
    words = []
    for name in ("tuned", "ours", "random edit", "scaled channels", "noise at equal norms", "stronger regulariser"):
        agreement, spread = (np.mean([row[f"{what} {name}"] for row in rows]) for what in ("agreement", "spread"))
        words.append(f"{name} {agreement:.2f} and {spread:.2f}")
    return f"{', '.join(parts)}; rank correlation of norms with the loss of removal, and Gini: {', '.join(words)}"


def _criteria(rows: list[Measures], masks: list[Measures]) -> Iterator[Finding]:
    cases = [(name, rows) for name in OTHERS] + [(name, masks) for name in ("unstructured", "2:4")]
    for name, found in cases:
        ours, tuned = means(found, f"{name} ours"), means(found, f"{name} tuned")
        yield Finding(
            "other-criteria",
            f"{name}: mean accuracy with the metanetwork less without it, both fine-tuned",
            "empirical",
            mean_interval(ours - tuned),
            ">",
            0,
            baseline=float(tuned.mean()),
            baseline_name="without the metanetwork",
            detail=f"with it {ours.mean():.3f}",
        )
