"""The gradient of the contrastive loss, in closed form: where the push on negatives goes.

With P the softmax over the positive and all negatives, ``dL/ds_ii = -(1 - P_ii)/tau`` and ``dL/ds_ij = P_ij/tau``. The
share of a negative in the whole push, ``r_ij = exp(s_ij/tau) / sum_k exp(s_ik/tau)``, does not depend on the positive.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from paperworks.errors import InputError


def penalty_distribution(similarities: Any, temperature: float, hard_k: int | None = None) -> np.ndarray:
    """The shares r of negatives in the push on an anchor (equation 5), float64 ``[n, m]``; rows sum to 1.

    Parameters
    ----------
    similarities : of each anchor to its negatives, ``[n, m]``; minus infinity for what is no negative.
    temperature : tau.
    hard_k : only the ``hard_k`` largest of each row are negatives (the hard loss); others get 0.
    """
    s = _similarities(similarities)
    _check_temperature(temperature)
    if hard_k is not None:
        if not 1 <= hard_k <= s.shape[1]:
            raise InputError("hard_k", hard_k, f"1 to {s.shape[1]}, the negatives there are")
        order = np.argsort(-s, axis=1, kind="stable")[:, hard_k:]
        s = s.copy()
        np.put_along_axis(s, order, -np.inf, axis=1)
    largest = s.max(axis=1, keepdims=True)
    weights = np.exp((s - np.where(np.isfinite(largest), largest, 0)) / temperature)
    total = weights.sum(axis=1, keepdims=True)
    return np.divide(weights, total, out=np.zeros_like(weights), where=total > 0)


def penalty_entropy(shares: np.ndarray) -> np.ndarray:
    """The entropy of each row of shares, nats ``[n]``; its exponential is the effective number of negatives."""
    return -np.where(shares > 0, shares * np.log(np.where(shares > 0, shares, 1)), 0).sum(axis=1)


@dataclass(frozen=True)
class GradientShares:
    """Where the push goes, averaged over anchors.

    Attributes
    ----------
    strength : (1 - P_ii) / tau, the size of the pull to the positive and of the push from all negatives.
    top1, top10, top_percent : share of the push that goes to the nearest negative, the ten nearest, the nearest 1 %.
    effective_negatives : exp of the entropy of the shares; between 1 and ``negatives``.
    negatives : negatives of an anchor.
    """

    strength: float
    top1: float
    top10: float
    top_percent: float
    effective_negatives: float
    negatives: float


def gradient_shares(positive: Any, similarities: Any, temperature: float, hard_k: int | None = None) -> GradientShares:
    """The gradient's diagnostics for anchors with positive similarities ``[n]`` and negative ones ``[n, m]``."""
    s = _similarities(similarities)
    pos = np.asarray(positive, np.float64)
    if pos.shape != (len(s),) or not np.isfinite(pos).all():
        raise InputError("positive", f"shape {pos.shape}", f"finite numbers ({len(s)},), one for each anchor")
    shares = penalty_distribution(s, temperature, hard_k)
    kept = shares > 0
    largest = s.max(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):  # anchors without negatives: put right below
        # log of the negatives' sum, from the share of the largest: r_max = exp(s_max/tau) / sum
        rest = largest / temperature - np.log(shares.max(axis=1))
    miss = np.where(np.isfinite(largest), 1 / (1 + np.exp(np.clip(pos / temperature - rest, -700, 700))), 0)
    ranked = -np.sort(-shares, axis=1)
    percent = max(1, round(0.01 * s.shape[1]))
    return GradientShares(
        float(miss.mean() / temperature),
        float(ranked[:, 0].mean()),
        float(ranked[:, :10].sum(axis=1).mean()),
        float(ranked[:, :percent].sum(axis=1).mean()),
        float(np.exp(penalty_entropy(shares)).mean()),
        float(kept.sum(axis=1).mean()),
    )


def _similarities(similarities: Any) -> np.ndarray:
    if hasattr(similarities, "detach"):
        similarities = similarities.detach().cpu().numpy()
    s = np.asarray(similarities, np.float64)
    if s.ndim != 2 or 0 in s.shape or np.isnan(s).any() or (s == np.inf).any():
        raise InputError(
            "similarities", f"shape {s.shape}", "numbers [n, m] without NaN, minus infinity for no negative"
        )
    return s


def _check_temperature(temperature: float) -> None:
    if not (np.isfinite(temperature) and temperature > 0):
        raise InputError("temperature", temperature, "a finite number above 0")
