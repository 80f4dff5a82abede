"""Trained networks beside theory: per number of ones, mean and spread of the outputs with their standard errors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from paperworks.errors import InputError
from paperworks.papers.permutations_ntk.bits import apply_permutation, as_bit_rows, as_permutation
from paperworks.papers.permutations_ntk.limit import output_covariance
from paperworks.papers.permutations_ntk.theory import Kernel, Training, permutation_moments, require_whole

MAX_ROWS = 2000
"""Rows with one number of ones whose joint covariance is formed; of more, the first so many are compared."""


@dataclass(frozen=True)
class Agreement:
    """Averages over all rows with ``ones`` ones, and what theory expects.

    ``one_z`` and ``zero_z`` are (measured - theory) / standard error, where the standard error of the average over
    rows and coordinates is the theory's own, correlations included. They are None where there is nothing to compare
    (no zero bits, or outputs that do not vary).
    """

    ones: int
    rows: int
    one_mean: float | None
    one_theory: float
    one_z: float | None
    zero_mean: float | None
    zero_theory: float | None
    zero_z: float | None
    variance: float | None
    variance_theory: float


def compare_with_theory(
    permutation: ArrayLike,
    rows: ArrayLike,
    mean: ArrayLike,
    members: int,
    *,
    variance: ArrayLike | None = None,
    kernel: Kernel = "ntk",
    training: Training | None = None,
) -> list[Agreement]:
    """Compare outputs averaged over a number of networks with the theory of infinite width.

    Parameters
    ----------
    permutation : positions (k,) or a matrix.
    rows : distinct inputs (num, k) of 0 and 1.
    mean : outputs at the normalised rows, averaged over ``members`` networks, (num, k). Any networks will do.
    variance : their variance over networks, (num, k), or None.
    """
    positions = as_permutation(permutation)
    table = as_bit_rows(rows, len(positions))
    averages = np.asarray(mean, dtype=np.float64)
    if averages.shape != table.shape:
        raise InputError("mean", f"shape {averages.shape}", f"{table.shape}, one output per bit")
    require_whole("members", members)
    spread = None if variance is None else np.asarray(variance, dtype=np.float64)
    if spread is not None and spread.shape != table.shape:
        raise InputError("variance", f"shape {spread.shape}", f"{table.shape}, one variance per bit")
    ones = table.sum(axis=1, dtype=np.int64)
    found = []
    for n in np.unique(ones):
        chosen = np.flatnonzero(ones == n)[:MAX_ROWS]
        theory = permutation_moments(len(positions), np.array([n]), kernel=kernel, training=training)
        covariance = output_covariance(table[chosen], kernel=kernel, training=training)
        bits = apply_permutation(positions, table[chosen]) == 1
        one_mean, one_z = _average(averages[chosen], bits, float(theory.one_mean[0]), covariance, members)
        zero_mean, zero_z = _average(averages[chosen], ~bits, float(theory.zero_mean[0]), covariance, members)
        found.append(
            Agreement(
                int(n),
                len(chosen),
                one_mean,
                float(theory.one_mean[0]),
                one_z,
                zero_mean,
                float(theory.zero_mean[0]) if zero_mean is not None else None,
                zero_z,
                None if spread is None else float(spread[chosen].mean()),
                float(theory.variance[0]),
            )
        )
    return found


def _average(
    outputs: NDArray[np.float64], where: NDArray[np.bool_], expected: float, covariance: NDArray, members: int
) -> tuple[float | None, float | None]:
    """The average of the outputs at ``where``, and its distance from theory in standard errors."""
    count = int(where.sum())
    if not count:
        return None, None
    value = float(outputs[where].mean())
    weights = where / count
    # Output coordinates are independent of each other; within one, rows have this covariance.
    error = np.sqrt(np.einsum("rj,rs,sj->", weights, covariance, weights, optimize=True) / members)
    return value, float((value - expected) / error) if error > 1e-9 else None
