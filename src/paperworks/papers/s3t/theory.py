"""Closed forms: requests until a retraining is due, and the quality that is kept until then.

Requests are uniform over all slices (or follow a prior), with replacement, and independent of the models: the limit of
many more records than requests. A sequence dies exactly when its first slice is hit, so that the system dies when the
first slices of all sequences have been hit: a coupon collector with K wanted coupons.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from paperworks.errors import InputError
from paperworks.papers.s3t.sequences import bms_sequences, check_budget, cyclic_sequences

_EXACT_SLICES = 20
"""Up to so many slices the kept quality is summed over all sets of slices; beyond, it is simulated."""


def harmonic(n: int) -> float:
    """``1 + 1/2 + ... + 1/n``; 0 for 0."""
    return math.fsum(1 / i for i in range(1, n + 1))


def deletion_rate(n_shards: int, n_slices: int, budget: int, prior: ArrayLike | None = None) -> float:
    """Expected requests until no shard has a live sequence (Lemma 1).

    Uniform: ``m L H_{m B'}``, ``B' = min(B, L)``, where H is the harmonic number. With a prior the wanted slices are
    the first ones of ``bms_sequences``. SISA is ``budget = 1``.

    Parameters
    ----------
    n_shards, n_slices, budget : m, L, B; ``1 <= B <= L!``.
    prior : probability that a request is for a slice, ``[m, L]`` of sum 1 over the whole system; or ``[L]``, the same
        in every shard, of sum 1.

    Examples
    --------
    >>> round(deletion_rate(5, 4, 4), 2), round(deletion_rate(5, 4, 1), 2)
    (71.95, 45.67)
    """
    check_system(n_shards, n_slices, budget)
    if prior is None:
        return n_shards * n_slices * harmonic(n_shards * min(budget, n_slices))
    probabilities = system_prior(prior, n_shards, n_slices)
    wanted = []
    for row in probabilities:
        share = row.sum()
        orders = bms_sequences(row / share, min(budget, n_slices)) if share > 0 else [tuple(range(n_slices))]
        wanted += [row[first] for first in {order[0] for order in orders}]
    return collector_mean(wanted)


def deletion_rate_std(n_shards: int, n_slices: int, budget: int) -> float:
    """Standard deviation of the requests until no shard has a live sequence; uniform requests."""
    check_system(n_shards, n_slices, budget)
    q = np.arange(1, n_shards * min(budget, n_slices) + 1) / (n_shards * n_slices)
    return math.sqrt(math.fsum((1 - q) / q**2))


def collector_mean(probabilities: Sequence[float] | np.ndarray) -> float:
    """Expected draws until each of K coupons has come, of probabilities that sum to at most 1.

    ``integral_0^inf 1 - prod_x (1 - exp(-p_x t)) dt``, which equals the alternating sum over all sets of coupons and
    has no cancellation. 0 for no coupons, infinite if one never comes.
    """
    p = np.asarray(probabilities, dtype=np.float64)
    if not len(p):
        return 0.0
    if not np.isfinite(p).all() or (p < 0).any() or p.sum() > 1 + 1e-6:
        raise InputError("probabilities", p.tolist(), "numbers of 0 or more that sum to at most 1")
    if (p == 0).any():
        return math.inf
    if np.allclose(p, p[0], rtol=1e-12, atol=0):
        return harmonic(len(p)) / float(p[0])
    nodes, weights = np.polynomial.legendre.leggauss(40)
    last = (math.log(len(p)) + 45) / p.min()
    edges = [0.0, *np.geomspace(1 / p.max() / 16, last, 60)]
    total = 0.0
    for low, high in itertools.pairwise(edges):
        t = (low + high) / 2 + (high - low) / 2 * nodes
        alive = -np.expm1(np.log(-np.expm1(-p[:, None] * t)).sum(0))
        total += float((high - low) / 2 * (weights * alive).sum())
    return total


def retention_probability(
    k: int, n_slices: int, requests: int, budget: int, exact: bool = False, rng: np.random.Generator | None = None
) -> float:
    """Probability that a shard keeps the quality of k slices or more after so many requests to it (Lemma 2).

    ``1 - zeta^{B'}`` with ``zeta = 1 - (1 - k/L)^r`` and ``B' = min(B, L!/(L-k)!)``; SISA is ``budget = 1``. It takes
    the sequences as independent; ``exact`` counts the cyclic sequences as they are, by the slices that are hit (up to
    20 slices), or by 100,000 simulated streams.

    Parameters
    ----------
    k : slices, 0 to L.
    n_slices : L.
    requests : r, to this shard.
    budget : B.
    """
    check_budget(n_slices, budget)
    if not 0 <= k <= n_slices:
        raise InputError("k", k, f"0 to {n_slices} slices")
    if requests < 0:
        raise InputError("requests", requests, "0 or more")
    if k == 0:
        return 1.0
    if not exact:
        zeta = 1 - (1 - k / n_slices) ** requests
        return 1 - zeta ** min(budget, math.perm(n_slices, k))
    prefixes = [sum(1 << c for c in order[:k]) for order in cyclic_sequences(n_slices, budget)]
    if n_slices > _EXACT_SLICES:
        rng = np.random.default_rng(0) if rng is None else rng
        return _simulated(prefixes, n_slices, requests, rng)
    return _counted(prefixes, n_slices, requests)


def check_system(n_shards: int, n_slices: int, budget: int) -> None:
    """Raise InputError for fewer than one shard, or a budget outside 1 to L!."""
    if n_shards < 1:
        raise InputError("n_shards", n_shards, "1 or more")
    check_budget(n_slices, budget)


def system_prior(prior: ArrayLike, n_shards: int, n_slices: int) -> np.ndarray:
    """Probability of a request by shard and slice, float64 ``[m, L]`` of sum 1. Raises InputError for others."""
    p = np.asarray(prior, dtype=np.float64)
    if p.shape == (n_slices,):
        p = np.tile(p / n_shards, (n_shards, 1))
    if p.shape != (n_shards, n_slices):
        raise InputError("prior", f"shape {p.shape}", f"({n_slices},) or ({n_shards}, {n_slices})")
    if not np.isfinite(p).all() or (p < 0).any():
        raise InputError("prior", "negative or no finite numbers", "probabilities of 0 or more")
    if abs(p.sum() - 1) > 1e-6:
        raise InputError("prior", f"a sum of {p.sum():g}", "probabilities that sum to 1")
    return p


def _counted(prefixes: list[int], n_slices: int, requests: int) -> float:
    """Sum over all sets of slices that may have been hit."""
    distinct = np.zeros(n_slices + 1)  # probability that so many different slices were hit
    distinct[0] = 1.0
    sizes = np.arange(n_slices + 1)
    for _ in range(requests):
        grown = np.zeros_like(distinct)
        grown[1:] = distinct[:-1] * (n_slices - sizes[:-1]) / n_slices
        distinct = distinct * sizes / n_slices + grown
    hit = np.arange(1 << n_slices, dtype=np.uint32)
    kept = np.zeros(len(hit), dtype=bool)
    for prefix in prefixes:
        kept |= (hit & np.uint32(prefix)) == 0
    found = np.bincount(np.bitwise_count(hit[kept]), minlength=n_slices + 1)
    return float(sum(distinct[s] * found[s] / math.comb(n_slices, s) for s in range(n_slices + 1)))


def _simulated(prefixes: list[int], n_slices: int, requests: int, rng: np.random.Generator) -> float:
    streams = 100_000
    hit = np.zeros((streams, n_slices), dtype=bool)
    for _ in range(requests):
        hit[np.arange(streams), rng.integers(n_slices, size=streams)] = True
    kept = np.zeros(streams, dtype=bool)
    for prefix in prefixes:
        kept |= ~hit[:, [c for c in range(n_slices) if prefix >> c & 1]].any(1)
    return float(kept.mean())
