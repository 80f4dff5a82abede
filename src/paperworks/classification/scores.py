"""Scores of examples from a classifier's logits (Paul et al. 2021, and the classical ones of active learning)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from paperworks.errors import InputError


def error_norm(logits: ArrayLike, labels: ArrayLike, *, order: int = 2) -> np.ndarray:
    """Norm of the error vector ``|| softmax(z) - e_y ||``, float64 ``[n]``: EL2N with order 2, EL1N with order 1.

    It lies in [0, sqrt(2)], for order 1 in [0, 2].
    """
    p, y = _probabilities(logits, labels)
    p[np.arange(len(p)), y] -= 1
    return np.linalg.norm(p, ord=order, axis=1)


def margin_error(logits: ArrayLike, labels: ArrayLike) -> np.ndarray:
    """``max_{c != y} p_c - p_y``, float64 ``[n]`` in [-1, 1]."""
    p, y = _probabilities(logits, labels)
    own = p[np.arange(len(p)), y].copy()
    p[np.arange(len(p)), y] = -np.inf
    return p.max(1) - own


def summed_margin_error(logits: ArrayLike, labels: ArrayLike) -> np.ndarray:
    """``sum_{c != y} (p_c - p_y) = 1 - C p_y``, float64 ``[n]`` in [1 - C, 1] for C classes."""
    p, y = _probabilities(logits, labels)
    own = p[np.arange(len(p)), y]
    return p.sum(1) - p.shape[1] * own


def entropy(logits: ArrayLike) -> np.ndarray:
    """Entropy of the predicted distribution in nats, float64 ``[n]``."""
    from scipy.special import entr

    return entr(_probabilities(logits)[0]).sum(1)


def largest_probability(logits: ArrayLike) -> np.ndarray:
    """Probability of the predicted class, float64 ``[n]``; its complement is called least confidence."""
    return _probabilities(logits)[0].max(1)


def probability_margin(logits: ArrayLike) -> np.ndarray:
    """Largest probability minus the second largest, float64 ``[n]``."""
    p = np.sort(_probabilities(logits)[0], axis=1)
    return p[:, -1] - p[:, -2]


def last_layer_gradient_norms(logits: ArrayLike, labels: ArrayLike, features: ArrayLike) -> np.ndarray:
    """Norm of each example's cross-entropy gradient in the last linear layer with bias, float64 ``[n]``.

    ``|| softmax(z) - e_y ||_2 sqrt(1 + ||h||^2)`` with h the layer's input, float ``[n, d]``.
    """
    h = np.asarray(features, dtype=np.float64)
    error = error_norm(logits, labels)
    if h.ndim != 2 or len(h) != len(error):
        raise InputError("features", f"shape {h.shape}", f"[{len(error)}, d], the input of the last layer")
    return error * np.sqrt(1 + (h**2).sum(1))


def _probabilities(logits: ArrayLike, labels: ArrayLike | None = None) -> tuple[np.ndarray, np.ndarray]:
    from scipy.special import softmax

    z = np.asarray(logits, dtype=np.float64)
    if z.ndim != 2 or z.shape[1] < 2:
        raise InputError("logits", f"shape {z.shape}", "[n, C] of at least two classes")
    bad = np.flatnonzero(~np.isfinite(z).all(1))
    if len(bad):
        raise InputError(f"logits[{bad[0]}]", "NaN or infinity", "finite logits")
    y = np.zeros(len(z), dtype=np.int64) if labels is None else np.asarray(labels)
    if (
        y.shape != (len(z),)
        or not np.issubdtype(y.dtype, np.integer)
        or (len(y) and not 0 <= y.min() <= y.max() < z.shape[1])
    ):
        raise InputError("labels", f"shape {y.shape}, type {y.dtype}", f"{len(z)} classes from 0 to {z.shape[1] - 1}")
    return softmax(z, axis=1), y
