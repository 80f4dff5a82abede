"""What a protection does to those who train on the data: alone, mixed with clean samples, with other learners."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from paperworks.classification import predict
from paperworks.errors import InputError
from paperworks.papers.unlearnable.estimator import BayesErrorEstimator
from paperworks.papers.unlearnable.surrogates import MakeModel, SurrogateTraining, embed
from paperworks.parameters import check_seed
from paperworks.runs import Progress, no_progress

CLEAN_PART = "clean part alone"


class MixedDataset(torch.utils.data.Dataset[tuple[torch.Tensor, int]]):
    """Every sample once, protected with probability ``ratio``, else clean; drawn once, from the seed.

    Parameters
    ----------
    clean, protected : samples ``[n, ...]`` in the same order, float.
    y : class codes ``[n]``.
    ratio : share of protected samples, 0 to 1.
    seed : of the draw. The draws of two ratios are nested: what is protected at the smaller is so at the larger.

    Attributes
    ----------
    is_protected : bool ``[n]``.
    """

    def __init__(self, clean: Any, protected: Any, y: Any, ratio: float, seed: int = 0) -> None:
        check_seed("seed", seed)
        self._clean, self._protected = np.asarray(clean), np.asarray(protected)
        self.labels = np.asarray(y)
        if self._clean.shape != self._protected.shape or len(self.labels) != len(self._clean):
            found = f"shapes {self._clean.shape}, {self._protected.shape} and {len(self.labels)} labels"
            raise InputError("protected", found, "as many samples of the same shape, and a label for each")
        if not 0 <= ratio <= 1:
            raise InputError("ratio", ratio, "a share from 0 to 1")
        self.is_protected = np.random.default_rng(seed).random(len(self._clean)) < ratio

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        source = self._protected if self.is_protected[index] else self._clean
        return torch.as_tensor(source[index]), int(self.labels[index])

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """All samples and labels as arrays."""
        chosen = self.is_protected.reshape(-1, *[1] * (self._clean.ndim - 1))
        return np.where(chosen, self._protected, self._clean), self.labels


@dataclass(frozen=True)
class Trained:
    """What a training on a set gave: accuracy on clean test samples and on its own training samples, and the estimate
    of the Bayes error of its training samples in its own features."""

    test_accuracy: float
    training_accuracy: float
    bayes_error: float


def train_on(
    make: MakeModel,
    X: np.ndarray,
    y: np.ndarray,
    test: tuple[np.ndarray, np.ndarray],
    *,
    training: SurrogateTraining,
    estimator: BayesErrorEstimator | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: Progress = no_progress,
) -> Trained:
    """Train a fresh classifier on samples, and measure it. ``test`` is (samples, class codes), clean."""
    check_seed("seed", seed)
    model = training.train(make(seed), np.ascontiguousarray(X, dtype=np.float32), y, seed, device, progress=progress)
    own = predict(model, {"inputs": torch.as_tensor(X, dtype=torch.float32)}, device=device) == y
    held = predict(model, {"inputs": torch.as_tensor(test[0], dtype=torch.float32)}, device=device) == test[1]
    place = next(model.parameters()).device
    features = embed(model, torch.as_tensor(X, dtype=torch.float32).to(place))
    error = (estimator or BayesErrorEstimator(device=device)).score(features, y)
    return Trained(float(held.mean()), float(own.mean()), error)


def evaluate_protection(
    make: MakeModel,
    clean: np.ndarray,
    protected: Mapping[str, np.ndarray],
    y: np.ndarray,
    test: tuple[np.ndarray, np.ndarray],
    *,
    ratios: Sequence[float] = (0.5, 0.8, 0.9, 1.0),
    repeats: int = 1,
    training: SurrogateTraining | None = None,
    estimator: BayesErrorEstimator | None = None,
    device: str = "auto",
    random_state: int = 0,
    progress: Progress = no_progress,
) -> pd.DataFrame:
    """Train on mixtures of clean and protected samples from scratch, and test on clean ones.

    Parameters
    ----------
    make : function from a seed to a fresh classifier.
    clean, y : training samples float ``[n, ...]`` and class codes ``[n]``.
    protected : name of a protection -> its samples, in the same order.
    test : clean samples and class codes that no training sees.
    ratios : shares of protected samples in the training set.
    repeats : trainings of each, with other draws and weights.

    Returns
    -------
    A row per protection, ratio and repeat: ``method``, ``ratio``, ``repeat``, ``test_accuracy``, ``training_accuracy``,
    ``bayes_error``. The method "clean" has ratio 0, and "clean part alone" is the training on what a mixture has of
    clean samples (missing at ratio 1, and where a class would have fewer than two).
    """
    check_seed("random_state", random_state)
    if repeats < 1:
        raise InputError("repeats", repeats, "1 or more")
    how = training or SurrogateTraining()
    jobs: list[tuple[str, float, int, Callable[[], tuple[np.ndarray, np.ndarray]]]] = []
    for repeat in range(repeats):
        draw = random_state + repeat
        jobs.append(("clean", 0.0, repeat, lambda: (clean, y)))
        for ratio in ratios:
            for name, samples in protected.items():
                mixed = MixedDataset(clean, samples, y, ratio, draw)
                jobs.append((name, ratio, repeat, mixed.arrays))
            kept = ~MixedDataset(clean, clean, y, ratio, draw).is_protected
            if np.bincount(y[kept], minlength=int(y.max()) + 1).min() >= 2:
                jobs.append((CLEAN_PART, ratio, repeat, lambda kept=kept: (clean[kept], y[kept])))  # type: ignore[misc]
    rows = []
    for name, ratio, repeat, read in progress(jobs, "training on what others would get", len(jobs)):
        seed = random_state + 7_919 * (repeat + 1)
        found = train_on(
            make, *read(), test, training=how, estimator=estimator, seed=seed, device=device, progress=progress
        )
        rows.append({"method": name, "ratio": ratio, "repeat": repeat, **vars(found)})
    return pd.DataFrame(rows)


def other_learners(random_state: int = 0) -> dict[str, Any]:
    """Learners that have nothing in common with the surrogate: a support vector machine, neighbours, a forest."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.svm import SVC

    return {
        "support vector machine": SVC(C=10),
        "5 nearest neighbours": KNeighborsClassifier(5),
        "random forest": RandomForestClassifier(random_state=random_state % 2**32),
    }


def transfer(
    sets: Mapping[str, np.ndarray],
    y: np.ndarray,
    test: tuple[np.ndarray, np.ndarray],
    *,
    random_state: int = 0,
    progress: Progress = no_progress,
) -> pd.DataFrame:
    """Accuracy on clean test samples of other learners trained on each set.

    Returns
    -------
    A row per learner, a column per set.
    """
    check_seed("random_state", random_state)
    flat = test[0].reshape(len(test[0]), -1)
    jobs = [(learner, name) for learner in other_learners(random_state) for name in sets]
    found: dict[str, dict[str, float]] = {}
    for learner, name in progress(jobs, "training other learners", len(jobs)):
        fitted = other_learners(random_state)[learner].fit(sets[name].reshape(len(y), -1), y)
        found.setdefault(learner, {})[name] = float(fitted.score(flat, test[1]))
    return pd.DataFrame(found).T
