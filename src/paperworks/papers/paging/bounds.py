"""The proven bounds, as numbers to put beside measured misses."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from paperworks.errors import InputError, nearest
from paperworks.papers.paging.policy import Policy, checked_size


class Guarantee(NamedTuple):
    """``cost <= alpha OPT + beta eta0 + gamma eta1`` (expected cost where the policy is randomised)."""

    alpha: float
    beta: float
    gamma: float


def harmonic(k: int) -> float:
    """``H_k = 1 + 1/2 + ... + 1/k``."""
    k = checked_size(k)
    if k < 1000:
        return math.fsum(1 / i for i in range(1, k + 1))
    return math.log(k) + 0.5772156649015329 + 1 / (2 * k) - 1 / (12 * k * k)


def guarantee(policy: Policy | str, k: int) -> Guarantee | None:
    """``(alpha, beta, gamma)`` of a policy, or None if it has no bound in wrong bits.

    The classical policies have ``beta = gamma = 0``. The additive constant is 0 for a cache that starts empty.
    """
    k = checked_size(k)
    name = policy if isinstance(policy, str) else policy.name
    known = {
        "FlushWhenAll0s": Guarantee(1, k - 1, 1),
        "Mark0": Guarantee(1, 2 * harmonic(k), 1),
        "Mark&Predict": Guarantee(2, harmonic(k), 1),
        "Mark&Predict (LRU order)": Guarantee(2, k - 1, 1),
        "Marker": Guarantee(2 * harmonic(k), 0, 0),
        "LRU": Guarantee(k, 0, 0),
        "FIFO": Guarantee(k, 0, 0),
        "Random": Guarantee(k, 0, 0),
        "OPT": Guarantee(1, 0, 0),
    }
    return known.get(name)


def bound(algorithm: Policy | str, opt: int, eta0: int, eta1: int, k: int) -> float:
    """``alpha OPT + beta eta0 + gamma eta1``: what the (expected) misses do not exceed.

    Raises InputError for an algorithm without such a bound.
    """
    found = guarantee(algorithm, k)
    if found is None:
        name = algorithm if isinstance(algorithm, str) else algorithm.name
        names = ["FlushWhenAll0s", "Mark0", "Mark&Predict", "Mark&Predict (LRU order)", "Marker", "LRU", "FIFO"]
        raise InputError("algorithm", repr(name), f"one with a bound, such as {', '.join(names)}{nearest(name, names)}")
    return found.alpha * opt + found.beta * eta0 + found.gamma * eta1


def time_error(predicted: np.ndarray, truth: np.ndarray) -> float:
    """``eta`` of the next-time papers: the sum of ``|predicted - true|`` next request numbers over all requests."""
    return float(np.abs(np.asarray(predicted, np.float64) - np.asarray(truth, np.float64)).sum())


def next_time_bound(algorithm: str, opt: int, eta: float, k: int) -> float:
    """What the papers on next-request times guarantee for a total time error ``eta``.

    ``PredictiveMarker``: ``min(2 + 2 sqrt(5 eta / OPT), 4 H_k) OPT`` (Lykouris, Vassilvitskii 2018).
    ``BlindOracle``: ``min(1 + 2 eta / OPT, 2 + 4 eta / ((k - 1) OPT)) OPT`` (Wei 2020, arXiv v1).
    """
    k = checked_size(k)
    if algorithm == "PredictiveMarker":
        return min(2 + 2 * math.sqrt(5 * eta / opt), 4 * harmonic(k)) * opt
    if algorithm == "BlindOracle":
        second = 2 + 4 * eta / ((k - 1) * opt) if k > 1 else math.inf
        return min(1 + 2 * eta / opt, second) * opt
    raise InputError("algorithm", repr(algorithm), "PredictiveMarker or BlindOracle")
