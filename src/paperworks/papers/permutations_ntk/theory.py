"""The trained output of an infinitely wide network on a permutation of bits: mean and variance in closed form.

A two-layer ReLU network without biases learns ``y = P x`` from the k unit vectors alone. In the limit of infinite
width its trained output at a normalised input is Gaussian, and by symmetry its moments depend only on the number of
bits k and the number of ones n of the input:

    input with n ones ──> mean mu1 > 0 where the permuted bit is 1, mean mu0 < 0 where it is 0, variance s2

That mu0 < 0 < mu1 for every n >= 2 and every k is proved in the README, and used by the ensembles: average, then round.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from paperworks.errors import InputError
from paperworks.parameters import check_whole

Kernel = Literal["ntk", "nngp"]
"""``ntk``: both layers are trained (the neural tangent kernel). ``nngp``: only the last layer is."""

Parametrization = Literal["ntk", "standard"]
TrainedLayers = Literal["all", "last"]

Threshold = Literal["zero", "midpoint"]
"""``zero``: the paper's rule. ``midpoint``: half way between the two means, which needs the number of ones."""

OFF_DIAGONAL = 1 / (2 * np.pi)
"""k times either kernel between two different unit vectors (b of the README)."""


@dataclass(frozen=True)
class GradientFlow:
    """Training stopped at a time t: residuals along an eigenvector shrink by exp(-rate * t * eigenvalue)."""

    learning_rate: float
    time: float

    def __post_init__(self) -> None:
        _require_positive("learning_rate", self.learning_rate)
        if not self.time >= 0:
            raise InputError("time", self.time, "0 or more")

    def remaining(self, eigenvalues: ArrayLike) -> NDArray[np.float64]:
        """The share of the residual that is left along eigenvectors with these eigenvalues."""
        return np.exp(-self.learning_rate * self.time * np.asarray(eigenvalues, dtype=np.float64))

    def learned(self, eigenvalues: ArrayLike) -> NDArray[np.float64]:
        """1 minus ``remaining``, without cancellation."""
        return -np.expm1(-self.learning_rate * self.time * np.asarray(eigenvalues, dtype=np.float64))


@dataclass(frozen=True)
class GradientDescent:
    """Full-batch descent on half the sum of squares: residuals shrink by 1 - rate * eigenvalue per step."""

    learning_rate: float
    steps: int

    def __post_init__(self) -> None:
        _require_positive("learning_rate", self.learning_rate)
        require_whole("steps", self.steps, 0)

    def remaining(self, eigenvalues: ArrayLike) -> NDArray[np.float64]:
        """The share of the residual that is left. Raises InputError if the rate is too large to converge."""
        values = np.asarray(eigenvalues, dtype=np.float64)
        if values.size and self.learning_rate * values.max() >= 2:
            raise InputError("learning_rate", self.learning_rate, f"less than {2 / values.max():.6g} (2 / eigenvalue)")
        return (1 - self.learning_rate * values) ** self.steps

    def learned(self, eigenvalues: ArrayLike) -> NDArray[np.float64]:
        """1 minus ``remaining``."""
        return 1 - self.remaining(eigenvalues)


Training = GradientFlow | GradientDescent
"""How long the networks are trained; None stands for training to convergence."""


@dataclass(frozen=True)
class Moments:
    """Moments of one trained output, per number of ones.

    Attributes (float64 arrays of the shape of ``ones``)
    ----------
    ones : the number of ones n of the input.
    one_mean : mean at output coordinates whose permuted bit is 1 (mu1).
    zero_mean : mean at output coordinates whose permuted bit is 0 (mu0); at n = k no such coordinate exists.
    variance : variance of every output coordinate over random initialisations (s2).
    """

    bits: int
    ones: NDArray[np.int64]
    one_mean: NDArray[np.float64]
    zero_mean: NDArray[np.float64]
    variance: NDArray[np.float64]

    @property
    def std(self) -> NDArray[np.float64]:
        """Standard deviation of every output coordinate."""
        return np.sqrt(self.variance)


def permutation_moments(
    bits: int,
    ones: ArrayLike | None = None,
    *,
    kernel: Kernel = "ntk",
    sigma_w: float = 1.0,
    training: Training | None = None,
) -> Moments:
    """Mean and variance of the trained output, in O(1) per number of ones.

    Parameters
    ----------
    bits : number of bits k, at least 1.
    ones : numbers of ones n (whole numbers in 1..k, any shape); all of 1..k if None.
    kernel : ``ntk`` if both layers are trained, ``nngp`` if only the last one is.
    sigma_w : standard deviation of the weights. It scales the variance by ``sigma_w ** 4`` and leaves the mean.
    training : a finite training time; None is convergence.

    Raises InputError for a k below 1, and for numbers of ones outside 1..k.
    """
    k = require_bits(bits)
    n = np.arange(1, k + 1) if ones is None else np.asarray(ones)
    if n.size and (not np.issubdtype(n.dtype, np.integer) or n.min() < 1 or n.max() > k):
        raise InputError(
            "ones", n.tolist() if n.size < 9 else f"{n.min()} to {n.max()}", f"whole numbers from 1 to {k}"
        )
    _require_positive("sigma_w", sigma_w)
    b = OFF_DIAGONAL
    diagonal, cross = kernel_entries(n, kernel)
    a = diagonal - b
    big = a + k * b
    if training is None:
        zero = b * (a - n * (cross - b)) / (a * big)
        one = zero + (cross - b) / a
    else:
        # Orthogonal to the all-ones vector and along it: (1 - what is left of the residual) / eigenvalue, times 1 / k.
        scale = sigma_w**4 / k
        perpendicular, parallel = (training.learned(np.array([a, big]) * scale) / np.array([a, big])).tolist()
        mean_entry = b + n * (cross - b) / k
        zero = perpendicular * (b - mean_entry) + parallel * mean_entry
        one = zero + perpendicular * (cross - b)
    sum1 = n * one + (k - n) * zero
    sum2 = n * one**2 + (k - n) * zero**2
    _, nngp_cross = kernel_entries(n, "nngp")
    variance = (0.5 + (0.5 - b) * sum2 + b * sum1**2 - 2 * (n * one * nngp_cross + (k - n) * zero * b)) / k
    if training is None:
        variance = np.where(n == 1, 0.0, variance)  # training inputs are interpolated exactly
    return Moments(k, n, one, zero, np.maximum(variance, 0.0) * sigma_w**4)


def kernel_entries(ones: ArrayLike, kernel: Kernel) -> tuple[float, NDArray[np.float64]]:
    """k times the kernel (sigma_w = 1) of a unit vector with itself, and of normalised inputs with one of their ones.

    Between an input and a unit vector where the input is 0, k times either kernel is ``OFF_DIAGONAL``.
    """
    n = np.asarray(ones, dtype=np.float64)
    cosine = 1 / np.sqrt(n)
    share = (np.pi - np.arccos(np.minimum(cosine, 1.0))) / np.pi  # exactly 1 at n = 1
    sine = np.sqrt(1 - 1 / n) / (2 * np.pi)
    match kernel:
        case "ntk":
            return 1.0, sine + share * cosine
        case "nngp":
            return 0.5, sine + share * cosine / 2
    raise InputError("kernel", repr(kernel), "'ntk' or 'nngp'")


def training_spectrum(bits: int, *, kernel: Kernel = "ntk", sigma_w: float = 1.0) -> tuple[float, float]:
    """The kernel's smallest (k - 1 times) and largest eigenvalue on the k unit vectors.

    Gradient descent on half the sum of squares converges for learning rates below 2 / largest.
    """
    k = require_bits(bits)
    diagonal, _ = kernel_entries(1, kernel)
    a = diagonal - OFF_DIAGONAL
    largest = (a + k * OFF_DIAGONAL) * sigma_w**4 / k
    return (a * sigma_w**4 / k if k > 1 else largest), largest


def mean_squared_error(bits: int, ones: int, members: int, *, kernel: Kernel = "ntk") -> float:
    """Expected squared error per coordinate of an ensemble's average, against the permuted normalised P x / |x|."""
    require_whole("members", members)
    m = permutation_moments(bits, ones, kernel=kernel)
    bias = ones * (1 / np.sqrt(ones) - m.one_mean) ** 2 + (bits - ones) * m.zero_mean**2
    return float(bias / bits + m.variance / members)


def require_bits(bits: int) -> int:
    """``bits`` as an int, or InputError if it is not a whole number of 1 or more."""
    return require_whole("bits", bits)


def require_whole(field: str, value: object, least: int = 1) -> int:
    """``value`` as an int, or InputError if it is not a whole number of ``least`` or more."""
    return check_whole(field, value, least)


def _require_positive(field: str, value: float) -> None:
    if not (np.isfinite(value) and value > 0):
        raise InputError(field, value, "a number above 0")
