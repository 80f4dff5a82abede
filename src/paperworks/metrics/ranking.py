"""Recall and precision among the k best, exact where scores tie."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from paperworks.errors import InputError


def recall_at_k(scores: ArrayLike, relevant: ArrayLike, k: int) -> float:
    """Mean over queries of the share of relevant items that are among the k with the highest scores.

    Items that tie at the k-th place count by the chance that each of them has one of the remaining places. Queries
    without relevant items are left out.

    Parameters
    ----------
    scores : ``[queries, items]``, or ``[items]`` for one query.
    relevant : bool (or 0 and 1) of the same shape.
    k : from 1 to the number of items.

    Raises
    ------
    InputError : shapes that differ, k out of bounds, NaN among the scores, or no relevant item at all.
    """
    hits, flags = _hits(scores, relevant, k)
    counts = flags.sum(1)
    if not counts.any():
        raise InputError("relevant", "no relevant item", "at least one")
    return float((hits[counts > 0] / counts[counts > 0]).mean())


def precision_at_k(scores: ArrayLike, relevant: ArrayLike, k: int) -> float:
    """Mean over queries of the share of relevant items among the k with the highest scores. See ``recall_at_k``."""
    hits, _ = _hits(scores, relevant, k)
    return float((hits / k).mean())


def hits_at_k(scores: ArrayLike, relevant: ArrayLike, k: int) -> np.ndarray:
    """Number of relevant items of each query among the k with the highest scores: float64 ``[queries]``.

    Fractions where items tie at the k-th place. Arguments and errors as of ``recall_at_k``.
    """
    return _hits(scores, relevant, k)[0]


def _hits(scores: ArrayLike, relevant: ArrayLike, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Expected number of relevant items among the k best of every query, and the flags ``[queries, items]``."""
    values, flags = np.atleast_2d(np.asarray(scores)), np.atleast_2d(np.asarray(relevant)).astype(bool)
    if values.shape != flags.shape or values.ndim != 2 or values.size == 0:
        raise InputError("relevant", f"shape {flags.shape}", f"{values.shape}, as the scores have, not empty")
    if not 1 <= k <= values.shape[1]:
        raise InputError("k", k, f"from 1 to {values.shape[1]}, the number of items")
    if np.issubdtype(values.dtype, np.floating) and np.isnan(values).any():
        raise InputError("scores", "NaN", "numbers")
    kth = -np.partition(-values, k - 1, axis=1)[:, k - 1 : k]
    above, tied = values > kth, values == kth
    free = k - above.sum(1)
    return (above & flags).sum(1) + (tied & flags).sum(1) / tied.sum(1) * free, flags
