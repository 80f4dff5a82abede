"""``InContextClassifier``: an in-context model as a scikit-learn classifier."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from paperworks.errors import InputError
from paperworks.papers.icl_discrete.bundle import bundled_model_path
from paperworks.papers.icl_discrete.contexts import Names, check_prompts, to_signs
from paperworks.papers.icl_discrete.modeling import InContextModel, load_in_context_model
from paperworks.parameters import check_seed


class InContextClassifier(ClassifierMixin, BaseEstimator):
    """Classifies rows of bits from the rows that ``fit`` stores, without changing a weight.

    Parameters
    ----------
    model : an ``InContextModel``, the folder of one, or None for the bundled model (8 bits, conjunctions).
    permutations : the context's order matters little, but does; scores are the mean over so many random orders.
    seed : of the orders, and of the bits that fill up rows of fewer columns than the model reads.

    ``fit(X, y)`` takes ``[m, n]`` bits and ``[m]`` labels as {0, 1}, {-1, 1} or booleans. Where X has fewer columns
    than the model, every row gets random bits in the others, which is what an irrelevant bit looked like in training.

    Attributes
    ----------
    classes_ : the two labels, the negative one first.
    n_features_in_ : columns of X.
    """

    def __init__(self, model: InContextModel | str | Path | None = None, permutations: int = 4, seed: int = 0) -> None:
        self.model = model
        self.permutations = permutations
        self.seed = seed

    def fit(self, X: Any, y: Any) -> InContextClassifier:
        """Check and keep the context. Raises InputError naming the field and the row."""
        check_seed("seed", self.seed)
        if self.permutations < 1:
            raise InputError("permutations", self.permutations, "1 or more")
        model = self.model
        self.model_ = (
            model if isinstance(model, InContextModel) else load_in_context_model(model or bundled_model_path())
        )
        self.names_ = Names.of(y)
        ((points, labels),) = check_prompts([(_rows(X), np.asarray(y))], max_points=self.model_.max_context)
        if points.shape[1] > self.model_.config.n_dims:
            raise InputError(
                "X", f"{points.shape[1]} columns", f"at most {self.model_.config.n_dims}, as the model reads"
            )
        self.n_features_in_ = points.shape[1]
        self.classes_ = np.array([self.names_.negative, self.names_.positive], dtype=self.names_.dtype)
        rng = np.random.default_rng(self.seed)
        missing = self.model_.config.n_dims - points.shape[1]
        self.points_ = self._filled(points, rng.integers(2, size=(len(points), missing)) * 2 - 1)
        self.labels_ = labels
        # one filling for all queries, so that a prediction does not depend on the rows beside it
        self.query_fill_ = rng.integers(2, size=missing) * 2 - 1
        self.orders_ = [rng.permutation(len(labels)) for _ in range(self.permutations)]
        return self

    def decision_function(self, X: Any) -> np.ndarray:
        """Mean logit of the positive label, float64 ``[q]``."""
        check_is_fitted(self, "points_")
        rows = _rows(X)
        if len(rows) == 0:
            return np.empty(0)
        queries = to_signs(rows, "X", ndim=2)
        if queries.shape[1] != self.n_features_in_:
            raise InputError("X", f"{queries.shape[1]} columns", f"{self.n_features_in_}, as in fit")
        filled = self._filled(queries, self.query_fill_)
        return np.mean(
            [self.model_.context_scores(self.points_[o], self.labels_[o], filled) for o in self.orders_], axis=0
        )

    def predict(self, X: Any) -> np.ndarray:
        """Labels in the names of ``y``."""
        second = self.decision_function(X) > 0
        return self.names_.restore(second)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of ``classes_``, float64 ``[q, 2]``: the sigmoid of the mean logit."""
        positive = 1 / (1 + np.exp(-self.decision_function(X)))
        return np.stack([1 - positive, positive], 1)

    def _filled(self, points: np.ndarray, fill: np.ndarray) -> np.ndarray:
        return np.concatenate([points, np.broadcast_to(fill, (len(points), fill.shape[-1]))], 1).astype(np.int8)


def _rows(X: Any) -> Any:
    if not isinstance(X, pd.DataFrame):
        return X.to_numpy() if hasattr(X, "to_numpy") else X
    numbers = all(pd.api.types.is_numeric_dtype(kind) for kind in X.dtypes)  # booleans beside numbers are objects
    return X.to_numpy(dtype=float, na_value=np.nan) if numbers else X.to_numpy()
