"""A scikit-learn classifier around any PyTorch module."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from paperworks.classification.fitting import fit
from paperworks.classification.prediction import features, predict_proba
from paperworks.errors import InputError
from paperworks.nn import MLP
from paperworks.parameters import check_number, check_seed, check_whole
from paperworks.training import TrainSettings

MakeModule = Callable[[tuple[int, ...], int], torch.nn.Module]
"""``make(shape of an example, number of classes) -> module``."""


class TorchClassifier(ClassifierMixin, BaseEstimator):
    """Train a module with ``fit`` and use it as a scikit-learn classifier.

    Parameters
    ----------
    module : a module that returns logits, of which a copy is trained; or a function of the shape of an example and the
        number of classes that makes one; or None, a perceptron with ``hidden`` layers.
    hidden : widths of the hidden layers of the perceptron.
    standardize : scale every feature to mean 0 and deviation 1 with the training rows' values (``[n, d]`` only).
    steps, batch_size, optimizer, learning_rate, weight_decay, schedule : see ``TrainSettings``. A batch is never larger
        than half of the rows, and at least one.
    teacher, alpha, temperature : a classifier with ``predict_proba`` and the same classes, or a module; see ``fit`` of
        this package.
    device : "auto", or a device of PyTorch.
    random_state : seed of the weights and of the order of the rows.

    Attributes
    ----------
    classes_ : the labels, sorted ``[C]``.
    n_features_in_ : features of a row (of images, the pixels of a row).
    module_ : the trained module.
    losses_ : mean loss of each step.
    """

    def __init__(
        self,
        module: torch.nn.Module | MakeModule | None = None,
        *,
        hidden: Sequence[int] = (64,),
        standardize: bool = True,
        steps: int = 300,
        batch_size: int = 32,
        optimizer: Literal["adamw", "sgd"] = "adamw",
        learning_rate: float = 1e-2,
        weight_decay: float = 1e-4,
        schedule: Literal["constant", "linear", "cosine"] = "cosine",
        teacher: Any = None,
        alpha: float = 0.5,
        temperature: float = 4.0,
        device: str = "cpu",
        random_state: int | np.random.RandomState | None = 0,
    ) -> None:
        self.module = module
        self.hidden = hidden
        self.standardize = standardize
        self.steps = steps
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.schedule = schedule
        self.teacher = teacher
        self.alpha = alpha
        self.temperature = temperature
        self.device = device
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> TorchClassifier:
        """Train on rows ``[n, ...]`` (numbers) and labels ``[n]`` of any kind."""
        state = self.random_state
        if state is not None and not isinstance(state, np.random.RandomState):
            state = check_seed("random_state", state, "None or a RandomState") % 2**32
        for name in ("steps", "batch_size"):
            check_whole(name, getattr(self, name), 1)
        for name in ("learning_rate", "weight_decay", "temperature"):
            check_number(name, getattr(self, name))
        check_number("alpha", self.alpha, 0, 1)
        X, y = validate_data(self, X, y, dtype=(np.float64, np.float32), allow_nd=True)
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise InputError("y", f"one class ({self.classes_[0]!r})", "labels of at least two classes")
        self._shape = X.shape[1:]
        self._mean = X.mean(0, dtype=np.float64) if self.standardize and X.ndim == 2 else 0.0
        deviation = X.std(0, dtype=np.float64) if self.standardize and X.ndim == 2 else np.ones(())
        # a feature that is constant, up to rounding, stays near 0
        self._scale = np.where(deviation > 1e-12 * (1 + np.abs(self._mean)), deviation, 1.0)
        seed = int(check_random_state(state).randint(2**31 - 1))
        self.module_ = self._make(seed)
        settings = TrainSettings(
            steps=self.steps,
            batch_size=max(1, min(self.batch_size, len(X) // 2)),
            optimizer=self.optimizer,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            schedule=self.schedule,
            device=self.device,
            seed=seed,
        )
        teacher = self._teacher_logits(X)
        rows = self._scaled(X)
        options: dict[str, Any] = {"alpha": self.alpha, "temperature": self.temperature} if teacher is not None else {}
        result = fit(self.module_, rows, codes, settings=settings, teacher=teacher, **options)
        self.losses_ = np.array(result.losses)
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of ``classes_``, float64 ``[n, C]``."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=(np.float64, np.float32), allow_nd=True, reset=False)
        if X.shape[1:] != self._shape:
            raise InputError("X", f"rows of shape {X.shape[1:]}", f"{self._shape}, as in fit")
        return predict_proba(self.module_, self._scaled(X), device=self.device)

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class of each row ``[n]``."""
        best = self.predict_proba(X).argmax(1)
        return self.classes_[best]

    def features(self, X: Any, layer: str, **options: Any) -> np.ndarray:
        """What a layer of ``module_`` gives for each row; see ``paperworks.classification.features``."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=(np.float64, np.float32), allow_nd=True, reset=False)
        return features(self.module_, self._scaled(X), layer, device=self.device, **options)

    def _scaled(self, X: np.ndarray) -> np.ndarray:
        return ((X - self._mean) / self._scale).astype(np.float32)

    def _make(self, seed: int) -> torch.nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            if isinstance(self.module, torch.nn.Module):
                return copy.deepcopy(self.module)
            if self.module is not None:
                return self.module(self._shape, len(self.classes_))
            return MLP(inputs=int(np.prod(self._shape)), hidden=self.hidden, outputs=len(self.classes_))

    def _teacher_logits(self, X: np.ndarray) -> Any:
        if self.teacher is None or isinstance(self.teacher, torch.nn.Module):
            return self.teacher
        if not hasattr(self.teacher, "predict_proba"):
            raise InputError(
                "teacher", type(self.teacher).__name__, "a module, or a fitted classifier with predict_proba"
            )
        if list(self.teacher.classes_) != list(self.classes_):
            raise InputError("teacher", f"classes {list(self.teacher.classes_)}", f"{list(self.classes_)}")
        # probabilities have their logarithms as logits; those of 0 are cut
        return np.log(np.clip(self.teacher.predict_proba(X), 1e-7, None))
