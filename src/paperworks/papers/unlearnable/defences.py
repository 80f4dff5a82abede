"""Counter-measures, and the estimate in other feature spaces, on the digits of ``study.py``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch

from paperworks import runs
from paperworks.inputs.transforms import Compose, Cutout, RandomCrop
from paperworks.metrics import mean_interval
from paperworks.nn import SmallCNN
from paperworks.papers.unlearnable.baselines import error_minimizing_noise, random_noise
from paperworks.papers.unlearnable.countermeasures import (
    AdversarialTraining,
    jpeg,
    orthogonal_projection,
    reduce_bits,
)
from paperworks.papers.unlearnable.estimator import BayesErrorEstimator
from paperworks.papers.unlearnable.evaluation import train_on
from paperworks.papers.unlearnable.protector import BEOProtector
from paperworks.papers.unlearnable.surrogates import MakeModel, SurrogateTraining, default_surrogate, embed
from paperworks.runs import Finding, Run
from paperworks.runs.files import write_text

EPS, SEEDS, STEPS, EPOCHS, TEST_EPOCHS = 0.3, 3, 60, 15, 30
OURS, SHORTCUT, NOISE, CLEAN = "ours", "error-minimising", "random noise", "clean"
Sets = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Split:
    """Clean digits to protect, and others to test on."""

    images: np.ndarray
    labels: np.ndarray
    held: tuple[np.ndarray, np.ndarray]


def _split(seed: int, fast: bool) -> Split:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    images = (bunch.images / 16).astype(np.float32)[:, None]
    train, held, y, held_y = train_test_split(
        images, bunch.target, test_size=360, stratify=bunch.target, random_state=seed
    )
    return Split(train[:300], y[:300], (held, held_y)) if fast else Split(train, y, (held, held_y))


def _sets(run: Run, split: Split, seed: int, fast: bool) -> dict[str, np.ndarray]:
    kept = run.state / f"sets-{seed}.npz"
    if kept.is_file():
        with np.load(kept) as stored:
            return {name: stored[name] for name in stored.files}
    steps, training = (6 if fast else STEPS), SurrogateTraining(epochs=3 if fast else EPOCHS)
    make = default_surrogate(split.images.shape[1:], 10)
    protector = BEOProtector(make, eps=EPS, lr=EPS / min(15, steps), steps=steps, training=training, random_state=seed)
    options: dict[str, Any] = {"eps": EPS, "training": training, "random_state": seed}
    sets = {
        CLEAN: split.images,
        OURS: protector.fit_transform(split.images, split.labels, checkpoint=run.state / f"ascent-{seed}.pt"),
        SHORTCUT: error_minimizing_noise(split.images, split.labels, make, **options),
        NOISE: random_noise(split.images, EPS, seed),
    }
    np.savez(run.state / f"aside-{seed}.npz", **sets)  # type: ignore[arg-type]
    (run.state / f"aside-{seed}.npz").replace(kept)
    return sets


@runs.study(
    claims=["fully-protected-data", "bayes-error-rises"],
    title="Digits: counter-measures, and the estimate in other feature spaces",
    minutes=5,
)
def defences(run: Run, fast: bool) -> Iterator[Finding]:
    """Three seeds; the protected sets are those of ``digits``, made with the same options."""
    accuracies, spaces = [], []
    for seed in run.progress(range(2 if fast else SEEDS), "protecting digits, one seed after the other"):
        accuracy, space = _seed(run, seed, fast)
        accuracies.append(accuracy.assign(seed=seed))
        spaces.append(space.assign(seed=seed))
    yield from _countered(pd.concat(accuracies))
    yield from _elsewhere(pd.concat(spaces))


def _seed(run: Run, seed: int, fast: bool) -> tuple[pd.DataFrame, pd.DataFrame]:
    files = [run.state / f"{name}-{seed}.json" for name in ("countered", "spaces")]
    if not all(file.is_file() for file in files):
        split = _split(seed, fast)
        sets = _sets(run, split, seed, fast)
        for file, table in zip(
            files, (_trainings(split, sets, seed, fast), _spaces(split, sets, seed, fast)), strict=True
        ):
            write_text(file, table.to_json(orient="split", double_precision=15))
    countered, spaces = (pd.read_json(file, orient="split") for file in files)
    return countered, spaces


def _trainings(split: Split, sets: Sets, seed: int, fast: bool) -> pd.DataFrame:
    """Accuracy on clean test images after a training with a counter-measure, by set."""
    make = default_surrogate(split.images.shape[1:], 10)
    epochs = 5 if fast else TEST_EPOCHS
    plain = SurrogateTraining(epochs=epochs)
    shifted = Compose((RandomCrop(padding=1), Cutout(3)))
    ways: dict[str, tuple[Any, SurrogateTraining]] = {
        "none": (None, plain),
        "crops and cut-out": (None, SurrogateTraining(epochs=epochs, augment=shifted)),
        "adversarial training": (None, AdversarialTraining(epochs=epochs, eps=EPS)),
        "JPEG of quality 10": (jpeg, plain),
        "2 bits a pixel": (reduce_bits, plain),
        "orthogonal projection": (partial(orthogonal_projection, y=split.labels, random_state=seed), plain),
    }
    rows = []
    for way, (change, training) in ways.items():
        for name in (CLEAN, OURS, SHORTCUT):
            images = sets[name] if change is None else change(sets[name])
            found = train_on(make, images, split.labels, split.held, training=training, seed=seed + 7_919)
            rows.append({"way": way, "set": name, "accuracy": found.test_accuracy})
    return pd.DataFrame(rows)


def _spaces(split: Split, sets: Sets, seed: int, fast: bool) -> pd.DataFrame:
    """The estimate of every set in several feature spaces."""
    training = SurrogateTraining(epochs=5 if fast else TEST_EPOCHS)
    learning = SurrogateTraining(epochs=5 if fast else TEST_EPOCHS, learning_rate=0.05)
    spaces: dict[str, tuple[MakeModel, SurrogateTraining] | None] = {
        "the same network, other seed": (default_surrogate(split.images.shape[1:], 10), training),
        "a residual convolutional network": (_convolutions, learning),
        "pixels": None,
    }
    rows = []
    for space, how in spaces.items():
        for name in (CLEAN, OURS, NOISE, SHORTCUT):
            images = torch.from_numpy(np.ascontiguousarray(sets[name], dtype=np.float32))
            if how is None:
                features = images.flatten(1)
            else:
                model = how[1].train(how[0](seed + 104_729), images, split.labels, seed + 104_729)
                features = embed(model, images.to(next(model.parameters()).device))
            for kernel in ("rbf", "knn"):
                estimator = BayesErrorEstimator(kernel=kernel, sigma="median" if how is None else 0.3)  # type: ignore[arg-type]
                rows.append(
                    {"space": space, "set": name, "kernel": kernel, "estimate": estimator.score(features, split.labels)}
                )
    return pd.DataFrame(rows)


def _convolutions(seed: int) -> torch.nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return SmallCNN(channels=1, widths=(16, 32), outputs=10)


def _pick(table: pd.DataFrame, value: str, **where: str) -> np.ndarray:
    """A figure of every seed, in the order of the seeds."""
    chosen = np.logical_and.reduce([table[column] == wanted for column, wanted in where.items()])
    return table[chosen].sort_values("seed")[value].to_numpy()


def _countered(table: pd.DataFrame) -> Iterator[Finding]:
    for way in dict.fromkeys(table["way"]):
        clean, ours, short = (_pick(table, "accuracy", way=way, set=name) for name in (CLEAN, OURS, SHORTCUT))
        yield Finding(
            "fully-protected-data",
            f"counter-measure {way}: accuracy on clean images falls by more than 0.1",
            "empirical",
            mean_interval(clean - ours),
            ">",
            0.1,
            baseline=float(clean.mean()),
            baseline_name="clean images with the same counter-measure",
            detail=f"accuracy {ours.mean():.3f}; with error-minimising noise {short.mean():.3f}",
        )


def _elsewhere(table: pd.DataFrame) -> Iterator[Finding]:
    for space in dict.fromkeys(table["space"]):
        for kernel, words in (("rbf", ""), ("knn", ", by the 10 nearest neighbours")):
            found = {
                name: _pick(table, "estimate", space=space, kernel=kernel, set=name)
                for name in (CLEAN, OURS, NOISE, SHORTCUT)
            }
            yield Finding(
                "bayes-error-rises",
                f"features: {space}{words}: the estimate is above that of random noise of the same size",
                "empirical",
                mean_interval(found[OURS] - found[NOISE]),
                ">",
                0,
                baseline=float(found[NOISE].mean()),
                baseline_name="estimate with random noise",
                detail=f"estimate {found[OURS].mean():.3f}; clean {found[CLEAN].mean():.3f}, error-minimising noise "
                f"{found[SHORTCUT].mean():.3f}",
            )
