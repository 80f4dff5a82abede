"""How many networks an ensemble needs: by a closed bound, by exact Gaussian tails, and by simulation.

An ensemble averages N trained networks and rounds: a bit is 1 where the average exceeds the threshold. In the limit of
infinite width every output is Gaussian and the outputs of one input are independent, so that one input comes out right
with probability Phi(m1 sqrt(N) / s)^n * Phi(m0 sqrt(N) / s)^(k - n), with margins m1, m0 between mean and threshold.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, log_ndtr, logsumexp

from paperworks.errors import InputError
from paperworks.papers.permutations_ntk.theory import (
    OFF_DIAGONAL,
    Kernel,
    Moments,
    Threshold,
    Training,
    kernel_entries,
    permutation_moments,
    require_bits,
    require_whole,
)

Scope = int | Literal["all"] | Mapping[int, int]
"""One input with so many ones; all inputs with two or more ones; or numbers of distinct inputs by number of ones."""

Method = Literal["bound", "tails"]
"""``bound``: the closed sub-Gaussian bound. ``tails``: exact Gaussian tails, summed over inputs if several."""


def margins(moments: Moments, threshold: Threshold = "zero") -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How far the means lie on the right side of the threshold, at one bits and at zero bits, per number of ones.

    An input with a single one is a training input, where the mean at zero bits is 0 itself: it is always cut at the
    midpoint. At n = k there are no zero bits and the second margin is infinite.
    """
    middle = (moments.one_mean + moments.zero_mean) / 2
    match threshold:
        case "zero":
            cut = np.where(moments.ones == 1, middle, 0.0)
        case "midpoint":
            cut = middle
        case _:
            raise InputError("threshold", repr(threshold), "'zero' or 'midpoint'")
    return moments.one_mean - cut, np.where(moments.ones == moments.bits, np.inf, cut - moments.zero_mean)


def success_probability(
    bits: int,
    ones: int,
    members: int,
    *,
    threshold: Threshold = "zero",
    kernel: Kernel = "ntk",
    sigma_w: float = 1.0,
    training: Training | None = None,
) -> float:
    """Exact probability that an infinitely wide ensemble of ``members`` permutes one input with ``ones`` ones right."""
    require_whole("members", members)
    one, zero = _scores(
        permutation_moments(bits, np.array([ones]), kernel=kernel, sigma_w=sigma_w, training=training), threshold
    )
    root = math.sqrt(members)
    log = ones * log_ndtr(one * root)
    if ones < bits:
        log = log + (bits - ones) * log_ndtr(zero * root)
    return float(np.exp(log)[0])


def failure_bound(
    bits: int,
    scope: Scope,
    members: int,
    *,
    threshold: Threshold = "zero",
    kernel: Kernel = "ntk",
    sigma_w: float = 1.0,
    training: Training | None = None,
) -> float:
    """Upper bound of the probability that any bit of any input in the scope is wrong: the sum of the exact tails."""
    require_whole("members", members)
    n, log_counts = _inputs(bits, scope)
    if not n.size:
        return 0.0
    moments = permutation_moments(bits, n, kernel=kernel, sigma_w=sigma_w, training=training)
    return float(min(1.0, math.exp(min(0.0, _log_tails(moments, log_counts, members, threshold)))))


def required_models(
    bits: int,
    delta: float = 0.1,
    scope: Scope = "all",
    *,
    method: Method = "bound",
    threshold: Threshold = "zero",
    kernel: Kernel = "ntk",
    sigma_w: float = 1.0,
    training: Training | None = None,
) -> int:
    """The smallest ensemble that is right on the whole scope with probability 1 - delta or more, by the method.

    ``bound`` is max over n of (2 s2 / margin^2) * ln(k * inputs / delta), where all inputs count as 2^k: about
    5.61 k ln(k / delta) for one input and 3.9 k^2 for all of them. ``tails`` is smaller: for one input the exact
    probability, for several the union over the exact tails.

    Raises InputError for a delta outside (0, 1), and where a mean is on the wrong side of the threshold (a training
    that was stopped too early).
    """
    k = require_bits(bits)
    if not 0 < delta < 1:
        raise InputError("delta", delta, "a probability above 0 and below 1")
    n, log_counts = _inputs(k, scope)
    if not n.size:
        return 1
    moments = permutation_moments(k, n, kernel=kernel, sigma_w=sigma_w, training=training)
    one, zero = _scores(moments, threshold)
    worst = np.minimum(one, zero)
    if worst.min() <= 0:
        at = int(n[worst.argmin()])
        raise InputError("training", f"a mean on the wrong side of the threshold at {at} ones", "longer training")
    match method:
        case "bound":
            log_inputs = k * math.log(2) if scope == "all" else float(logsumexp(log_counts))
            return max(1, math.ceil(2 / worst.min() ** 2 * (math.log(k / delta) + log_inputs)))
        case "tails" if isinstance(scope, (int, np.integer)):
            return _smallest(
                lambda size: (
                    success_probability(
                        k, int(scope), size, threshold=threshold, kernel=kernel, sigma_w=sigma_w, training=training
                    )
                    >= 1 - delta
                )
            )
        case "tails":
            target = math.log(delta)
            return _smallest(lambda size: _log_tails(moments, log_counts, size, threshold) <= target)
    raise InputError("method", repr(method), "'bound' or 'tails'")


def limit_constant() -> float:
    """The limit of (2 s2 / mu0^2) / k for two ones as k grows, about 5.607.

    The bound asks for this times k ln(k / delta) networks for one input, and times ln(2) k^2 for all, as k grows.
    """
    b = OFF_DIAGONAL
    a = 1 - b
    tangent, last = (float(kernel_entries(2, kernel)[1]) for kernel in ("ntk", "nngp"))
    zero = (a - 2 * (tangent - b)) / a  # the limit of k mu0
    one = (tangent - b) / a  # of mu1
    total = 2 * one + zero
    variance = 0.5 + (0.5 - b) * 2 * one**2 + b * total**2 - 2 * (2 * one * last + zero * b)  # of k s2
    return 2 * variance / zero**2


def _scores(moments: Moments, threshold: Threshold) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Margins in standard deviations of a single network."""
    one, zero = margins(moments, threshold)
    with np.errstate(divide="ignore"):
        return one / moments.std, zero / moments.std


def _log_tails(moments: Moments, log_counts: NDArray[np.float64], members: int, threshold: Threshold) -> float:
    """Logarithm of the expected number of wrong bits' upper bound: sum over inputs and bits of the Gaussian tails."""
    one, zero = _scores(moments, threshold)
    root, n = math.sqrt(members), moments.ones
    with np.errstate(divide="ignore"):
        wrong_ones = np.log(n) + log_ndtr(-one * root)
        wrong_zeros = np.log(moments.bits - n) + log_ndtr(-zero * root)
    return float(logsumexp(log_counts + np.logaddexp(wrong_ones, wrong_zeros)))


def _inputs(bits: int, scope: Scope) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Numbers of ones in the scope, with the logarithm of how many inputs have them."""
    k = require_bits(bits)
    if isinstance(scope, str):
        if scope != "all":
            raise InputError("scope", repr(scope), "'all', a number of ones, or inputs by number of ones")
        n = np.arange(2, k + 1)
        return n, gammaln(k + 1) - gammaln(n + 1) - gammaln(k - n + 1)
    counts = scope if isinstance(scope, Mapping) else {scope: 1}
    for ones, count in counts.items():
        if isinstance(ones, bool) or not isinstance(ones, (int, np.integer)) or not 1 <= ones <= k:
            raise InputError("scope", f"{ones!r} ones", f"a whole number from 1 to {k}")
        if count < 1:
            raise InputError("scope", f"{count} inputs with {ones} ones", "1 or more")
    n = np.array(sorted(counts), dtype=np.int64)
    return n, np.log([float(counts[int(v)]) for v in n])


def _smallest(enough: Callable[[int], bool]) -> int:
    """The smallest size of 1 or more for which ``enough(size)``, which stays true once it is."""
    high = 1
    while not enough(high):
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
