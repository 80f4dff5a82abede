"""The paper's claims, measured again on handwritten digits and in closed form; larger images are in ``image_studies``.

Setting (of the specification): digits, 1,297 training and 500 test images; a perceptron 64-128-128-10; SGD 0.05 with
momentum 0.9, weight decay 5e-4, cosine, 400 steps of at most 64 rows whatever is kept; temperature 4; a teacher of the
same kind trained 1,200 steps on all rows. Differences are paired: both students of a difference have the same seed,
rows and teacher.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from paperworks import nn, runs
from paperworks.inputs.images import read_images
from paperworks.metrics import mean_interval
from paperworks.papers.kd_data_pruning.closed_form_studies import isotropic, teachers_data
from paperworks.papers.kd_data_pruning.image_studies import fashion, fashion_noise, mnist
from paperworks.papers.kd_data_pruning.pruner import DEFAULT_SETTINGS
from paperworks.papers.kd_data_pruning.scoring import ExampleScores
from paperworks.papers.kd_data_pruning.selection import rank
from paperworks.papers.kd_data_pruning.sweeps import accuracies, difference, means, sweep
from paperworks.papers.kd_data_pruning.table_findings import clean_findings
from paperworks.runs import Finding

__all__ = ["fashion", "fashion_noise", "isotropic", "mnist", "teachers_data"]

SETTINGS = replace(DEFAULT_SETTINGS, steps=400, clip_norm=0.0, device="cpu")
METHODS = ("random", "el2n", "grand", "forgetting")
FRACTIONS = (0.05, 0.1, 0.3)
NOISE = 0.3
"""Share of labels that are replaced by another class, uniformly."""

Set = tuple[torch.Tensor, np.ndarray]


def _perceptron(seed: int, *, inputs: int = 64, width: int = 128) -> torch.nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.MLP(inputs=inputs, hidden=(width, width), outputs=10)


def _digits() -> tuple[Set, Set]:
    images = read_images("digits")
    order = np.random.default_rng(0).permutation(len(images))
    pixels = torch.from_numpy(images.array().reshape(len(images), -1))
    labels = images.require_labels()
    train, test = order[:1297], order[1297:]
    return (pixels[train], labels[train]), (pixels[test], labels[test])


def _noisy(labels: np.ndarray, seed: int) -> np.ndarray:
    """Labels of which a share ``NOISE`` is another class."""
    rng = np.random.default_rng([seed, 9])
    wrong = rng.permutation(len(labels))[: round(NOISE * len(labels))]
    found = labels.copy()
    found[wrong] = (found[wrong] + rng.integers(1, 10, size=len(wrong))) % 10
    return found


def _seeds(fast: bool, n: int = 3) -> tuple[int, ...]:
    return tuple(range(2 if fast else n))


def _options(fast: bool) -> dict[str, Any]:
    return {"teacher_steps": 60, "scoring_steps": 60, "early_steps": 10, "runs": 2} if fast else {}


def _settings(fast: bool) -> Any:
    return replace(SETTINGS, steps=40) if fast else SETTINGS


@runs.study(
    claims=[
        "distillation-always-helps",
        "random-is-enough",
        "weight-grows-as-data-shrinks",
        "hard-scores-fail-alone",
    ],
    title="digits: scores, kept shares and weights of the teacher",
    minutes=4,
)
def _digits_table(run: runs.Run, fast: bool) -> Iterator[Finding]:
    train, test = _digits()
    found = sweep(
        _perceptron,
        train,
        test,
        _settings(fast),
        fractions=FRACTIONS[:1] + FRACTIONS[2:] if fast else FRACTIONS,
        methods=METHODS,
        seeds=_seeds(fast),
        progress=run.progress,
        **_options(fast),
    )
    yield from clean_findings("Digits", found, METHODS)


@runs.study(
    claims=["random-half-beats-full"], title="a random half with a teacher against all rows without", minutes=0.5
)
def _half(run: runs.Run, fast: bool) -> Iterator[Finding]:
    train, test = _digits()
    found = sweep(
        _perceptron,
        train,
        test,
        _settings(fast),
        fractions=(0.5, 1.0),
        methods=("random",),
        alphas=(0.0, 0.5, 1.0),
        seeds=_seeds(fast, 5),
        progress=run.progress,
        **_options(fast),
    )
    every = accuracies(found, "all", 1.0, 0.0)
    for alpha in (0.5, 1.0):
        yield Finding(
            "random-half-beats-full",
            f"Digits: accuracy of a random half with a teacher of weight {alpha:g}, less that of all rows without one.",
            "empirical",
            difference(accuracies(found, "random", 0.5, alpha), every),
            ">",
            0.0,
            baseline=every.mean(),
            baseline_name="accuracy of all rows without a teacher",
            detail=means(found),
        )


@runs.study(
    claims=["noise-does-less-harm", "weight-grows-as-data-shrinks"], title="digits with 30% wrong labels", minutes=2
)
def _noise(run: runs.Run, fast: bool) -> Iterator[Finding]:
    train, test = _digits()
    methods = ("random", "el2n", "forgetting")
    found = sweep(
        _perceptron,
        train,
        test,
        _settings(fast),
        fractions=(0.05, 0.3),
        methods=methods,
        seeds=_seeds(fast),
        prepare=partial(_noisy, train[1]),
        progress=run.progress,
        **_options(fast),
    )
    at = partial(accuracies, found)
    for method in methods:
        plain = at(method, 0.05, 0.0)
        yield Finding(
            "noise-does-less-harm",
            f"Digits with 30% wrong labels, 5% kept by {method}: accuracy gained by a teacher of weight 1.",
            "empirical",
            difference(at(method, 0.05, 1.0), plain),
            ">",
            0.0,
            baseline=plain.mean(),
            baseline_name="accuracy without a teacher",
            detail=means(found) if method == "random" else "",
        )
    yield Finding(
        "noise-does-less-harm",
        "Digits, 5% kept by el2n: with a teacher of weight 1, accuracy lost to 30% wrong labels compared with random "
        "rows without a teacher (accuracy difference, el2n with teacher less random without).",
        "empirical",
        difference(at("el2n", 0.05, 1.0), at("random", 0.05, 0.0)),
        ">",
        0.0,
        baseline=at("random", 0.05, 0.0).mean(),
        baseline_name="accuracy of random rows without a teacher",
    )
    for method in methods:
        half = at(method, 0.05, 0.5)
        yield Finding(
            "weight-grows-as-data-shrinks",
            f"Digits with 30% wrong labels, 5% kept by {method}: accuracy of weight 1 less that of weight 0.5.",
            "empirical",
            difference(at(method, 0.05, 1.0), half),
            ">",
            0.05,
            baseline=half.mean(),
            baseline_name="accuracy with weight 0.5",
        )
    shares = []
    for seed in _seeds(fast):
        labels = _noisy(train[1], seed)
        scores = ExampleScores(
            _perceptron,
            train[0],
            labels,
            _settings(fast),
            runs=2 if fast else 5,
            early_steps=10 if fast else 60,
            seed=seed,
        )
        hardest = rank(scores.score("el2n"), "largest", seed=seed)[: len(labels) // 10]
        shares.append(float((labels[hardest] != train[1][hardest]).mean()))
    yield Finding(
        "noise-does-less-harm",
        "Digits with 30% wrong labels: share of wrong labels among the tenth that EL2N calls hardest.",
        "empirical",
        mean_interval(shares),
        ">",
        2 * NOISE,
        baseline=NOISE,
        baseline_name="share among all rows",
    )


@runs.study(
    claims=["larger-teachers-hurt", "smaller-teachers-can-help"], title="teachers of four widths, 3% kept", minutes=1.5
)
def _capacity(run: runs.Run, fast: bool) -> Iterator[Finding]:
    train, test = _digits()
    widths = (16, 32, 128, 512)
    found, teachers = {}, {}
    for width in widths:
        run.step(f"teachers of width {width}")
        table = sweep(
            _perceptron,
            train,
            test,
            _settings(fast),
            fractions=(0.03,),
            methods=("random",),
            alphas=(1.0,),
            seeds=_seeds(fast, 5),
            make_teacher=partial(_perceptron, width=width),
            progress=run.progress,
            **_options(fast),
        )
        found[width] = accuracies(table, "random", 0.03, 1.0)
        teachers[width] = float(np.mean(list(table.attrs["teacher"].values())))
    detail = "mean accuracy of the student (of the teacher): " + ", ".join(
        f"width {w} {found[w].mean():.4f} ({teachers[w]:.4f})" for w in widths
    )
    yield Finding(
        "larger-teachers-hurt",
        "Digits, 3% kept at random: accuracy with a teacher of width 512 less that with one of the student's 128.",
        "empirical",
        difference(found[512], found[128]),
        "<",
        0.0,
        baseline=found[128].mean(),
        baseline_name="accuracy with a teacher of width 128",
        detail=detail,
    )
    for width in (16, 32):
        yield Finding(
            "smaller-teachers-can-help",
            f"Digits, 3% kept at random: accuracy with a teacher of width {width} less that with one of width 128.",
            "empirical",
            difference(found[width], found[128]),
            ">",
            0.0,
            baseline=found[128].mean(),
            baseline_name="accuracy with a teacher of width 128",
            detail=detail,
        )
