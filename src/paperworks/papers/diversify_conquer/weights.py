"""Cluster weights from feedback: Eqs. 4 to 6 of the paper, made well defined where scores are negative or missing."""

from __future__ import annotations

import warnings
from typing import Literal

import numpy as np

from paperworks.errors import InputError

Transform = Literal["softmax", "relu", "raw"]
EPSILON = 1e-6
"""What ``relu`` adds, so that a cluster can come back."""
ZERO = 1e-8
"""A score nearer to 0 than this says nothing."""


class InertFeedbackWarning(UserWarning):
    """Most scores are 0: the model writes the given answers itself, and the feedback moves no weight."""


def cluster_scores(scores: np.ndarray, labels: np.ndarray, n_clusters: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean score of each cluster (Eq. 5): (float64 [k], number of scored samples int64 [k]); NaN without a sample.

    Samples whose score is NaN are left out: a cluster without any score has none.
    """
    scores, labels = np.asarray(scores, np.float64), np.asarray(labels, np.int64)
    known = np.isfinite(scores)
    counts = np.bincount(labels[known], minlength=n_clusters)
    sums = np.bincount(labels[known], scores[known], minlength=n_clusters)
    return np.divide(sums, counts, out=np.full(n_clusters, np.nan), where=counts > 0), counts


def update_weights(
    weights: np.ndarray,
    scores: np.ndarray,
    *,
    transform: Transform = "raw",
    temperature: float = 1.0,
    accumulate: bool = True,
    max_ratio: float | None = None,
    reference: np.ndarray | None = None,
) -> np.ndarray:
    """New cluster weights (Eq. 6): ``w_j s_j / sum over c of w_c s_c``.

    Parameters
    ----------
    weights : float [k], 0 or more, not all 0; normalised to sum 1.
    scores : float [k], each cluster's mean score (Eq. 5); NaN for a cluster without one, which keeps its weight.
    transform : how a mean becomes the factor ``s_j``: "softmax" is ``exp(mean / temperature)``, "relu" is
        ``max(mean, 0)`` plus a little, "raw" is the mean itself, which must not be negative.
    temperature : of the softmax.
    accumulate : multiply the old weights, as Eq. 6 says; False replaces them by the factors, as the authors' code does.
    max_ratio : the weight of a cluster relative to its ``reference`` is at least ``1 / max_ratio`` of the largest one:
        no cluster is shut out for good by feedback that is wrong.
    reference : float [k], the weights that ``max_ratio`` counts from; by default equal ones.

    Returns
    -------
    float64 [k], sum 1.
    """
    old = np.asarray(weights, np.float64)
    if old.ndim != 1 or not np.isfinite(old).all() or (old < 0).any() or old.sum() <= 0:
        raise InputError("weights", f"shape {old.shape}", "finite numbers [k], 0 or more, not all 0")
    means = np.asarray(scores, np.float64)
    if means.shape != old.shape or np.isinf(means).any():
        raise InputError("scores", f"shape {means.shape}", f"finite numbers or NaN, shape ({len(old)},)")
    if not temperature > 0:
        raise InputError("temperature", temperature, "a positive number")
    if max_ratio is not None and not max_ratio >= 1:
        raise InputError("max_ratio", max_ratio, "1 or more, or None")
    old = old / old.sum()
    known = np.isfinite(means)
    if not known.any():
        warnings.warn("no cluster has a score: the weights stay as they are", stacklevel=2)
        return old
    factors = _factors(means[known], transform, temperature)
    new = old.copy()
    held = float(old[known].sum())  # the clusters without a score keep theirs
    product = factors * old[known] if accumulate else factors
    if product.sum() > 0:
        new[known] = held * product / product.sum()
    if max_ratio is not None:
        new = _capped(new, max_ratio, np.ones(len(old)) if reference is None else np.asarray(reference, np.float64))
    return new / new.sum()


def _factors(means: np.ndarray, transform: Transform, temperature: float) -> np.ndarray:
    if transform == "softmax":
        return np.exp((means - means.max()) / temperature)
    if transform == "relu":
        return np.maximum(means, 0) + EPSILON
    if transform != "raw":
        raise InputError("transform", repr(transform), "softmax, relu or raw")
    if (means < 0).any() or means.sum() <= 0:
        raise InputError(
            "scores",
            f"cluster means from {means.min():.4g} to {means.max():.4g}",
            "0 or more with a positive sum for transform raw; softmax takes any",
        )
    return means


def _capped(weights: np.ndarray, max_ratio: float, reference: np.ndarray) -> np.ndarray:
    used = reference > 0
    relative = np.divide(weights, reference, out=np.zeros(len(weights)), where=used)
    return np.where(used, np.maximum(relative, relative.max() / max_ratio) * reference, weights)


def warn_if_inert(scores: np.ndarray) -> float:
    """The share of known scores that are 0; warns with InertFeedbackWarning where that is most of them."""
    known = scores[np.isfinite(scores)]
    share = float((np.abs(known) < ZERO).mean()) if len(known) else 0.0
    if share > 0.5:
        warnings.warn(
            f"{share:.0%} of the scores are 0: the model gives the given answers back, so that no weight moves. Score "
            "samples that it was not trained on (feedback 'probe'), or answers of a model trained on the other folds.",
            InertFeedbackWarning,
            stacklevel=3,
        )
    return share
