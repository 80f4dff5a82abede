"""The orders in which a shard's slices are trained: cyclic rotations, matching by deletion probability, sampling.

A sequence is a tuple of slice ids 0..L-1; its first slice is trained first and is in every prefix.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from paperworks.errors import InputError

Order = tuple[int, ...]

DEFAULT_REQUESTS = 100
"""Requests that the score looks ahead, as in the authors' code."""
_ATTEMPTS = 2000
"""Draws per sequence before sampling gives up on finding one that is new."""


def cyclic_sequences(n_slices: int, budget: int) -> list[Order]:
    """Sequences by iterative cyclic rotation (Algorithm 1): no two have a slice in the same place, up to L of them.

    Up to L sequences are right rotations of ``0..L-1``. More keep the first elements of what there is, and rotate the
    rest; where a level does not fit, further rotations are spread evenly over different first slices.

    Parameters
    ----------
    n_slices : L, at least 1.
    budget : number of sequences B, from 1 to L!.
    """
    check_budget(n_slices, budget)
    found = [tuple(range(n_slices))]
    kept = 0
    while len(found) < budget:
        rotations = n_slices - kept
        if budget >= len(found) * rotations:
            wanted = [rotations] * len(found)
        else:
            each, rest = divmod(budget, len(found))
            wanted = [each] * len(found)
            for place in _evenly(len(found), n_slices, rest):
                wanted[place] += 1
        found = [
            order[:kept] + _rotated(order[kept:], k)
            for order, count in zip(found, wanted, strict=True)
            for k in range(count)
        ]
        kept += 1
    return found


def bms_sequences(
    prior: ArrayLike, budget: int | None = None, t: int = DEFAULT_REQUESTS, rng: np.random.Generator | None = None
) -> list[Order]:
    """Sequences by bipartite matching (Algorithm 2): slices that are rarely deleted come first, all places differ.

    Every slice starts one sequence; level by level each sequence gets a slice of its own by a maximum-weight perfect
    matching of the scores (Eq. 24). With L sequences no two have a slice in the same place (Lemma 3).

    Parameters
    ----------
    prior : deletion probability of each slice ``[L]``, 0 or more, of sum 1.
    budget : number of sequences B; default L. Fewer are those of the highest score; more are filled by
        ``conditional_sequences``.
    t : requests that the score looks ahead. Scores are compared in logarithms; where float64 cannot tell two matchings
        apart, the sum of log-scores decides, and then the order of the slices.
    rng : for more than L sequences.
    """
    p = check_prior(prior)
    size = len(p)
    budget = size if budget is None else budget
    check_budget(size, budget)
    if t < 1:
        raise InputError("t", t, "1 request or more")
    orders: list[Order] = [(first,) for first in range(size)]
    for _ in range(size - 1):
        chosen = _match(orders, p, t)
        orders = [(*order, slice_) for order, slice_ in zip(orders, chosen, strict=True)]
    if budget <= size:
        ranked = sorted(range(size), key=lambda i: (-_log_score(orders[i], p, t), i))
        return [orders[i] for i in sorted(ranked[:budget])]
    return orders + conditional_sequences(p, budget - size, rng, without=orders)


def conditional_sequences(
    prior: ArrayLike, budget: int, rng: np.random.Generator | None = None, *, without: Sequence[Order] = ()
) -> list[Order]:
    """Sequences drawn slice by slice without replacement, with weights ``1 - p``; repeated ones are drawn again.

    Parameters
    ----------
    prior : deletion probability of each slice ``[L]``.
    budget : number of different sequences.
    without : sequences that may not come again.
    """
    p = check_prior(prior)
    rng = np.random.default_rng(0) if rng is None else rng
    check_budget(len(p), budget + len(without))
    seen, found = set(without), []
    for _ in range(_ATTEMPTS * budget):
        order = _drawn(1 - p, rng)
        if order not in seen:
            seen.add(order)
            found.append(order)
        if len(found) == budget:
            return found
    # what is left has next to no probability: take it in the order of the rotations
    rest = (o for o in cyclic_sequences(len(p), min(math.factorial(len(p)), budget + len(seen))) if o not in seen)
    return found + [order for order, _ in zip(rest, range(budget - len(found)), strict=False)]


def random_sequences(n_slices: int, budget: int, rng: np.random.Generator | None = None) -> list[Order]:
    """Different uniform permutations: the baseline of Algorithm 1."""
    check_budget(n_slices, budget)
    rng = np.random.default_rng(0) if rng is None else rng
    if 2 * budget > math.factorial(n_slices):
        every = cyclic_sequences(n_slices, math.factorial(n_slices))
        return [every[i] for i in rng.permutation(len(every))[:budget]]
    found: dict[Order, None] = {}
    while len(found) < budget:
        found[tuple(int(i) for i in rng.permutation(n_slices))] = None
    return list(found)


def sorted_cyclic_sequences(prior: ArrayLike, budget: int | None = None) -> list[Order]:
    """Rotations of the slices sorted by ascending deletion probability: the baseline of Algorithm 2."""
    p = check_prior(prior)
    ranked = np.argsort(p, kind="stable")
    orders = cyclic_sequences(len(p), len(p) if budget is None else budget)
    return [tuple(int(ranked[i]) for i in order) for order in orders]


def sequence_score(order: Sequence[int], prior: ArrayLike, t: int = DEFAULT_REQUESTS) -> float:
    """``sum_i i (1 - p_1 - ... - p_i)^t``: the lengths of the prefixes by their probability to survive t requests.

    Eq. 24; ``order`` may be the beginning of a sequence. 0 where float64 has nothing smaller.
    """
    p = check_prior(prior)
    if len(set(order)) < len(order) or not set(order) <= set(range(len(p))):
        raise InputError("order", list(order), f"different slices of 0 to {len(p) - 1}")
    rest = _rest(order, p)
    return float(np.sum(np.arange(1, len(rest) + 1) * rest**t))


def mean_pairwise_distance(orders: Sequence[Sequence[int]]) -> float:
    """Mean number of places in which two sequences differ, over all pairs; NaN for fewer than two."""
    if len({len(order) for order in orders}) > 1:
        raise InputError("orders", "sequences of several lengths", "sequences of equally many slices")
    if len(orders) < 2:
        return math.nan
    rows = np.asarray(orders)
    size = len(rows)
    # in every place: pairs of sequences less pairs that have the same slice there
    same = sum(int((counts * (counts - 1) // 2).sum()) for counts in map(_counts, rows.T))
    return rows.shape[1] - same / (size * (size - 1) / 2)


def check_budget(n_slices: int, budget: int) -> None:
    """Raise InputError unless ``1 <= B <= L!``."""
    for name, value in (("n_slices", n_slices), ("budget", budget)):
        if not isinstance(value, (int, np.integer)):
            raise InputError(name, repr(value), "a whole number")
    if n_slices < 1:
        raise InputError("n_slices", n_slices, "1 or more")
    most = math.factorial(n_slices)
    if not 1 <= budget <= most:
        raise InputError("budget", budget, f"1 to {most}, the number of orders of {n_slices} slices")


def check_prior(prior: ArrayLike) -> np.ndarray:
    """Deletion probabilities, float64 ``[L]``. Raises InputError for negative ones and for another sum than 1."""
    p = np.asarray(prior, dtype=np.float64)
    if p.ndim != 1 or not len(p):
        raise InputError("prior", f"shape {p.shape}", "one probability per slice")
    if not np.isfinite(p).all() or (p < 0).any():
        raise InputError("prior", p.tolist(), "probabilities of 0 or more")
    if abs(p.sum() - 1) > 1e-6:
        raise InputError("prior", f"a sum of {p.sum():g}", "probabilities that sum to 1")
    return p


def _rotated(order: Order, k: int) -> Order:
    """The last k elements moved to the front."""
    k %= max(len(order), 1)
    return order[len(order) - k :] + order[: len(order) - k]


def _evenly(count: int, n_slices: int, wanted: int) -> list[int]:
    stride = max(1, count // n_slices)
    places, place, start = [], 0, 0
    for _ in range(wanted):
        places.append(place)
        place += stride
        if place >= count:
            start += 1
            place = start
    return places


def _counts(column: np.ndarray) -> np.ndarray:
    return np.unique(column, return_counts=True)[1]


def _rest(order: Sequence[int], p: np.ndarray) -> np.ndarray:
    """Probability that a request spares the first i slices, for every i."""
    return np.clip(1 - np.cumsum(p[list(order)]), 0, None)


def _log_score(order: Sequence[int], p: np.ndarray, t: int) -> float:
    with np.errstate(divide="ignore"):
        terms = np.log(np.arange(1, len(order) + 1)) + t * np.log(_rest(order, p))
    return float(np.logaddexp.reduce(terms))


def _match(orders: list[Order], p: np.ndarray, t: int) -> list[int]:
    """The next slice of each sequence: the matching of the greatest sum of scores.

    What a sequence has so far adds the same to all its choices and is left out.
    """
    from scipy.optimize import linear_sum_assignment

    size = len(p)
    used = np.zeros((size, size), dtype=bool)
    for row, order in enumerate(orders):
        used[row, list(order)] = True
    spent = np.array([p[list(order)].sum() for order in orders])
    rest = np.clip(1 - spent[:, None] - p[None, :], 0, None)
    with np.errstate(divide="ignore"):
        log = np.round(t * np.log(np.where(rest < 1e-12, 0, rest)), 9)
    usable = np.isfinite(log) & ~used
    top = log[usable].max() if usable.any() else 0.0
    weight = np.exp(np.clip(log - top, -745, 0))
    low = log[usable].min() if usable.any() else 0.0
    span = max(top - low, 1.0)
    closeness = np.where(np.isfinite(log), (log - low) / span, -1.0)
    place = np.arange(size)[None, :] * (size - np.arange(size))[:, None] / size**2
    weight = weight + 1e-11 * closeness - 1e-13 * place
    weight[used] = -1e6
    rows, columns = linear_sum_assignment(weight, maximize=True)
    return [int(c) for _, c in sorted(zip(rows, columns, strict=True))]


def _drawn(weights: np.ndarray, rng: np.random.Generator) -> Order:
    left, order = list(range(len(weights))), []
    while left:
        share = np.clip(weights[left], 0, None)
        total = share.sum()
        pick = rng.choice(len(left), p=share / total if total > 0 else None)
        order.append(left.pop(int(pick)))
    return tuple(order)
