"""Scores of training examples, from as few training runs as they need.

early trainings (several seeds)   EL2N, EL1N, margin errors, GraNd
one instrumented training         forgetting, AUM, correctness, loss; and CCS on AUM
the model at its end              entropy, least confidence, margin; herding, k-center, moderate on its features
models on random subsets          memorization
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from paperworks import classification
from paperworks.classification import TrainingDynamics, as_examples
from paperworks.classification.data import as_labels, count_rows, take_rows
from paperworks.errors import InputError, nearest
from paperworks.inputs.transforms import Transform
from paperworks.parameters import check_seed
from paperworks.runs import Progress, no_progress
from paperworks.training import TrainSettings

MakeModel = Callable[[int], torch.nn.Module]
"""``make(seed) -> a fresh classifier``."""

MEMORIZATION_SHARE = 0.7
"""Share of the rows in a random subset of memorization (Feldman and Zhang 2020)."""


def memorization_subsets(n: int, models: int, seed: int) -> np.ndarray:
    """Which rows each model is trained on, bool ``[models, n]``.

    In blocks of 10 to 19 models the rows are cut at random into as many parts as models, and every model leaves out
    three tenths of the parts, the next one moved by a part. So every row is left out by three tenths of the models,
    where independent draws would leave some rows in all of them.
    """
    rng = np.random.default_rng([seed, 7])
    used = np.ones((models, n), dtype=bool)
    for block in np.array_split(np.arange(models), max(1, models // 10)):
        part = rng.permutation(np.arange(n) % len(block))
        left_out = max(1, round((1 - MEMORIZATION_SHARE) * len(block)))
        for place, number in enumerate(block):
            used[number] = (part - place) % len(block) >= left_out
    return used


@dataclass(frozen=True)
class Method:
    """A way to choose rows.

    Attributes
    ----------
    keep : which rows are kept first: those with the largest or the smallest score; "order" where the method itself
        chooses one row after the other (or some, in CCS).
    needs : what it is computed from.
    source : where it is defined.
    """

    keep: Literal["largest", "smallest", "order"]
    needs: Literal["nothing", "early", "dynamics", "final", "subsets"]
    source: str


METHODS: dict[str, Method] = {
    "random": Method("order", "nothing", "uniform without replacement"),
    "el2n": Method("largest", "early", "Paul et al. 2021"),
    "el1n": Method("largest", "early", "Paul et al. 2021, variant"),
    "max-margin": Method("largest", "early", "Paul et al. 2021, variant"),
    "sum-margin": Method("largest", "early", "Paul et al. 2021, variant"),
    "grand": Method("largest", "early", "Paul et al. 2021, all parameters"),
    "grand-last": Method("largest", "early", "Guo et al. 2022 (DeepCore), last layer"),
    "forgetting": Method("largest", "dynamics", "Toneva et al. 2019"),
    "memorization": Method("largest", "subsets", "Feldman and Zhang 2020"),
    "aum": Method("smallest", "dynamics", "Pleiss et al. 2020"),
    "ccs": Method("order", "dynamics", "Zheng et al. 2023, on AUM"),
    "herding": Method("order", "final", "Welling 2009"),
    "k-center": Method("order", "final", "Sener and Savarese 2018"),
    "moderate": Method("smallest", "final", "Xia et al. 2023"),
    "entropy": Method("largest", "final", "Coleman et al. 2020"),
    "least-confidence": Method("smallest", "final", "Coleman et al. 2020"),
    "margin": Method("smallest", "final", "Coleman et al. 2020"),
    "correctness": Method("smallest", "dynamics", "number of correct presentations"),
    "loss": Method("largest", "dynamics", "loss at the last presentation"),
}
"""Name -> method, in the order of the specification."""


class ExampleScores:
    """Scores of the rows of one training set. Every training run is made once, when a score first needs it.

    Parameters
    ----------
    make_model : makes a fresh classifier from a seed.
    data, labels : all training rows; see ``paperworks.classification.fit``.
    settings : of the instrumented training, and (but for the number of steps) of the others.
    early_steps, runs : steps of an early training, and how many are averaged. 0 steps: at initialisation.
    memorization_models : models of memorization.
    augment : augmentation of the instrumented training.
    seed : of all trainings.
    checkpoint_dir : trainings that were stopped go on from here.
    """

    def __init__(
        self,
        make_model: MakeModel,
        data: Any,
        labels: Any,
        settings: TrainSettings,
        *,
        early_steps: int = 60,
        runs: int = 5,
        memorization_models: int = 20,
        augment: Transform | None = None,
        seed: int = 0,
        checkpoint_dir: Path | None = None,
        progress: Progress = no_progress,
    ) -> None:
        check_seed("seed", seed)
        self.make_model, self.settings, self.augment = make_model, settings, augment
        self.data = as_examples(data)
        self.labels = as_labels(labels, count_rows(self.data)).numpy()
        for name, value, least in (
            ("early_steps", early_steps, 0),
            ("runs", runs, 1),
            ("memorization_models", memorization_models, 4),
        ):
            if value < least:
                raise InputError(name, value, f"{least} or more")
        self.early_steps, self.runs, self.memorization_models = early_steps, runs, memorization_models
        self.seed, self.folder, self.progress = seed, checkpoint_dir, progress
        self._cache: dict[str, np.ndarray] = {}

    def score(self, method: str) -> np.ndarray:
        """The score of every row, float64 ``[n]``. Raises InputError for a method without scores."""
        if method not in METHODS:
            raise InputError("method", repr(method), f"one of {', '.join(METHODS)}{nearest(method, METHODS)}")
        if METHODS[method].keep == "order" and method != "ccs":
            raise InputError("method", f"{method}, which chooses rows without a score", "a method with scores")
        if method not in self._cache:
            self._cache[method] = self._compute(method)
        return self._cache[method]

    @cached_property
    def trained(self) -> tuple[torch.nn.Module, TrainingDynamics]:
        """The model of the instrumented training on all rows, and what it did to each."""
        dynamics, model = TrainingDynamics(len(self.labels)), self.make_model(self.seed)
        self._fit(model, self.data, self.labels, self.settings, "dynamics", augment=self.augment, dynamics=dynamics)
        return model, dynamics

    @cached_property
    def logits(self) -> np.ndarray:
        """Logits of the instrumented training's model, float32 ``[n, C]``."""
        return self._logits(self.trained[0])

    @cached_property
    def features(self) -> np.ndarray:
        """Input of the last linear layer of that model, float32 ``[n, d]``."""
        return self._features(self.trained[0])

    def _compute(self, method: str) -> np.ndarray:
        kind = METHODS[method].needs
        if kind == "early":
            return self._early_mean(method)
        if kind == "subsets":
            return self._memorization()
        if kind == "dynamics":
            dynamics = self.trained[1]
            found: dict[str, Callable[[], np.ndarray]] = {
                "forgetting": dynamics.forgetting,
                "aum": dynamics.aum,
                "ccs": dynamics.aum,
                "correctness": dynamics.correctness,
                "loss": dynamics.final_loss,
            }
            scores = found[method]()
            if np.isnan(scores).any():
                steps = self.settings.steps
                raise InputError("steps", f"{steps}, in which some rows were never presented", "at least one epoch")
            return scores
        by_logits = {
            "entropy": classification.entropy,
            "least-confidence": classification.largest_probability,
            "margin": classification.probability_margin,
        }
        return by_logits[method](self.logits) if method in by_logits else self._moderate()

    def _moderate(self) -> np.ndarray:
        """Distance between a row's distance to its class mean and the median of these distances in the class."""
        h, scores = self.features.astype(np.float64), np.empty(len(self.labels))
        for label in np.unique(self.labels):
            rows = self.labels == label
            distance = np.linalg.norm(h[rows] - h[rows].mean(0), axis=1)
            scores[rows] = np.abs(distance - np.median(distance))
        return scores

    @cached_property
    def _early_models(self) -> list[torch.nn.Module]:
        found = []
        for number in range(self.runs):
            model = self.make_model(self.seed + 1 + number)
            if self.early_steps:
                total = max(self.early_steps, self.settings.steps or 0)
                settings = replace(
                    self.settings, steps=self.early_steps, schedule_steps=total, seed=self.seed + 1 + number
                )
                self._fit(model, self.data, self.labels, settings, f"early-{number}")
            found.append(model)
        return found

    def _early_mean(self, method: str) -> np.ndarray:
        total = np.zeros(len(self.labels))
        for model in self._early_models:
            if method == "grand":
                device = self.settings.device
                total += classification.gradient_norms(
                    model, self.data, self.labels, device=device, progress=self.progress
                )
            elif method == "grand-last":
                total += classification.last_layer_gradient_norms(
                    self._logits(model), self.labels, self._features(model)
                )
            else:
                z = self._logits(model)
                total += {
                    "el2n": lambda z: classification.error_norm(z, self.labels),
                    "el1n": lambda z: classification.error_norm(z, self.labels, order=1),
                    "max-margin": lambda z: classification.margin_error(z, self.labels),
                    "sum-margin": lambda z: classification.summed_margin_error(z, self.labels),
                }[method](z)
        return total / self.runs

    def _memorization(self) -> np.ndarray:
        """Share right of the models trained with a row, minus that of the models trained without it."""
        used = memorization_subsets(len(self.labels), self.memorization_models, self.seed)
        right = np.zeros_like(used)
        for number, own in enumerate(used):
            rows = np.flatnonzero(own)
            model = self.make_model(self.seed + 1000 + number)
            settings = replace(self.settings, seed=self.seed + 1000 + number)
            self._fit(model, take_rows(self.data, rows), self.labels[rows], settings, f"subset-{number}")
            right[number] = self._logits(model).argmax(1) == self.labels
        return (right & used).sum(0) / used.sum(0) - (right & ~used).sum(0) / (~used).sum(0)

    def _fit(self, model: Any, data: Any, labels: Any, settings: TrainSettings, name: str, **options: Any) -> None:
        folder = None if self.folder is None else self.folder / name
        classification.fit(
            model, data, labels, settings=settings, checkpoint_dir=folder, progress=self.progress, **options
        )

    def _logits(self, model: torch.nn.Module) -> np.ndarray:
        return classification.predict_logits(model, self.data, device=self.settings.device)

    def _features(self, model: torch.nn.Module) -> np.ndarray:
        layer = classification.last_linear_layer(model)
        return classification.features(model, self.data, layer, of="input", device=self.settings.device)
