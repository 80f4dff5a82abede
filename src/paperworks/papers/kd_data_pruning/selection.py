"""From scores to the rows that are kept."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from paperworks.errors import InputError
from paperworks.parameters import check_seed


def kept_count(n: int, fraction: float) -> int:
    """``round(fraction n)``, half to even, and at least 1. Raises InputError for a fraction outside (0, 1]."""
    if not 0 < fraction <= 1:
        raise InputError("fraction", fraction, "a share of the rows, above 0 and at most 1")
    return max(1, round(fraction * n))


def rank(
    scores: ArrayLike, keep: Literal["largest", "smallest"], *, seed: int = 0, infinite: bool = False
) -> np.ndarray:
    """Rows in the order in which they are kept, int64 ``[n]``; equal scores in a random order of the seed.

    Raises InputError for NaN, and for infinite scores unless ``infinite`` allows them (forgetting).
    """
    check_seed("seed", seed)
    values = np.asarray(scores, dtype=np.float64)
    if keep not in ("largest", "smallest"):
        raise InputError("keep", repr(keep), "'largest' or 'smallest'")
    if values.ndim != 1:
        raise InputError("scores", f"shape {values.shape}", "[n]")
    bad = np.flatnonzero(np.isnan(values) | (np.isinf(values) & (not infinite)))
    if len(bad):
        raise InputError(f"scores[{bad[0]}]", values[bad[0]], "a finite number")
    tie = np.random.default_rng([seed, 1]).permutation(len(values))
    return np.lexsort((tie, -values if keep == "largest" else values)).astype(np.int64)


def keep_best(
    ranking: ArrayLike, fraction: float, *, labels: ArrayLike | None = None, min_per_class: int = 0
) -> np.ndarray:
    """The first ``round(fraction n)`` rows of a ranking, sorted int64.

    Parameters
    ----------
    labels : classes ``[n]``; given, every class keeps its share ``fraction n_c`` rounded up or down (largest remainder,
        so that the number in all is as asked), and at least ``min_per_class`` rows or all of its rows.
    min_per_class : with ``labels`` only.
    """
    order = np.asarray(ranking, dtype=np.int64)
    count = kept_count(len(order), fraction)
    if labels is None:
        if min_per_class:
            raise InputError("min_per_class", min_per_class, "0 without labels")
        return np.sort(order[:count])
    classes = np.asarray(labels)
    if classes.shape != order.shape:
        raise InputError("labels", f"shape {classes.shape}", f"({len(order)},), one for each row of the ranking")
    quota = class_quota(classes, fraction, min_per_class)
    return np.sort(np.concatenate([order[classes[order] == c][:k] for c, k in quota.items()]))


def class_quota(labels: np.ndarray, fraction: float, min_per_class: int = 0) -> dict[Any, int]:
    """How many rows of each class are kept: ``fraction n_c``, rounded by largest remainder; at least the minimum."""
    names, sizes = np.unique(labels, return_counts=True)
    exact = fraction * sizes
    quota = np.floor(exact).astype(int)
    missing = kept_count(len(labels), fraction) - quota.sum()
    # a remainder of 0 never gets one: such a class has its share already
    quota[np.argsort(quota - exact, kind="stable")[: max(missing, 0)]] += 1
    quota = np.minimum(np.maximum(quota, min_per_class), sizes)
    return dict(zip(names.tolist(), quota.tolist(), strict=True))


def with_minimum(kept: np.ndarray, ranking: np.ndarray, labels: np.ndarray, min_per_class: int) -> np.ndarray:
    """The kept rows, and the next ones of the ranking of every class that has fewer than the minimum; sorted."""
    chosen = set(kept.tolist())
    for label in np.unique(labels):
        own = ranking[labels[ranking] == label]
        lacking = min(min_per_class, len(own)) - sum(int(row) in chosen for row in own)
        if lacking > 0:
            chosen.update([int(row) for row in own if int(row) not in chosen][:lacking])
    return np.array(sorted(chosen), dtype=np.int64)


def default_beta(fraction: float) -> float:
    """The share of the hardest rows that CCS drops: the published 0.3 for 10 % kept and 0.2 for 20 %; ours: else 0."""
    return 0.3 if fraction <= 0.1 else 0.2 if fraction <= 0.2 else 0.0


def coverage_centric(
    aum: ArrayLike, fraction: float, *, beta: float | None = None, strata: int = 50, seed: int = 0
) -> np.ndarray:
    """Coverage-centric selection (CCS, Zheng et al. 2023), sorted int64.

    The hardest share ``beta`` (lowest margins, where wrong labels are) is dropped. The others are cut into strata of
    equal width of the score. Strata are visited from the smallest to the largest: each gives its rows, or an equal
    part of what is left of the budget, drawn uniformly.

    Raises InputError where ``beta`` leaves fewer rows than are to be kept.
    """
    check_seed("seed", seed)
    scores = np.asarray(aum, dtype=np.float64)
    ranking = rank(scores, "smallest", seed=seed)
    count = kept_count(len(scores), fraction)
    dropped = default_beta(fraction) if beta is None else beta
    if not 0 <= dropped < 1:
        raise InputError("beta", dropped, "a share from 0 to below 1")
    if strata < 1:
        raise InputError("strata", strata, "1 or more")
    pool = ranking[round(dropped * len(scores)) :]
    if len(pool) < count:
        raise InputError("beta", f"{dropped}, which leaves {len(pool)} rows", f"at most {1 - fraction:.3g}")
    low, high = scores[pool].min(), scores[pool].max()
    width = (high - low) / strata or 1.0
    of = np.minimum(((scores[pool] - low) / width).astype(int), strata - 1)
    groups = sorted((pool[of == s] for s in range(strata)), key=len)
    rng, left = np.random.default_rng([seed, 2]), count
    kept: list[np.ndarray] = []
    for number, rows in enumerate(groups):
        part = min(len(rows), left // (strata - number))
        kept.append(rng.permutation(rows)[:part])
        left -= part
    return np.sort(np.concatenate(kept))
