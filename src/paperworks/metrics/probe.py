"""Linear probe: how well a linear classifier on frozen features does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from paperworks.errors import InputError
from paperworks.metrics.intervals import Interval, wilson_interval
from paperworks.parameters import check_seed

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline


@dataclass(frozen=True)
class LinearProbe:
    """What ``linear_probe`` found.

    Attributes
    ----------
    accuracy : on the test rows, with Wilson's interval.
    C : the chosen inverse strength of the L2 penalty.
    cv_accuracy : mean accuracy at that C in cross-validation on the training rows.
    estimator : scaler and logistic regression, fitted on all training rows.
    """

    accuracy: Interval
    C: float
    cv_accuracy: float
    estimator: Pipeline


def linear_probe(
    train_features: ArrayLike,
    train_labels: ArrayLike,
    test_features: ArrayLike,
    test_labels: ArrayLike,
    *,
    Cs: Sequence[float] = tuple(np.logspace(-4, 2, 7)),
    folds: int = 5,
    max_iter: int = 1000,
    seed: int = 0,
) -> LinearProbe:
    """Logistic regression on standardised features.

    The means and deviations of the features and the penalty come from the training rows alone: the penalty by
    stratified cross-validation, in which the scaler is fitted in every fold. The test rows are looked at once.

    Parameters
    ----------
    train_features, test_features : ``[n, d]`` float.
    train_labels, test_labels : ``[n]``.
    Cs : inverse penalties to choose from. With one value nothing is chosen and there is no cross-validation.
    folds : of the cross-validation; every class needs at least as many training rows.

    Raises
    ------
    InputError : features that are not ``[n, d]`` or not finite, one class only, a class with too few rows.
    """
    check_seed("seed", seed)
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, StratifiedKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, y = _rows("train", train_features, train_labels)
    x_test, y_test = _rows("test", test_features, test_labels)
    if x.shape[1] != x_test.shape[1]:
        raise InputError("test_features", f"{x_test.shape[1]} features", f"{x.shape[1]}, as in training")
    classes, counts = np.unique(y, return_counts=True)
    if len(classes) < 2:
        raise InputError("train_labels", f"one class ({classes[0]!r})", "at least two")
    if not Cs or min(Cs) <= 0:
        raise InputError("Cs", list(Cs), "positive numbers")
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=max_iter))
    if len(Cs) == 1:
        chosen, score = float(Cs[0]), float("nan")
    else:
        if folds < 2 or counts.min() < folds:
            found = f"class {classes[counts.argmin()]!r} has {counts.min()} rows for {folds} folds"
            raise InputError("folds", found, "at least 2 folds, and as many rows of every class")
        splitter = StratifiedKFold(folds, shuffle=True, random_state=seed % 2**32)
        search = GridSearchCV(model, {"logisticregression__C": list(Cs)}, cv=splitter, refit=False).fit(x, y)
        chosen, score = float(search.best_params_["logisticregression__C"]), float(search.best_score_)
    model.set_params(logisticregression__C=chosen).fit(x, y)
    right = int((model.predict(x_test) == y_test).sum())
    return LinearProbe(wilson_interval(right, len(y_test)), chosen, score, model)


def _rows(part: str, features: ArrayLike, labels: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(features), np.asarray(labels)
    if x.ndim != 2 or y.shape != x.shape[:1] or len(x) == 0:
        raise InputError(f"{part}_features", f"shapes {x.shape} and {y.shape}", "features [n, d] and labels [n]")
    if not np.isfinite(x).all():
        row = int(np.flatnonzero(~np.isfinite(x).all(1))[0])
        raise InputError(f"{part}_features[{row}]", "NaN or infinity", "finite features")
    return x, y
