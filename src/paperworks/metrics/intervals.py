"""Confidence intervals: of a mean over seeds (Student), of a proportion (Wilson), of any statistic (bootstrap)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from paperworks.errors import InputError
from paperworks.parameters import check_seed


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval.

    Attributes
    ----------
    estimate, low, high : the value and the ends of its interval.
    level : confidence level, such as 0.95.
    method : how the interval was computed, such as "Student t".
    n : number of independent values behind it (seeds, rows, clusters).
    unit : what ``n`` counts.
    skipped : bootstrap only: resamples on which the statistic was undefined.
    """

    estimate: float
    low: float
    high: float
    level: float
    method: str
    n: int
    unit: str = "values"
    skipped: int = 0

    def __str__(self) -> str:
        ends = f"{self.estimate:.4g} [{self.low:.4g}, {self.high:.4g}]"
        return f"{ends} ({self.level:.0%}, {self.method}, n = {self.n} {self.unit})"


def mean_interval(values: ArrayLike, *, level: float = 0.95, unit: str = "seeds") -> Interval:
    """The mean of independent values with Student's t interval.

    For a difference between two methods that were run with the same seeds, pass the differences.

    Parameters
    ----------
    values : numbers ``[n]``, n of at least 2.

    Raises
    ------
    InputError : fewer than two values, a value that is not finite, or a level outside (0, 1).
    """
    from scipy.special import stdtrit

    numbers = finite("values", values)
    n = len(numbers)
    if n < 2:
        raise InputError("values", f"{n} value{'s' * (n != 1)}", "at least 2: one value has no spread")
    mean = float(numbers.mean())
    half = float(stdtrit(n - 1, 0.5 + _level(level) / 2)) * float(numbers.std(ddof=1)) / math.sqrt(n)
    return Interval(mean, mean - half, mean + half, level, "Student t", n, unit)


def ratio_interval(ratios: ArrayLike, *, level: float = 0.95, unit: str = "rounds") -> Interval:
    """The geometric mean of independent positive ratios, with Student's t interval of their logarithms.

    Use it for how many times as long, as large or as fast one thing is as another. Ratios are skewed: the interval of
    their plain mean can reach below 0, and it changes its meaning when the ratio is turned over; this one does not.

    Parameters
    ----------
    ratios : positive numbers ``[n]``, n of at least 2.

    Raises
    ------
    InputError : fewer than two ratios, one that is not finite or not above 0, or a level outside (0, 1).
    """
    numbers = finite("ratios", ratios)
    if (numbers <= 0).any():
        raise InputError("ratios", f"{float(numbers.min()):g}", "numbers above 0")
    logs = mean_interval(np.log(numbers), level=level, unit=unit)
    ends = (math.exp(logs.estimate), math.exp(logs.low), math.exp(logs.high))
    return Interval(*ends, level, "geometric mean, Student t of logarithms", logs.n, unit)


def wilson_interval(successes: int, n: int, *, level: float = 0.95, unit: str = "rows") -> Interval:
    """A proportion with Wilson's score interval (Wilson 1927), which stays within [0, 1] and has width at 0 and 1.

    Raises
    ------
    InputError : ``n`` below 1, or ``successes`` outside 0..n.
    """
    if n < 1:
        raise InputError("n", n, "at least 1")
    if not 0 <= successes <= n:
        raise InputError("successes", successes, f"a number from 0 to {n}")
    z = normal_quantile(0.5 + _level(level) / 2)
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # at 0 and at n the ends are 0 and 1 exactly; rounding must not move them past the estimate
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == n else centre + half
    return Interval(share, low, high, level, "Wilson", n, unit)


def bootstrap_interval(
    statistic: Callable[..., float],
    *arrays: ArrayLike,
    clusters: ArrayLike | None = None,
    n_resamples: int = 1000,
    level: float = 0.95,
    method: Literal["percentile", "bca"] = "percentile",
    seed: int = 0,
) -> Interval:
    """A bootstrap interval of a statistic, over rows or over clusters of rows.

    Rows of one cluster (slices of a patient, sentences of a document) are not independent: with ``clusters`` whole
    clusters are drawn with replacement, and a cluster that was drawn twice counts twice.

    Parameters
    ----------
    statistic : function of the resampled arrays; NaN means that it is undefined on them (one class only, say).
    arrays : arrays with equally many rows.
    clusters : cluster of each row ``[n]``; None: every row is a cluster of its own.
    method : "percentile", or "bca" (bias-corrected and accelerated, Efron 1987; jackknife over clusters).

    Returns
    -------
    Interval : ``n`` is the number of clusters (or rows), ``skipped`` the number of undefined resamples.

    Raises
    ------
    InputError : arrays of different lengths, fewer than two clusters, a statistic that is undefined on the data or on
        more than half of the resamples.
    """
    check_seed("seed", seed)
    columns = [np.asarray(a) for a in arrays]
    if not columns:
        raise InputError("arrays", "none", "at least one array")
    n = len(columns[0])
    by = np.arange(n) if clusters is None else np.asarray(clusters)
    for number, column in enumerate([*columns, by]):
        if len(column) != n:
            name = "clusters" if number == len(columns) else f"arrays[{number}]"
            raise InputError(name, f"{len(column)} rows", f"{n}, as the first array has")
    if n_resamples < 1:
        raise InputError("n_resamples", n_resamples, "at least 1")
    if method not in ("percentile", "bca"):
        raise InputError("method", repr(method), "'percentile' or 'bca'")
    tail = (1 - _level(level)) / 2
    names, code = np.unique(by, return_inverse=True)
    unit = "rows" if clusters is None else "clusters"
    if len(names) < 2:
        raise InputError("clusters", f"{len(names)} {unit}", "at least 2")
    order = np.argsort(code, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(code))[:-1])

    def value(rows: np.ndarray) -> float:
        return float(statistic(*(column[rows] for column in columns)))

    estimate = value(np.arange(n))
    if math.isnan(estimate):
        raise InputError("statistic", "NaN on the data as they are", "a statistic that is defined on them")
    rng = np.random.default_rng(seed)
    drawn = np.array(
        [
            value(np.concatenate([members[i] for i in rng.integers(len(names), size=len(names))]))
            for _ in range(n_resamples)
        ]
    )
    defined = drawn[~np.isnan(drawn)]
    if 2 * len(defined) < n_resamples:
        found = f"undefined on {n_resamples - len(defined)} of {n_resamples} resamples"
        raise InputError("statistic", found, "a statistic that is defined on most resamples: more clusters are needed")
    ends = (tail, 1 - tail)
    if method == "bca":
        ends = _bca_ends(estimate, defined, members, value, tail)
    low, high = np.quantile(defined, ends)
    named = f"{'bootstrap' if clusters is None else 'cluster bootstrap'}, {method}"
    return Interval(estimate, float(low), float(high), level, named, len(names), unit, n_resamples - len(defined))


def _bca_ends(
    estimate: float,
    drawn: np.ndarray,
    members: list[np.ndarray],
    value: Callable[[np.ndarray], float],
    tail: float,
) -> tuple[float, float]:
    """The two quantiles of the resampled values that BCa reads instead of ``tail`` and ``1 - tail``."""
    from scipy.special import ndtr

    # values equal to the estimate count half, so that a discrete statistic is not called biased
    below = float((drawn < estimate).mean() + (drawn == estimate).mean() / 2)
    below = min(max(below, 0.5 / len(drawn)), 1 - 0.5 / len(drawn))
    bias = normal_quantile(below)
    left_out = np.array([value(np.concatenate(members[:i] + members[i + 1 :])) for i in range(len(members))])
    left_out = left_out[~np.isnan(left_out)]
    spread = left_out.mean() - left_out
    scale = float((spread**2).sum()) ** 1.5
    acceleration = float((spread**3).sum()) / (6 * scale) if scale > 0 else 0.0

    def end(share: float) -> float:
        z = bias + normal_quantile(share)
        return float(ndtr(bias + z / (1 - acceleration * z)))

    return end(tail), end(1 - tail)


def normal_quantile(share: float) -> float:
    """The quantile of the standard normal distribution."""
    from scipy.special import ndtri

    return float(ndtri(share))


def finite(field: str, values: ArrayLike) -> np.ndarray:
    """``values`` as float64 ``[n]``. Raises InputError for another number of axes, NaN and infinities."""
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 1:
        raise InputError(field, f"an array of shape {numbers.shape}", "numbers [n]")
    bad = np.flatnonzero(~np.isfinite(numbers))
    if len(bad):
        raise InputError(f"{field}[{bad[0]}]", numbers[bad[0]], "a finite number")
    return numbers


def _level(level: float) -> float:
    if not 0 < level < 1:
        raise InputError("level", level, "a number between 0 and 1, such as 0.95")
    return level
