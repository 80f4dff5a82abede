"""The linear map from a classifier's features into the space shared with text (step 2)."""

from __future__ import annotations

import warnings
from typing import Any, Literal

import numpy as np

from paperworks.errors import InputError
from paperworks.papers.ladder.checks import matrix, require_fit
from paperworks.parameters import check_seed

TARGET_VARIANCE = 4.5
"""Variance over all entries that both sides are scaled to before the map is fitted by gradient descent."""
LOW_FIT = 0.1
PENALTIES = (0.0, *(10.0**k for k in range(-12, 3)))
"""Ridge penalties that are tried, in units of the mean eigenvalue of the features' covariance."""


class LinearAligner:
    """``pi(z) = z W^T + b`` from features ``[n, p]`` to vectors ``[n, q]``, fitted by least squares.

    Parameters
    ----------
    solver : "ridge" (closed form; the penalty has the least generalised cross-validation error, the smallest of equal
        ones) or "sgd" (the paper's: both sides scaled to variance 4.5, SGD with a cosine schedule, the epoch with the
        least validation error is kept).
    penalty : of the ridge, in units of the mean eigenvalue of the features' covariance; None chooses.
    epochs, schedule_epochs, lr, momentum, weight_decay, batch_size : of SGD. The schedule falls to 0 at
        ``schedule_epochs``, which may lie behind the last epoch.
    random_state : seed of SGD.

    Attributes
    ----------
    weight_ : W ``[q, p]``; bias_ : b ``[q]``; both float64.
    mse_, r2_ : on the validation rows, or on the training rows where none were given.
    penalty_ : of the ridge.
    """

    weight_: np.ndarray
    bias_: np.ndarray

    def __init__(
        self,
        solver: Literal["ridge", "sgd"] = "ridge",
        *,
        penalty: float | None = None,
        epochs: int = 30,
        schedule_epochs: int = 200,
        lr: float = 0.01,
        momentum: float = 0.9,
        weight_decay: float = 5e-4,
        batch_size: int = 100,
        random_state: int = 0,
    ) -> None:
        check_seed("random_state", random_state)
        if solver not in ("ridge", "sgd"):
            raise InputError("aligner", repr(solver), "ridge or sgd")
        if penalty is not None and not 0 <= penalty < np.inf:
            raise InputError("penalty", penalty, "0 or a positive number, or None")
        for name, value in (("epochs", epochs), ("schedule_epochs", schedule_epochs), ("batch_size", batch_size)):
            if value < 1:
                raise InputError(name, value, "1 or more")
        self.solver, self.penalty = solver, penalty
        self.epochs, self.schedule_epochs, self.lr, self.momentum = epochs, schedule_epochs, lr, momentum
        self.weight_decay, self.batch_size, self.random_state = weight_decay, batch_size, random_state
        self.mse_, self.r2_, self.penalty_ = np.nan, np.nan, np.nan
        self._moments: _Moments | None = None

    def fit(self, features: Any, vlr: Any, features_val: Any = None, vlr_val: Any = None) -> LinearAligner:
        """Fit to features ``[n, p]`` and vectors ``[n, q]`` of the training rows.

        Warns where less than a tenth of the variance is explained (``r2_``). Raises InputError for arrays of different
        numbers of rows (both are named), values that are not finite, or constant features.
        """
        x = matrix("features_train", features)
        y = matrix("vlr_train", vlr, len(x), "features_train")
        held = None
        if features_val is not None and vlr_val is not None:
            v = matrix("features_val", features_val)
            held = v, matrix("vlr_val", vlr_val, len(v), "features_val")
            _same_width("features_val", v.shape[1], x.shape[1])
            _same_width("vlr_val", held[1].shape[1], y.shape[1])
        if not np.ptp(x, axis=0).any():
            raise InputError("features_train", "the same row everywhere", "features that differ between samples")
        if self.solver == "ridge":
            self._fit_ridge(x, y)
        else:
            self._fit_sgd(x, y, held or (x, y))
        self._measure(*(held or (x, y)))
        return self

    def partial_fit(self, features: Any, vlr: Any) -> LinearAligner:
        """Add a batch of rows to a ridge fit whose number of rows is unbounded; memory is ``p (p + q)`` numbers."""
        if self.solver != "ridge":
            raise InputError("aligner", self.solver, "ridge, for partial_fit")
        x = matrix("features_train", features)
        y = matrix("vlr_train", vlr, len(x), "features_train")
        if self._moments is None:
            self._moments = _Moments(x.shape[1], y.shape[1])
        self._moments.add(x, y)
        self.weight_, self.bias_, self.penalty_ = self._moments.solve(self.penalty)
        return self

    def transform(self, features: Any) -> np.ndarray:
        """``pi(z)`` of features: float64 ``[n, q]``."""
        require_fit(self, "weight_")
        x = matrix("features", features)
        _same_width("features", x.shape[1], self.weight_.shape[1])
        return x @ self.weight_.T + self.bias_

    def _fit_ridge(self, x: np.ndarray, y: np.ndarray) -> None:
        means = x.mean(axis=0), y.mean(axis=0)
        left, scale, right = np.linalg.svd(x - means[0], full_matrices=False)
        values, turned = scale**2, left.T @ (y - means[1])
        total = float(((y - means[1]) ** 2).sum())
        rest = max(total - float((turned**2).sum()), 0.0)
        chosen = _choose_penalty(values, turned, rest, total, len(x), self.penalty)
        shrunk = np.divide(scale, values + chosen, out=np.zeros_like(scale), where=_used(values))
        self.penalty_ = chosen / max(values.mean(), np.finfo(float).tiny)
        self.weight_ = (right.T @ (shrunk[:, None] * turned)).T
        self.bias_ = means[1] - self.weight_ @ means[0]

    def _fit_sgd(self, x: np.ndarray, y: np.ndarray, held: tuple[np.ndarray, np.ndarray]) -> None:
        import torch

        scales = [np.sqrt(TARGET_VARIANCE / part.var()) if part.var() else 1.0 for part in (x, y)]
        a, b = (torch.tensor(part * s, dtype=torch.float32) for part, s in zip((x, y), scales, strict=True))
        va, vb = (torch.tensor(part * s, dtype=torch.float32) for part, s in zip(held, scales, strict=True))
        draw = torch.Generator().manual_seed(self.random_state)
        layer = torch.nn.Linear(a.shape[1], b.shape[1])
        bound = a.shape[1] ** -0.5
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.uniform_(-bound, bound, generator=draw)
        steps = torch.optim.SGD(layer.parameters(), lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(steps, T_max=self.schedule_epochs)
        best = np.inf
        for _ in range(self.epochs):
            order = torch.randperm(len(a), generator=draw)
            for rows in order.split(self.batch_size):
                steps.zero_grad()
                torch.nn.functional.mse_loss(layer(a[rows]), b[rows]).backward()
                steps.step()
            schedule.step()
            with torch.no_grad():
                error = float(torch.nn.functional.mse_loss(layer(va), vb))
            if error < best:
                best = error
                kept = [p.detach().double().numpy().copy() for p in layer.parameters()]
        if not np.isfinite(best):
            raise InputError("lr", self.lr, "a learning rate of the aligner at which its error stays finite")
        self.weight_, self.bias_ = undo_scaling(kept[0], kept[1], *scales)

    def _measure(self, x: np.ndarray, y: np.ndarray) -> None:
        rest = y - self.transform(x)
        self.mse_ = float((rest**2).mean())
        spread = float(((y - y.mean(axis=0)) ** 2).mean())
        self.r2_ = 1 - self.mse_ / spread if spread > 0 else np.nan
        if not self.r2_ >= LOW_FIT:
            warnings.warn(
                f"The aligner explains {max(self.r2_, 0):.1%} of the variance of the vision-language vectors. Slices "
                "named through it mean little: fit it to more rows, or use other features.",
                stacklevel=3,
            )


def undo_scaling(weight: np.ndarray, bias: np.ndarray, c1: float, c2: float) -> tuple[np.ndarray, np.ndarray]:
    """The map between unscaled sides: from ``c2 y = W c1 x + b`` follows ``y = (c1/c2) W x + b/c2``.

    The released code multiplies the bias by ``c1/c2`` as well, which moves every score of a hypothesis by a constant.
    """
    return weight * (c1 / c2), bias / c2


def _used(values: np.ndarray) -> np.ndarray:
    """Directions in which the features vary by more than rounding."""
    return values > values.max(initial=0.0) * 1e-28


def _choose_penalty(
    values: np.ndarray, turned: np.ndarray, rest: float, total: float, rows: int, given: float | None
) -> float:
    """The penalty with the least error of generalised cross-validation, from eigenvalues and rotated targets."""
    mean = float(values.mean())
    if given is not None:
        return given * mean
    power, used = (turned**2).sum(axis=1), _used(values)
    errors = []
    for penalty in PENALTIES:
        kept = np.where(used, values / np.where(used, values + penalty * mean, 1.0), 0.0)
        free = rows - 1 - kept.sum()
        errors.append(np.inf if free < 1 else (rest + float((power * (1 - kept) ** 2).sum())) / free**2)
    least = min(errors)
    if not np.isfinite(least):  # as many free directions as rows for every penalty
        return PENALTIES[-1] * mean
    limit = least * (1 + 1e-9) + 1e-24 * total / rows**2
    return next(p for p, error in zip(PENALTIES, errors, strict=True) if error <= limit) * mean


class _Moments:
    """Sums over rows from which the ridge is solved: the count, the sums, X'X, X'Y and Y'Y's trace, about a shift."""

    def __init__(self, p: int, q: int) -> None:
        self.rows = 0
        self.shift: tuple[np.ndarray, np.ndarray] | None = None
        self.sums = np.zeros(p), np.zeros(q)
        self.xx, self.xy, self.yy = np.zeros((p, p)), np.zeros((p, q)), 0.0

    def add(self, x: np.ndarray, y: np.ndarray) -> None:
        _same_width("features_train", x.shape[1], len(self.sums[0]))
        _same_width("vlr_train", y.shape[1], len(self.sums[1]))
        if self.shift is None:
            self.shift = x.mean(axis=0), y.mean(axis=0)
        a, b = x - self.shift[0], y - self.shift[1]
        self.rows += len(x)
        for total, part in zip(self.sums, (a, b), strict=True):
            total += part.sum(axis=0)
        self.xx += a.T @ a
        self.xy += a.T @ b
        self.yy += float((b**2).sum())

    def solve(self, penalty: float | None) -> tuple[np.ndarray, np.ndarray, float]:
        assert self.shift is not None
        means = [s / self.rows for s in self.sums]
        xx = self.xx - self.rows * np.outer(means[0], means[0])
        xy = self.xy - self.rows * np.outer(means[0], means[1])
        total = self.yy - self.rows * float((means[1] ** 2).sum())
        values, vectors = np.linalg.eigh(xx)
        # squares lose half of the digits: directions below that are rounding
        values = np.where(values > values.max(initial=0.0) * 1e-13, values, 0.0)
        root = np.sqrt(values)
        turned = np.divide(1.0, root, out=np.zeros_like(root), where=root > 0)[:, None] * (vectors.T @ xy)
        rest = max(total - float((turned**2).sum()), 0.0)
        chosen = _choose_penalty(values, turned, rest, max(total, 0.0), self.rows, penalty)
        shrunk = np.divide(root, values + chosen, out=np.zeros_like(root), where=root > 0)
        weight = (vectors @ (shrunk[:, None] * turned)).T
        bias = means[1] + self.shift[1] - weight @ (means[0] + self.shift[0])
        return weight, bias, chosen / max(float(values.mean()), np.finfo(float).tiny)


def _same_width(field: str, found: int, wanted: int) -> None:
    if found != wanted:
        raise InputError(field, f"{found} columns", f"{wanted}, as the aligner was fitted to")
