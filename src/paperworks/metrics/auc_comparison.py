"""Which of two scores has the larger area under the ROC curve on the same rows: three tests of the difference."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from paperworks.errors import InputError
from paperworks.metrics.auc import delong_test
from paperworks.metrics.intervals import Interval, bootstrap_interval, finite
from paperworks.parameters import check_seed

METHODS = ("cluster-bootstrap", "delong", "obuchowski")


@dataclass(frozen=True)
class AucComparison:
    """Two areas under the ROC curve on the same rows.

    Attributes
    ----------
    auc_a, auc_b : the areas.
    difference : ``auc_a - auc_b`` with its interval; a bootstrap says how many resamples were undefined.
    p_value : two-sided; of a bootstrap at least ``2 / (resamples + 1)``.
    method : how it was tested.
    """

    auc_a: float
    auc_b: float
    difference: Interval
    p_value: float
    method: str


def roc_auc(y_true: ArrayLike, scores: ArrayLike) -> float:
    """The area under the ROC curve from ranks, ties counting half; NaN where there is one class only."""
    from scipy.stats import rankdata

    positive = np.asarray(y_true).astype(bool)
    m = int(positive.sum())
    n = len(positive) - m
    if not m or not n:
        return math.nan
    return float((rankdata(scores)[positive].sum() - m * (m + 1) / 2) / (m * n))


def compare_auc(
    y_true: ArrayLike,
    scores_a: ArrayLike,
    scores_b: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    method: Literal["cluster-bootstrap", "delong", "obuchowski"] = "cluster-bootstrap",
    n_boot: int = 1000,
    level: float = 0.95,
    interval: Literal["percentile", "bca"] = "percentile",
    seed: int = 0,
) -> AucComparison:
    """Test whether two scores have the same area under the ROC curve.

    Parameters
    ----------
    y_true : 0 or 1 ``[n]``. scores_a, scores_b : ``[n]``, higher means positive.
    groups : whose rows depend on each other ``[n]`` (the patient of each slice). Without, rows count as independent.
    method : ``cluster-bootstrap`` draws groups with replacement and takes the difference on each draw (resamples with
        one class only are skipped and counted); ``obuchowski`` is DeLong's test with the variance of clustered rows
        (Obuchowski 1997); ``delong`` takes rows as independent.

    Raises
    ------
    InputError : another method, labels other than 0 and 1, one class only, lengths that differ, scores that are not
        finite; obuchowski without groups; fewer than two groups.

    Warns
    -----
    UserWarning : ``delong`` with groups of several rows, or a bootstrap without groups: the p-value is too small where
        rows depend on each other.
    """
    check_seed("seed", seed)
    if method not in METHODS:
        raise InputError("method", repr(method), f"one of {', '.join(METHODS)}")
    truth = np.asarray(y_true)
    a, b = finite("scores_a", scores_a), finite("scores_b", scores_b)
    if not len(truth) == len(a) == len(b):
        raise InputError("scores_b", f"{len(truth)} labels, {len(a)} and {len(b)} scores", "equally many")
    odd = np.setdiff1d(truth, [0, 1])
    if len(odd):
        raise InputError("y_true", repr(odd[0].item()), "0 and 1 only")
    if math.isnan(roc_auc(truth, a)):
        raise InputError("y_true", "one class only", "rows of both classes")
    own = None if groups is None else np.asarray(groups)
    several = own is not None and len(np.unique(own)) < len(own)
    if method == "obuchowski" and own is None:
        raise InputError("groups", "none", "the group of each row, for Obuchowski's variance")
    if method == "delong" and several:
        _warn("DeLong's test takes rows as independent, and rows of one group are not")
    if method != "cluster-bootstrap":
        found = delong_test(truth, a, b, clusters=own if method == "obuchowski" else None, level=level)
        return AucComparison(found.auc_a, found.auc_b, found.difference, found.p_value, method)
    if own is None:
        _warn("Without groups the bootstrap takes rows as independent")
    return _bootstrapped(truth, a, b, own, n_boot, level, interval, seed)


def _bootstrapped(
    truth: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
    groups: np.ndarray | None,
    n_boot: int,
    level: float,
    interval: Literal["percentile", "bca"],
    seed: int,
) -> AucComparison:
    drawn: list[float] = []

    def difference(labels: np.ndarray, first: np.ndarray, second: np.ndarray) -> float:
        value = roc_auc(labels, first) - roc_auc(labels, second)
        drawn.append(value)
        return value

    found = bootstrap_interval(
        difference, truth, a, b, clusters=groups, n_resamples=n_boot, level=level, method=interval, seed=seed
    )
    values = np.array(drawn[1 : n_boot + 1])  # the first is of the rows as they are
    values = values[~np.isnan(values)]
    # equal areas up to rounding are equal
    below, above = int((values <= 1e-12).sum()), int((values >= -1e-12).sum())
    p_value = min(1.0, 2 * (min(below, above) + 1) / (len(values) + 1))
    return AucComparison(roc_auc(truth, a), roc_auc(truth, b), found, p_value, "cluster-bootstrap")


def _warn(words: str) -> None:
    warnings.warn(f"{words}: the p-value is too small then.", UserWarning, stacklevel=3)
