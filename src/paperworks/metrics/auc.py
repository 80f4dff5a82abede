"""Variance and comparison of areas under the ROC curve (DeLong et al. 1988; Obuchowski 1997 for clustered rows)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from paperworks.errors import InputError
from paperworks.metrics.intervals import Interval, finite, normal_quantile


@dataclass(frozen=True)
class DeLongTest:
    """Two areas under the ROC curve on the same rows, and the two-sided test of their difference.

    Attributes
    ----------
    difference : ``auc_a - auc_b`` with its interval.
    z, p_value : statistic and two-sided p-value; 0 and 1 where the difference and its variance are 0.
    """

    auc_a: float
    auc_b: float
    difference: Interval
    z: float
    p_value: float


def delong_covariance(
    y_true: ArrayLike, scores: ArrayLike, clusters: ArrayLike | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Areas under the ROC curve of one or several scores, and the covariance matrix of these estimates.

    With ``V10_i`` the share of negatives that positive i exceeds, and ``V01_j`` the share of positives that exceed
    negative j (ties count half), the covariance is ``cov(V10) / m + cov(V01) / n``. They are read from ranks, in
    O(rows log rows).

    Parameters
    ----------
    y_true : 0 or 1 (or False, True) ``[rows]``; both must occur at least twice.
    scores : ``[rows]``, or ``[k, rows]`` for k scores; higher means positive.
    clusters : cluster of each row ``[rows]``, where rows of one cluster depend on each other (Obuchowski 1997).

    Returns
    -------
    aucs ``[k]``, covariance ``[k, k]``, both float64.

    Raises
    ------
    InputError : labels other than 0 and 1, one class with fewer than two rows (or clusters), lengths that differ.
    """
    from scipy.stats import rankdata

    truth = np.asarray(y_true)
    matrix = np.atleast_2d(np.asarray(scores, dtype=np.float64))
    if truth.ndim != 1 or matrix.ndim != 2 or matrix.shape[1] != len(truth):
        raise InputError("scores", f"shape {np.shape(scores)} for {truth.shape} labels", "[rows] or [k, rows]")
    for row in matrix:
        finite("scores", row)
    odd = np.setdiff1d(truth, [0, 1])
    if len(odd):
        raise InputError("y_true", repr(odd[0].item()), "0 and 1 only")
    positive = truth.astype(bool)
    m, n = int(positive.sum()), int((~positive).sum())
    if min(m, n) < 2:
        raise InputError("y_true", f"{m} positive and {n} negative rows", "at least 2 of each")
    above = np.empty((len(matrix), m))
    below = np.empty((len(matrix), n))
    for k, row in enumerate(matrix):
        ranks = rankdata(row)
        above[k] = (ranks[positive] - rankdata(row[positive])) / n
        below[k] = 1 - (ranks[~positive] - rankdata(row[~positive])) / m
    aucs = above.mean(1)
    if clusters is None:
        return aucs, np.atleast_2d(np.cov(above)) / m + np.atleast_2d(np.cov(below)) / n
    return aucs, _clustered(above - aucs[:, None], below - aucs[:, None], positive, np.asarray(clusters))


def auc_interval(
    y_true: ArrayLike, scores: ArrayLike, *, clusters: ArrayLike | None = None, level: float = 0.95
) -> Interval:
    """The area under the ROC curve with its normal interval, cut to [0, 1]. See ``delong_covariance``."""
    aucs, covariance = delong_covariance(y_true, scores, clusters)
    if len(aucs) != 1:
        raise InputError("scores", f"{len(aucs)} scores", "one score per row")
    half = normal_quantile(0.5 + level / 2) * math.sqrt(max(covariance[0, 0], 0))
    value = float(aucs[0])
    return Interval(value, max(value - half, 0), min(value + half, 1), level, *_named(y_true, clusters))


def delong_test(
    y_true: ArrayLike,
    scores_a: ArrayLike,
    scores_b: ArrayLike,
    *,
    clusters: ArrayLike | None = None,
    level: float = 0.95,
) -> DeLongTest:
    """Compare two areas under the ROC curve on the same rows. See ``delong_covariance`` for the arguments.

    Without ``clusters`` the rows are taken as independent: with several rows of one patient, the p-value is too small.
    """
    aucs, covariance = delong_covariance(y_true, np.stack([np.asarray(scores_a), np.asarray(scores_b)]), clusters)
    difference = float(aucs[0] - aucs[1])
    variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    # two scores that order the rows alike have variance 0 up to rounding
    deviation = math.sqrt(variance) if variance > 1e-15 else 0.0
    if deviation == 0:
        z = 0.0 if abs(difference) < 1e-12 else math.copysign(math.inf, difference)
    else:
        z = difference / deviation
    half = normal_quantile(0.5 + level / 2) * deviation
    interval = Interval(difference, difference - half, difference + half, level, *_named(y_true, clusters))
    return DeLongTest(float(aucs[0]), float(aucs[1]), interval, z, math.erfc(abs(z) / math.sqrt(2)))


def _clustered(above: np.ndarray, below: np.ndarray, positive: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """Obuchowski's covariance from centred placement values ``[k, m]`` and ``[k, n]``."""
    if clusters.shape != positive.shape:
        raise InputError("clusters", f"shape {clusters.shape}", f"one per row, {positive.shape}")
    names, code = np.unique(clusters, return_inverse=True)
    m, n = above.shape[1], below.shape[1]
    of_positive, of_negative = code[positive], code[~positive]
    groups = (len(np.unique(of_positive)), len(np.unique(of_negative)), len(names))
    if min(groups) < 2:
        raise InputError("clusters", f"{min(groups)} cluster(s) with rows of one class", "at least 2 for each class")
    sums10 = np.stack([np.bincount(of_positive, row, len(names)) for row in above])
    sums01 = np.stack([np.bincount(of_negative, row, len(names)) for row in below])
    s10 = groups[0] / ((groups[0] - 1) * m) * sums10 @ sums10.T
    s01 = groups[1] / ((groups[1] - 1) * n) * sums01 @ sums01.T
    s11 = groups[2] / (groups[2] - 1) * sums10 @ sums01.T
    return s10 / m + s01 / n + (s11 + s11.T) / (m * n)


def _named(y_true: ArrayLike, clusters: ArrayLike | None) -> tuple[str, int, str]:
    if clusters is None:
        return "DeLong", len(np.asarray(y_true)), "rows"
    return "Obuchowski", len(np.unique(np.asarray(clusters))), "clusters"
