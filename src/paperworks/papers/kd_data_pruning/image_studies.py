"""The claims about accuracy on all of MNIST and Fashion-MNIST: 60,000 images to train on, 10,000 to test on.

Setting: a convolutional network of 52,266 parameters; students as on digits (SGD 0.05 with momentum 0.9, weight decay
5e-4, cosine, 400 steps of 64 images whatever is kept, temperature 4), with gradients clipped to norm 5. What sees all
rows is trained in batches of 128: a teacher of the same kind for 2,345 steps (5 epochs), the training that forgetting
and AUM are recorded in for as many, and three early ones of 200 steps for EL2N and GraNd (last layer, as in DeepCore,
which the authors extended).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from paperworks import runs
from paperworks.inputs.images import read_images
from paperworks.papers.kd_data_pruning.pruner import DEFAULT_SETTINGS
from paperworks.papers.kd_data_pruning.sweeps import accuracies, difference, sweep
from paperworks.papers.kd_data_pruning.table_findings import accuracies_in_words, clean_findings
from paperworks.runs import Finding

SETTINGS = replace(DEFAULT_SETTINGS, steps=400, device="cpu")
ALL_ROWS = replace(SETTINGS, batch_size=128)
EPOCHS = 5
METHODS = ("random", "el2n", "grand-last", "forgetting", "aum")
FRACTIONS = (0.05, 0.1, 0.3)
NOISE = 0.3
"""Share of labels that are replaced by another class, uniformly."""

Set = tuple[torch.Tensor, np.ndarray]


def _network(seed: int) -> nn.Module:
    """Two convolutions of stride 2 and two linear layers, for one channel of 28 x 28 pixels and ten classes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            *(nn.Conv2d(1, 8, 5, stride=2, padding=2), nn.ReLU()),
            *(nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten()),
            *(nn.Linear(16 * 7 * 7, 64), nn.ReLU(), nn.Linear(64, 10)),
        )


def _sets(name: str, fast: bool) -> tuple[Set, Set]:
    images = read_images(name)
    labels = images.require_labels()
    assert images.splits is not None
    found = []
    for part, few in (("train", 600), ("test", 300)):
        rows = np.flatnonzero(images.splits == part)
        if fast:
            rows = np.sort(np.random.default_rng(0).permutation(rows)[:few])
        found.append((torch.from_numpy(images.array(rows)), labels[rows]))
    return found[0], found[1]


def _noisy(labels: np.ndarray, seed: int) -> np.ndarray:
    """Labels of which a share ``NOISE`` is another class."""
    rng = np.random.default_rng([seed, 9])
    wrong = rng.permutation(len(labels))[: round(NOISE * len(labels))]
    found = labels.copy()
    found[wrong] = (found[wrong] + rng.integers(1, 10, size=len(wrong))) % 10
    return found


def _table(
    run: runs.Run, fast: bool, train: Set, test: Set, prepare: Callable[[int], np.ndarray] | None = None, **options: Any
) -> pd.DataFrame:
    """The sweep of one data set; students that were measured before a stop are not trained again."""
    steps = EPOCHS * -(-len(train[1]) // ALL_ROWS.batch_size)
    options = {"methods": METHODS, "fractions": FRACTIONS, "seeds": range(3)} | options
    if fast:
        options |= {"seeds": range(2), "fractions": (FRACTIONS[0], FRACTIONS[-1])}
    return sweep(
        _network,
        train,
        test,
        replace(SETTINGS, steps=20) if fast else SETTINGS,
        teacher_steps=steps,
        scoring_steps=steps,
        on_all_rows=ALL_ROWS,
        prepare=prepare,
        folder=run.state / "sweep",
        progress=run.progress,
        early_steps=5 if fast else 200,
        runs=2 if fast else 3,
        **options,
    )


CLAIMS = ["distillation-always-helps", "random-is-enough", "weight-grows-as-data-shrinks", "hard-scores-fail-alone"]


@runs.study(claims=CLAIMS, title="all 60,000 images of Fashion-MNIST", minutes=8)
def fashion(run: runs.Run, fast: bool) -> Iterator[Finding]:
    """Five methods, three kept shares, three weights; three seeds."""
    found = _table(run, fast, *_sets("fashion-mnist", fast))
    yield from clean_findings("Fashion-MNIST", found, METHODS)


@runs.study(claims=CLAIMS, title="all 60,000 images of MNIST", minutes=6)
def mnist(run: runs.Run, fast: bool) -> Iterator[Finding]:
    """Three methods, three kept shares, three weights; three seeds."""
    methods = ("random", "el2n", "forgetting")
    found = _table(run, fast, *_sets("mnist", fast), methods=methods)
    yield from clean_findings("MNIST", found, methods)


@runs.study(
    claims=["noise-does-less-harm", "weight-grows-as-data-shrinks"],
    title="all 60,000 images of Fashion-MNIST with 30% wrong labels",
    minutes=6,
)
def fashion_noise(run: runs.Run, fast: bool) -> Iterator[Finding]:
    """Three methods, two kept shares, three weights; three seeds. Test labels are the true ones."""
    train, test = _sets("fashion-mnist", fast)
    methods = ("random", "el2n", "forgetting")
    found = _table(
        run, fast, train, test, partial(_noisy, train[1]), methods=methods, fractions=(FRACTIONS[0], FRACTIONS[-1])
    )
    at = partial(accuracies, found)
    for method in methods:
        plain = at(method, 0.05, 0.0)
        yield Finding(
            "noise-does-less-harm",
            f"Fashion-MNIST with 30% wrong labels, 5% kept by {method}: accuracy gained by a teacher of weight 1.",
            "empirical",
            difference(at(method, 0.05, 1.0), plain),
            ">",
            0.0,
            baseline=plain.mean(),
            baseline_name="accuracy without a teacher",
            detail=accuracies_in_words(found) if method == "random" else "",
        )
    for method in methods:
        half = at(method, 0.05, 0.5)
        yield Finding(
            "weight-grows-as-data-shrinks",
            f"Fashion-MNIST with 30% wrong labels, 5% kept by {method}: accuracy of weight 1 less that of weight 0.5.",
            "empirical",
            difference(at(method, 0.05, 1.0), half),
            ">",
            0.05,
            baseline=half.mean(),
            baseline_name="accuracy with weight 0.5",
        )
