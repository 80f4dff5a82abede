"""The infinitely wide ensemble itself: its outputs are Gaussian, so they are drawn instead of trained.

One draw of an ensemble's average costs the same for one network as for a million: the average of N independent
Gaussian outputs is Gaussian with the covariance divided by N.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import linalg

from paperworks.errors import InputError
from paperworks.papers.permutations_ntk.bits import apply_permutation, as_bit_rows, as_permutation
from paperworks.papers.permutations_ntk.ensemble_size import Threshold
from paperworks.papers.permutations_ntk.kernels import nngp_kernel, unit_rows
from paperworks.papers.permutations_ntk.theory import Kernel, Training, permutation_moments, require_whole
from paperworks.runs import Progress, no_progress

MAX_ROWS = 8192
"""Distinct inputs whose joint covariance is factorised (512 MiB)."""

JITTER = 1e-12
"""Added to the covariance's diagonal before it is factorised."""


def output_moments(
    permutation: ArrayLike,
    rows: ArrayLike,
    *,
    kernel: Kernel = "ntk",
    sigma_w: float = 1.0,
    training: Training | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of every trained output, each (num, k), from the closed form; rows are normalised."""
    positions = as_permutation(permutation)
    table = as_bit_rows(rows, len(positions))
    ones = table.sum(axis=1, dtype=np.int64)
    moments = permutation_moments(len(positions), ones, kernel=kernel, sigma_w=sigma_w, training=training)
    mean = np.where(apply_permutation(positions, table) == 1, moments.one_mean[:, None], moments.zero_mean[:, None])
    return mean, np.repeat(moments.std[:, None], len(positions), axis=1)


def output_covariance(
    rows: ArrayLike, *, kernel: Kernel = "ntk", training: Training | None = None
) -> NDArray[np.float64]:
    """Covariance (num, num) of one output coordinate between inputs; coordinates are independent of each other."""
    table = as_bit_rows(rows)
    k = table.shape[1]
    moments = permutation_moments(k, table.sum(axis=1, dtype=np.int64), kernel=kernel, training=training)
    weights = np.where(table == 1, moments.one_mean[:, None], moments.zero_mean[:, None])
    x = unit_rows(table)
    cross = weights @ nngp_kernel(np.eye(k), x)
    out = nngp_kernel(x) + weights @ nngp_kernel(np.eye(k)) @ weights.T - cross - cross.T
    return (out + out.T) / 2


class LimitEnsemble:
    """An ensemble of infinitely wide trained networks on fixed inputs.

    Parameters
    ----------
    permutation : positions (k,) or a matrix (k, k).
    rows : distinct inputs of 0 and 1, (num, k), at most 8,192.
    kernel, training : as in ``permutation_moments``.
    """

    def __init__(
        self, permutation: ArrayLike, rows: ArrayLike, *, kernel: Kernel = "ntk", training: Training | None = None
    ) -> None:
        self.permutation = as_permutation(permutation)
        self.rows = as_bit_rows(rows, len(self.permutation))
        if len(self.rows) > MAX_ROWS:
            raise InputError("rows", f"{len(self.rows)} distinct inputs", f"at most {MAX_ROWS}, drawn jointly")
        if len(np.unique(self.rows, axis=0)) < len(self.rows):
            raise InputError("rows", "a row that is there twice", "distinct rows: equal ones have equal outputs")
        self.targets = apply_permutation(self.permutation, self.rows)
        self.mean, std = output_moments(self.permutation, self.rows, kernel=kernel, training=training)
        # Training inputs do not vary at all, and would make the covariance singular.
        self._varies = std[:, 0] > 1e-7
        covariance = output_covariance(self.rows[self._varies], kernel=kernel, training=training)
        covariance[np.diag_indices_from(covariance)] += JITTER
        self._factor = linalg.cholesky(covariance, lower=True) if covariance.size else covariance

    def draw(self, rng: np.random.Generator, count: int = 1, *, members: int = 1) -> NDArray[np.float64]:
        """``count`` independent averages of ``members`` networks' outputs, (count, num, k)."""
        require_whole("members", members)
        require_whole("count", count, 0)
        out = np.broadcast_to(self.mean, (count, *self.mean.shape)).copy()
        k, rows = self.mean.shape[1], len(self._factor)
        noise = rng.standard_normal((rows, count * k)) / np.sqrt(members)
        out[:, self._varies] += (self._factor @ noise).reshape(rows, count, k).transpose(1, 0, 2)
        return out

    def exact(self, outputs: NDArray[np.float64], threshold: Threshold = "zero") -> NDArray[np.bool_]:
        """Which rows come out right: (..., num) for averaged outputs (..., num, k)."""
        return (round_outputs(outputs, self.rows, threshold) == self.targets).all(axis=-1)

    def failure_rate(
        self,
        rng: np.random.Generator,
        members: int,
        repetitions: int,
        *,
        threshold: Threshold = "zero",
        progress: Progress = no_progress,
    ) -> float:
        """Share of ``repetitions`` ensembles that have any bit of any row wrong."""
        require_whole("repetitions", repetitions)
        chunk = max(1, 2**22 // self.mean.size)
        failed = 0
        for start in progress(range(0, repetitions, chunk), f"drawing ensembles of {members}"):
            averages = self.draw(rng, min(chunk, repetitions - start), members=members)
            failed += int((~self.exact(averages, threshold).all(axis=1)).sum())
        return failed / repetitions

    def first_sizes(
        self,
        rng: np.random.Generator,
        accuracy: float,
        repetitions: int,
        *,
        weights: ArrayLike | None = None,
        cap: int = 5000,
        progress: Progress = no_progress,
    ) -> NDArray[np.int64]:
        """The paper's experiment: networks are added one by one until the share of rows that are right is enough.

        ``weights`` (num,) count how often a row is in the test set. Returns the sizes, (repetitions,); ``cap`` where
        it was never enough. The first size that passes is a lucky stop: it is biased low.
        """
        if not 0 < accuracy <= 1:
            raise InputError("accuracy", accuracy, "a share above 0, at most 1")
        require_whole("repetitions", repetitions)
        require_whole("cap", cap)
        share = np.full(len(self.rows), 1 / len(self.rows)) if weights is None else np.asarray(weights, dtype=float)
        if share.shape != (len(self.rows),) or not (share >= 0).all() or not 0 < share.sum() < np.inf:
            raise InputError("weights", f"shape {share.shape}", f"{len(self.rows)} counts of 0 or more, not all 0")
        share = share / share.sum()
        chunk = max(1, min(32, 2**21 // self.mean.size))
        sizes = np.full(repetitions, cap, dtype=np.int64)
        for r in progress(range(repetitions), f"first ensembles that are {accuracy:.1%} right"):
            total = np.zeros_like(self.mean)
            for start in range(0, cap, chunk):
                sums = total + np.cumsum(self.draw(rng, min(chunk, cap - start)), axis=0)
                total = sums[-1]
                counts = np.arange(start + 1, start + len(sums) + 1)[:, None, None]
                passed = self.exact(sums / counts) @ share >= accuracy - 1e-12
                if passed.any():
                    sizes[r] = start + int(passed.argmax()) + 1
                    break
        return sizes


def round_outputs(outputs: ArrayLike, rows: ArrayLike, threshold: Threshold = "zero") -> NDArray[np.uint8]:
    """Averaged outputs (..., num, k) as bits: 1 above the threshold.

    ``zero`` is the paper's rule. Rows with a single one are training inputs, whose outputs are 0 and 1 and not of
    either sign: they are cut at 1/2. ``midpoint`` cuts each row half way between the means that its number of ones has.
    """
    averages, table = np.asarray(outputs, dtype=np.float64), as_bit_rows(rows)
    ones = table.sum(axis=1, dtype=np.int64)
    match threshold:
        case "zero":
            cut = np.where(ones == 1, 0.5, 0.0)
        case "midpoint":
            moments = permutation_moments(table.shape[1], ones)
            cut = (moments.one_mean + moments.zero_mean) / 2
        case _:
            raise InputError("threshold", repr(threshold), "'zero' or 'midpoint'")
    return (averages > cut[:, None]).astype(np.uint8)
