"""The scikit-learn flavour: a classifier for rows of numbers that can unlearn them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from paperworks.errors import InputError
from paperworks.papers.s3t.bases import table_base
from paperworks.papers.s3t.layers import Lora
from paperworks.papers.s3t.manifest import DeletionReceipt
from paperworks.papers.s3t.serving import Aggregation
from paperworks.papers.s3t.system import S3T
from paperworks.parameters import check_seed
from paperworks.training import TrainSettings


class S3TClassifier(ClassifierMixin, BaseEstimator):
    """A residual perceptron with adapters, trained slice by slice; rows are deleted with ``unlearn``.

    Parameters
    ----------
    n_shards, n_slices, budget : m, L and B; budget None is L.
    layers, width : of the network; at least ``n_slices`` layers.
    rank, alpha : of the adapters.
    epochs, batch_size, learning_rate : of every stage.
    aggregation : see ``S3T``.
    folder : where manifest and adapters go; default a temporary folder.
    device, random_state : as usual.

    Attributes
    ----------
    classes_ : labels.
    system_ : the fitted ``S3T``.
    """

    def __init__(
        self,
        n_shards: int = 1,
        n_slices: int = 3,
        budget: int | None = None,
        *,
        layers: int = 6,
        width: int = 64,
        rank: int = 8,
        alpha: float = 16,
        epochs: float = 8,
        batch_size: int = 32,
        learning_rate: float = 5e-3,
        aggregation: Aggregation = "mean_probs",
        folder: str | Path | None = None,
        device: str = "auto",
        random_state: int | np.random.RandomState | None = 0,
    ) -> None:
        self.n_shards, self.n_slices, self.budget = n_shards, n_slices, budget
        self.layers, self.width, self.rank, self.alpha = layers, width, rank, alpha
        self.epochs, self.batch_size, self.learning_rate = epochs, batch_size, learning_rate
        self.aggregation, self.folder, self.device, self.random_state = aggregation, folder, device, random_state

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        ids: Sequence[Any] | None = None,
        owners: Sequence[Any] | None = None,
        risk: ArrayLike | None = None,
    ) -> Self:
        """Train on rows ``[n, d]`` with labels ``[n]``; ids default to row numbers. NaN is a missing number."""
        if self.random_state is not None and not isinstance(self.random_state, np.random.RandomState):
            check_seed("random_state", self.random_state, "None or a RandomState")
        rows, labels = validate_data(self, X, y, dtype=np.float32, ensure_all_finite="allow-nan")
        try:
            check_classification_targets(labels)
        except ValueError as error:
            raise InputError("y", str(error), "classes") from None
        self.classes_, codes = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise InputError("y", f"one class ({self.classes_[0]!r})", "at least two classes")
        seed = self.random_state
        if not isinstance(seed, (int, np.integer)):
            seed = int(check_random_state(seed).randint(2**31))
        base = table_base(rows.shape[1], len(self.classes_), layers=self.layers, width=self.width, seed=int(seed))
        settings = TrainSettings(
            epochs=self.epochs, batch_size=self.batch_size, learning_rate=self.learning_rate, device=self.device
        )
        system = S3T(
            base,
            self.folder,
            n_shards=self.n_shards,
            n_slices=self.n_slices,
            budget=self.budget,
            peft_config=Lora(self.rank, self.alpha, 0.0),
            settings=settings,
            aggregation=self.aggregation,
            seed=int(seed),
        )
        system.fit({"inputs": rows}, codes, ids, owners=owners, risk=risk, classes=[str(c) for c in self.classes_])
        self.system_ = system
        return self

    def predict_proba(self, X: ArrayLike) -> np.ndarray:
        """Probabilities of ``classes_``, float64 ``[n, C]``."""
        check_is_fitted(self)
        rows = validate_data(self, X, reset=False, dtype=np.float32, ensure_all_finite="allow-nan")
        return self.system_.predict_proba({"inputs": rows})

    def predict(self, X: ArrayLike) -> np.ndarray:
        """Labels ``[n]``."""
        best = self.predict_proba(X).argmax(1)
        return self.classes_[best]

    def unlearn(self, ids: Sequence[Any] | str | int) -> DeletionReceipt:
        """Delete rows by id; nothing is trained."""
        check_is_fitted(self)
        return self.system_.delete(ids)
