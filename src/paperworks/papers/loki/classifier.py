"""Loki around any scikit-learn classifier: it predicts labels of the whole space, those never seen among them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.utils.validation import check_is_fitted

from paperworks.errors import InputError
from paperworks.papers.loki.frechet import FrechetMean, Path, Tie, as_weights
from paperworks.papers.loki.spaces import Label, LabelSpace

TEMPERATURES = np.geomspace(0.05, 20, 61)


def sharpen(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities at another softmax temperature: in proportion to p^(1/T), rows that sum to 1."""
    if not (np.isfinite(temperature) and temperature > 0):
        raise InputError("temperature", temperature, "a number above 0, or 'calibrate'")
    if temperature == 1:
        return probabilities
    with np.errstate(divide="ignore"):
        logits = np.log(probabilities) / temperature
    logits -= logits.max(axis=1, keepdims=True)
    powered = np.exp(logits)
    return powered / powered.sum(axis=1, keepdims=True)


def calibrate(
    probabilities: np.ndarray,
    truth: np.ndarray,
    mean: FrechetMean,
    *,
    by: Literal["nll", "cost"] = "nll",
) -> float:
    """The temperature that fits held-out rows of observed classes best.

    Parameters
    ----------
    probabilities : float ``[B, K]`` of rows that the classifier was not fitted on.
    truth : index of each row's label in the space, int ``[B]``.
    by : ``nll`` minimises the mean negative log-likelihood of the true class (rows whose label is not observed are
        left out); ``cost`` the mean squared distance of Loki's predictions.
    """
    if by not in ("nll", "cost"):
        raise InputError("by", repr(by), "'nll' or 'cost'")
    weights = as_weights(probabilities, len(mean.observed))
    if by == "cost":
        costs = [float((mean.space.paired(mean.predict(sharpen(weights, t)), truth) ** 2).mean()) for t in TEMPERATURES]
        return float(TEMPERATURES[int(np.argmin(costs))])
    column = {label: k for k, label in enumerate(mean.observed.tolist())}
    rows = np.array([i for i, y in enumerate(np.asarray(truth).tolist()) if y in column], dtype=np.int64)
    if not len(rows):
        raise InputError("truth", "no row of an observed label", "held-out rows of observed labels to calibrate on")
    own = np.array([column[int(y)] for y in np.asarray(truth)[rows]])
    losses = []
    for t in TEMPERATURES:
        likelihood = sharpen(weights[rows], t)[np.arange(len(rows)), own]
        losses.append(float(-np.log(np.maximum(likelihood, 1e-300)).mean()))
    return float(TEMPERATURES[int(np.argmin(losses))])


def _prefitted(estimator: Any) -> bool:
    return type(estimator).__name__ == "FrozenEstimator"


class LokiClassifier(MetaEstimatorMixin, ClassifierMixin, BaseEstimator):
    """Predict any label of a label space with a classifier that was trained on some of them.

    Parameters
    ----------
    estimator : a scikit-learn classifier with ``predict_proba``. It is cloned and fitted; wrap a fitted one in
        ``sklearn.frozen.FrozenEstimator``.
    space : the label space; every class of the estimator must be one of its labels.
    observed : labels to train on; rows with other labels are left out by ``fit``. All classes of ``y`` without it.
    temperature : the probabilities are used as p^(1/T). ``calibrate`` fits T on five-fold held-out predictions by
        negative log-likelihood, ``calibrate-cost`` by mean squared distance.
    tie : see ``FrechetMean.predict``.
    path : see ``FrechetMean``.

    Attributes
    ----------
    classes_ : all N labels of the space.
    observed_classes_ : the K classes of the fitted estimator.
    estimator_ : the fitted estimator.
    temperature_ : the temperature in use.
    frechet_mean_ : the prepared rule.
    """

    def __init__(
        self,
        estimator: Any = None,
        space: LabelSpace | None = None,
        observed: Sequence[Label] | None = None,
        temperature: float | Literal["calibrate", "calibrate-cost"] = 1.0,
        tie: Tie = "first",
        path: Path = "auto",
    ) -> None:
        self.estimator = estimator
        self.space = space
        self.observed = observed
        self.temperature = temperature
        self.tie = tie
        self.path = path

    def fit(self, X: Any, y: Any) -> LokiClassifier:
        """Fit the estimator on rows of observed labels (a frozen one stays as it is).

        Raises InputError for labels that the space does not have, naming the first.
        """
        if self.space is None:
            raise InputError("space", "nothing", "a label space, as from_edges(...) or ordinal(...)")
        if isinstance(self.temperature, str) and self.temperature not in ("calibrate", "calibrate-cost"):
            raise InputError("temperature", repr(self.temperature), "a number above 0, calibrate or calibrate-cost")
        estimator = self.estimator
        if estimator is None:
            from sklearn.linear_model import LogisticRegression

            estimator = LogisticRegression(max_iter=500)
        y = np.asarray(y)
        rows_given = X.shape[0] if hasattr(X, "shape") else len(X)
        if y.shape != (rows_given,):
            raise InputError("y", f"shape {y.shape}", f"({rows_given},), one label for each row of X")
        kept = np.ones(len(y), dtype=bool)
        if self.observed is not None:
            wanted = self.space.index(list(self.observed), "observed")
            kept = np.isin(self.space.index(y, "y"), wanted)
            if not kept.any():
                raise InputError("observed", f"{list(self.observed)[:5]}", "labels that some rows have")
        rows = _take(X, kept)
        self.estimator_ = estimator if _prefitted(estimator) else clone(estimator).fit(rows, y[kept])
        if not hasattr(self.estimator_, "predict_proba"):
            raise InputError("estimator", type(estimator).__name__, "a classifier with predict_proba")
        self.observed_classes_ = np.asarray(self.estimator_.classes_)
        # columns of predict_proba follow the estimator's own order of classes
        self.frechet_mean_ = FrechetMean(self.space, self.space.index(self.observed_classes_, "classes_"), self.path)
        self.classes_ = _as_array(self.space.labels)
        self.n_features_in_ = getattr(self.estimator_, "n_features_in_", None)
        self.temperature_ = self._temperature(estimator, rows, y[kept])
        return self

    def _temperature(self, estimator: Any, rows: Any, y: np.ndarray) -> float:
        if not isinstance(self.temperature, str):
            sharpen(np.ones((1, 1)), self.temperature)  # checks the number
            return float(self.temperature)
        if _prefitted(estimator):
            held = self.estimator_.predict_proba(rows)  # the rows given to fit are not those it was trained on
        else:
            least = int(np.unique(y, return_counts=True)[1].min())
            if least < 2:
                raise InputError("temperature", f"{self.temperature!r} with a class of one row", "2 rows a class")
            folds = StratifiedKFold(min(5, least), shuffle=True, random_state=0)
            held = cross_val_predict(clone(estimator), rows, y, cv=folds, method="predict_proba")
        assert self.space is not None
        by: Literal["nll", "cost"] = "cost" if self.temperature == "calibrate-cost" else "nll"
        return calibrate(held, self.space.index(y, "y"), self.frechet_mean_, by=by)

    def weights(self, X: Any) -> np.ndarray:
        """Probabilities of the observed classes at the temperature in use, float64 ``[n, K]``."""
        check_is_fitted(self, "frechet_mean_")
        return sharpen(as_weights(self.estimator_.predict_proba(X), len(self.observed_classes_)), self.temperature_)

    def predict(self, X: Any) -> np.ndarray:
        """The label of least Frechet variance for each row, ``[n]``."""
        rng = np.random.default_rng(0) if self.tie == "random" else None
        weights = self.weights(X)
        return self.classes_[self.frechet_mean_.predict(weights, tie=self.tie, rng=rng)]

    def decision_function(self, X: Any) -> np.ndarray:
        """Minus the Frechet variance of every label, float64 ``[n, N]``."""
        weights = self.weights(X)
        return -self.frechet_mean_.variances(weights)

    def predict_proba(self, X: Any) -> np.ndarray:
        """softmax(-S / mean of S) over all labels, float64 ``[n, N]``: an order of the labels, not calibrated."""
        scores = self.decision_function(X)
        scores = scores / np.maximum(-scores.mean(axis=1, keepdims=True), np.finfo(float).tiny)
        scores -= scores.max(axis=1, keepdims=True)
        powered = np.exp(scores)
        return powered / powered.sum(axis=1, keepdims=True)


def _take(rows: Any, kept: np.ndarray) -> Any:
    if hasattr(rows, "iloc"):
        return rows.iloc[np.flatnonzero(kept)]
    if hasattr(rows, "shape"):
        return rows[np.flatnonzero(kept)]
    return [row for row, keep in zip(rows, kept, strict=True) if keep]


def _as_array(labels: Sequence[Label]) -> np.ndarray:
    if all(isinstance(x, str) for x in labels) or all(isinstance(x, (int, float)) for x in labels):
        return np.array(labels)
    out = np.empty(len(labels), dtype=object)
    out[:] = labels
    return out
