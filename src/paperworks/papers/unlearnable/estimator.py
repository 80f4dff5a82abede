"""The Bayes error of labelled embeddings, estimated by leave-one-out averaging, with its gradient in closed form.

    z_1 .. z_N [N, D]          s_ij = exp(-|z_i - z_j|^2 / 2 sigma^2), s_ii = 0
          |                    post_i(c) = sum_{j: y_j = c} s_ij / sum_j s_ij
          v                    b_i = 1 - max_c post_i(c)
      b_1 .. b_N   --mean-->   the estimate, from 0 (classes apart) to 1 - (largest class frequency)

The similarities of a row are known up to a factor only, which the posterior does not see. They are computed relative to
the row's largest, so that no row vanishes however narrow the kernel is. (The authors' code adds 1e-8 to the row's sum
instead; where that sum is much smaller, it reports a Bayes error of 1.)
"""

from __future__ import annotations

import math
import numbers
import warnings
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from sklearn.base import BaseEstimator

from paperworks.errors import InputError
from paperworks.nn import resolve_device
from paperworks.parameters import check_seed

Kernel = Literal["rbf", "logistic", "knn"]
Normalise = Literal["maxabs", "quantile", "none"]

SCALE_FLOOR = 1e-8
QUANTILE = 0.999
MEDIAN_ROWS = 2000
STARVED = 1e-6
"""A row whose similarities sum to less than this rests on its nearest neighbours only."""


@dataclass
class BayesErrorEstimator(BaseEstimator):  # type: ignore[misc]
    """Leave-one-out estimate of the Bayes error of labelled embeddings (arXiv 2511.08191 and its released code).

    Parameters
    ----------
    kernel : "rbf", "logistic" (similarity ``sigmoid(z_i . z_j)``), or "knn" (the k nearest others, without a gradient).
    sigma : bandwidth of the RBF kernel; "median" takes the median distance of pairs.
    chunk : rows of the kernel matrix in memory at a time.
    normalise : embeddings are divided by their largest absolute value ("maxabs", the released code's way), by the 0.999
        quantile of the absolute values ("quantile", which one extreme value does not move), or not at all ("none").
    neighbours : k of the "knn" kernel.
    reference : most columns of the kernel matrix; with more rows than this, a stratified random subset stands for all.
        None uses every row: memory ``chunk * N``, time ``N^2 D``.
    device : of PyTorch, or "auto".
    random_state : seed of the reference subset and of the pairs for the median.

    Examples
    --------
    >>> import numpy as np
    >>> z = np.array([[0.0], [0.1], [5.0], [5.1]])
    >>> round(BayesErrorEstimator(sigma=0.1, normalise="none").score(z, [0, 0, 1, 1]), 6)
    0.0
    """

    kernel: Kernel = "rbf"
    sigma: float | Literal["median"] = 0.3
    chunk: int = 1024
    normalise: Normalise = "maxabs"
    neighbours: int = 10
    reference: int | None = None
    device: str = "auto"
    random_state: int = 0

    def __post_init__(self) -> None:
        check_seed("random_state", self.random_state)
        if self.kernel not in ("rbf", "logistic", "knn"):
            raise InputError("kernel", repr(self.kernel), "'rbf', 'logistic' or 'knn'")
        if self.normalise not in ("maxabs", "quantile", "none"):
            raise InputError("normalise", repr(self.normalise), "'maxabs', 'quantile' or 'none'")
        if self.sigma != "median" and not (isinstance(self.sigma, numbers.Real) and 1e-100 < self.sigma < 1e100):
            raise InputError("sigma", repr(self.sigma), "a positive number that can be squared, or 'median'")
        for name in ("chunk", "neighbours"):
            if getattr(self, name) < 1:
                raise InputError(name, getattr(self, name), "1 or more")
        if self.reference is not None and self.reference < 2:
            raise InputError("reference", self.reference, "2 or more, or None")

    def score(self, Z: Any, y: Any) -> float:
        """The estimate: the mean of ``per_sample``. Arguments as there."""
        return float(np.asarray(self.per_sample(Z, y), dtype=np.float64).mean())

    def per_sample(self, Z: Any, y: Any) -> np.ndarray:
        """Each sample's share ``b_i`` of the estimate, float ``[N]``.

        Parameters
        ----------
        Z : embeddings ``[N, D]``, array or tensor; computed in float64 where they are, else in float32.
        y : class codes ``[N]``, 0 to C-1, each at least twice.

        Raises
        ------
        InputError : NaN or infinite values, fewer than 3 rows, one class, a class with one sample, other codes.

        Warns where the kernel is so narrow that rows rest on their nearest neighbours only.
        """
        z, labels = self._inputs(Z, y)
        return self._passed(z / self._scale(z)[0], labels, want_gradient=False)[0].cpu().numpy()

    def gradient(self, Z: Any, y: Any) -> np.ndarray:
        """Gradient of ``score`` with respect to ``Z``, float ``[N, D]``; the normalisation is part of it.

        The arg-max class of each sample is taken as locally constant. ``Z`` and ``y`` as in ``per_sample``.
        """
        return self.score_and_gradient(Z, y)[1]

    def score_and_gradient(self, Z: Any, y: Any) -> tuple[float, np.ndarray]:
        """``score`` and ``gradient`` in one pass."""
        if self.kernel == "knn":
            raise InputError("kernel", "'knn'", "'rbf' or 'logistic', which have a gradient")
        z, labels = self._inputs(Z, y)
        scale, where = self._scale(z)
        errors, scaled = self._passed(z / scale, labels, want_gradient=True)
        found = scaled / (len(z) * scale)
        if where is not None:  # the scale itself moves with the entry that sets it
            found[where] -= torch.sign(z[where]) * (scaled * z).sum() / (len(z) * scale**2)
        return float(errors.double().mean()), found.cpu().numpy()

    def starved_share(self, Z: Any, y: Any) -> float:
        """Share of samples whose RBF similarities sum to less than 1e-6: the kernel is too narrow for them."""
        z, _ = self._inputs(Z, y)
        z = z / self._scale(z)[0]
        if self.kernel != "rbf":
            return 0.0
        return self._starved(z, self._bandwidth(z))

    def _inputs(self, Z: Any, y: Any) -> tuple[torch.Tensor, torch.Tensor]:
        given = Z.detach() if isinstance(Z, torch.Tensor) else _tensor(Z)
        z = given.to(resolve_device(self.device), torch.float64 if given.dtype == torch.float64 else torch.float32)
        labels = checked_labels(y, len(z) if z.ndim else 0)
        if z.ndim != 2 or z.shape[1] < 1:
            raise InputError("Z", f"shape {tuple(z.shape)}", "embeddings [N, D]")
        if not bool(torch.isfinite(z).all()):
            raise InputError("Z", "NaN or infinite values", "finite embeddings")
        if not bool(torch.isfinite(z.square().sum(1)).all()):
            raise InputError("Z", f"values up to {float(z.abs().max()):.3g}", "values whose squares have a finite sum")
        return z, torch.from_numpy(labels).to(z.device)

    def _scale(self, z: torch.Tensor) -> tuple[torch.Tensor, tuple[int, int] | None]:
        """What embeddings are divided by, and the entry that sets it."""
        if self.normalise == "none":
            return torch.ones((), dtype=z.dtype, device=z.device), None
        size = z.abs().flatten()
        if self.normalise == "maxabs":
            place = int(size.argmax())
        else:
            rank = min(len(size), max(1, math.ceil(QUANTILE * len(size))))
            place = int(size.kthvalue(rank).indices)
        return size[place] + SCALE_FLOOR, (place // z.shape[1], place % z.shape[1])

    def _bandwidth(self, z: torch.Tensor) -> float:
        if self.sigma != "median":
            return float(self.sigma)
        rows = torch.from_numpy(np.random.default_rng(self.random_state).permutation(len(z))[:MEDIAN_ROWS]).to(z.device)
        distances = _squared_distances(z[rows], z[rows]).sqrt()
        upper = distances[torch.triu(torch.ones_like(distances, dtype=torch.bool), 1)]
        found = float(upper.median())
        if found == 0:
            raise InputError("sigma", "'median' of distances that are mostly 0", "a number")
        return found

    def _columns(self, labels: torch.Tensor) -> torch.Tensor:
        """The rows that serve as columns of the kernel matrix: all, or a stratified subset."""
        every = torch.arange(len(labels), device=labels.device)
        if self.reference is None or self.reference >= len(labels):
            return every
        codes = labels.cpu().numpy()
        counts = np.bincount(codes)
        if self.reference < 2 * len(counts):
            raise InputError("reference", self.reference, f"at least {2 * len(counts)}, two rows of each class")
        rng = np.random.default_rng(self.random_state)
        chosen = []
        for code, count in enumerate(counts):  # the share of the class, and two rows of it at least
            size = min(count, max(2, round(self.reference * count / len(codes))))
            chosen.append(rng.choice(np.flatnonzero(codes == code), size, replace=False))
        return torch.from_numpy(np.sort(np.concatenate(chosen))).to(labels.device)

    def _passed(
        self, z: torch.Tensor, labels: torch.Tensor, *, want_gradient: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """``b [N]``, and the gradient of its sum with respect to scaled embeddings ``[N, D]`` (zeros unless wanted)."""
        columns = self._columns(labels)
        width = self._bandwidth(z) if self.kernel == "rbf" else 1.0
        if self.kernel == "rbf" and (share := self._starved(z, width)) > 0.01:
            warnings.warn(
                f"{share:.0%} of the samples are further than the kernel reaches (sigma {width:g}): their estimate "
                "rests on their nearest neighbours; a larger sigma is needed",
                stacklevel=4,
            )
        right, codes = z[columns], torch.nn.functional.one_hot(labels[columns]).to(z.dtype)
        errors, gradient = torch.empty(len(z), dtype=z.dtype, device=z.device), torch.zeros_like(z)
        column_sums, column_rows = torch.zeros(len(right), dtype=z.dtype, device=z.device), torch.zeros_like(right)
        for start in range(0, len(z), self.chunk):
            rows = torch.arange(start, min(start + self.chunk, len(z)), device=z.device)
            similarity, slope = self._similarity(z[rows], right, rows[:, None] == columns[None, :], width)
            masses = similarity @ codes
            total = masses.sum(1, keepdim=True)
            best = masses.argmax(1)
            mass = masses.gather(1, best[:, None])
            errors[rows] = 1 - (mass / total).squeeze(1)
            if not want_gradient:
                continue
            own = (labels[columns][None, :] == best[:, None]).to(z.dtype)
            weights = similarity * (own * total - mass) / total**2
            if self.kernel == "logistic":
                weights = weights * slope
                gradient[rows] -= weights @ right
                column_rows -= weights.T @ z[rows]
                continue
            gradient[rows] += (weights.sum(1, keepdim=True) * z[rows] - weights @ right) / width**2
            column_sums += weights.sum(0)
            column_rows -= weights.T @ z[rows] / width**2
        if want_gradient:
            gradient.index_add_(0, columns, column_sums[:, None] * right / width**2 + column_rows)
        return errors, gradient

    def _similarity(
        self, left: torch.Tensor, right: torch.Tensor, itself: torch.Tensor, width: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Similarities relative to the row's largest, 0 with itself; and the slope of a logistic one's logarithm."""
        if self.kernel == "logistic":
            products = left @ right.T
            logs, slope = torch.nn.functional.logsigmoid(products), torch.sigmoid(-products)
        else:
            logs = _squared_distances(left, right) / (-2 * width**2)
            slope = logs
        logs = logs.masked_fill(itself, -math.inf)
        if self.kernel == "knn":
            k = min(self.neighbours, right.shape[0] - 1)
            nearest = logs.topk(k, dim=1).indices
            return torch.zeros_like(logs).scatter_(1, nearest, 1.0), slope
        return torch.exp(logs - logs.max(1, keepdim=True).values), slope

    def _starved(self, z: torch.Tensor, width: float) -> float:
        """Estimated on at most ``MEDIAN_ROWS`` rows against all."""
        rows = torch.from_numpy(np.random.default_rng(self.random_state).permutation(len(z))[:MEDIAN_ROWS]).to(z.device)
        starved = 0
        for start in range(0, len(rows), self.chunk):
            part = rows[start : start + self.chunk]
            logs = _squared_distances(z[part], z) / (-2 * width**2)
            logs[torch.arange(len(part), device=z.device), part] = -math.inf
            starved += int((torch.logsumexp(logs, 1) < math.log(STARVED)).sum())
        return starved / len(rows)


def _tensor(Z: Any) -> torch.Tensor:
    values = np.asarray(Z)
    if values.dtype.kind not in "fiub":
        raise InputError("Z", f"values of type {values.dtype}", "numbers [N, D]")
    return torch.as_tensor(values)


def checked_labels(y: Any, count: int) -> np.ndarray:
    """Class codes int64 ``[count]``.

    Raises InputError unless they are 0 to C-1 with C of 2 or more, each of at least two of 3 or more samples.
    """
    codes = (y.detach().cpu().numpy() if isinstance(y, torch.Tensor) else np.asarray(y)).squeeze()
    if codes.shape != (count,):
        raise InputError("y", f"shape {codes.shape}", f"one class code for each of {count} samples")
    if count < 3:
        raise InputError("y", f"{count} samples", "3 or more")
    if not np.issubdtype(codes.dtype, np.integer):
        if not np.issubdtype(codes.dtype, np.floating) or not (codes == np.floor(codes)).all():
            raise InputError("y", f"values of type {codes.dtype}", "class codes 0, 1, ...")
        codes = codes.astype(np.int64)
    present, counts = np.unique(codes, return_counts=True)
    if present[0] != 0 or present[-1] != len(present) - 1:
        raise InputError("y", f"class codes {', '.join(map(str, present[:5]))}", f"0 to {len(present) - 1}")
    if len(present) < 2:
        raise InputError("y", "one class", "two or more")
    if counts.min() < 2:
        raise InputError("y", f"one sample of class {present[counts.argmin()]}", "two or more of each class")
    return codes.astype(np.int64)


def _squared_distances(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """``|a - b|^2`` of all pairs by matrix products, 0 or more."""
    # around the common mean, where the expansion loses least
    middle = right.mean(0)
    a, b = left - middle, right - middle
    return (a.square().sum(1, keepdim=True) + b.square().sum(1) - 2 * a @ b.T).clamp_min(0)
