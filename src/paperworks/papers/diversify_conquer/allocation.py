"""Shares of a budget: by cluster size or weight, rounded so that they add up, and never above what a cluster has."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np

from paperworks.errors import InputError


def resolve_budget(budget: Any, available: int) -> int:
    """A number of samples from a whole number, or from a share of those there are (a fraction of at most 1.0).

    Raises InputError for a budget below one sample or above ``available``.
    """
    if isinstance(budget, bool) or not isinstance(budget, Real) or not np.isfinite(float(budget)):
        raise InputError("budget", repr(budget), f"a whole number up to {available}, or a share from 0 to 1")
    if isinstance(budget, Integral):
        count = int(budget)
    elif 0 < float(budget) <= 1:
        count = max(1, round(float(budget) * available))
    else:
        raise InputError("budget", budget, "a share above 0, at most 1, or a whole number of samples")
    if not 1 <= count <= available:
        raise InputError("budget", count, f"from 1 to {available}, the samples that can be chosen")
    return count


def largest_remainder(shares: np.ndarray, total: int) -> np.ndarray:
    """Whole numbers that add up to ``total``, each less than one away from ``shares`` (scaled to that sum).

    Of equal remainders the first clusters get the rest.
    """
    shares = np.asarray(shares, np.float64)
    exact = shares / shares.sum() * total
    nearest = np.rint(exact)
    # 6.9999999 that should be 7 must not lose its unit to another cluster
    exact = np.where(np.abs(exact - nearest) < 1e-9 * max(total, 1), nearest, exact)
    counts = np.floor(exact).astype(np.int64)
    missing = total - int(counts.sum())
    order = np.argsort(-np.round(exact - counts, 9), kind="stable")  # what rounding sets apart is equal
    counts[order[:missing]] += 1
    return counts


def allocate_budget(
    sizes: Sequence[int] | np.ndarray, budget: int, weights: Sequence[float] | np.ndarray | None = None
) -> np.ndarray:
    """How many samples each cluster gives: ``b_j = |D_j| / |D| * b`` (section 2.2), or by ``weights``.

    Shares are rounded by largest remainder, so that they add up to the budget. A cluster that has fewer samples than
    its share gives all it has, and the others share the rest in the same proportions.

    Parameters
    ----------
    sizes : samples of each cluster, whole numbers [k], 0 allowed.
    budget : samples wanted, at most the sum of ``sizes``.
    weights : float [k], 0 or more; by default the sizes. Clusters of weight 0 give only what the others do not have.

    Returns
    -------
    int64 [k], at most ``sizes``, sum ``budget``. Before any cap, ``|b_j - b w_j / sum w| < 1``.
    """
    have = np.asarray(sizes, np.int64)
    if have.ndim != 1 or not len(have) or (have < 0).any():
        raise InputError("sizes", f"shape {have.shape}", "whole numbers [k], 0 or more")
    if isinstance(budget, bool) or not isinstance(budget, Integral) or not 0 <= budget <= have.sum():
        raise InputError("budget", repr(budget), f"a whole number from 0 to {have.sum()}, the samples there are")
    wanted = have.astype(np.float64) if weights is None else np.asarray(weights, np.float64)
    if wanted.shape != have.shape or not np.isfinite(wanted).all() or (wanted < 0).any():
        raise InputError("weights", f"shape {wanted.shape}", f"finite numbers [{len(have)}], 0 or more")
    counts = np.zeros(len(have), np.int64)
    left = int(budget)
    while left:
        free = counts < have
        share = np.where(free, wanted, 0.0)
        if share.sum() <= 0:  # only clusters of weight 0 have samples left
            share = np.where(free, have - counts, 0.0)
        share = share / share.max()
        more = np.minimum(largest_remainder(share, left), have - counts)
        if int(more.sum()) == left:
            counts += more
            break
        # clusters that are full take part no more; the rest is shared anew among the others
        full = free & (more == have - counts)
        counts[full] = have[full]
        left = int(budget) - int(counts.sum())
        wanted = np.where(full, 0.0, wanted)
    return counts


def round_sizes(budget: int, rounds: int) -> np.ndarray:
    """The budget of each round, int64 [rounds]: ``b / N`` (Algorithm 1), the first rounds one more where needed."""
    if isinstance(rounds, bool) or not isinstance(rounds, Integral) or not 1 <= rounds <= budget:
        raise InputError("rounds", repr(rounds), f"a whole number from 1 to the budget, {budget}")
    return largest_remainder(np.ones(int(rounds)), budget)
