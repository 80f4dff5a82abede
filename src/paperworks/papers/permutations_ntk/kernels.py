"""The two kernels of a two-layer ReLU network without biases, and kernel regression with their trained-network moments.

For inputs u, v of d numbers, with angle theta between them (all that follows from Cho & Saul's arc-cosine kernels):

    nngp(u, v) = sigma_w^4 |u||v| / (2 pi d) * ( sin theta +     (pi - theta) cos theta )    the untrained output
    ntk(u, v)  = sigma_w^4 |u||v| / (2 pi d) * ( sin theta + 2 * (pi - theta) cos theta )    the gradients' products

``trained_moments`` is dense linear algebra (the general form that ``theory`` has in closed form for permutations), and
``NTKRegressor`` is that as a scikit-learn regressor.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import linalg
from scipy.sparse.linalg import LinearOperator, cg
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from paperworks.errors import InputError
from paperworks.papers.permutations_ntk.theory import Kernel, Training

Array = NDArray[np.float64]

DENSE_ROWS = 20_000
"""Up to so many training rows the kernel matrix is held and factorised; above, conjugate gradients are used."""

BLOCK = 2**24
"""Kernel entries computed at a time by conjugate gradients (128 MiB)."""


def relu_expectations(first: ArrayLike, second: ArrayLike | None = None) -> tuple[Array, Array, Array]:
    """For rows u, v: |u||v| E[relu(g.u) relu(g.v)] / (|u||v|), E[step step] and cosine * norms, as used by the kernels.

    ``g`` is standard normal. Returns (products, steps, inner), each (rows of first, rows of second): products =
    E[relu(g.u) relu(g.v)], steps = E[1(g.u > 0) 1(g.v > 0)], inner = u.v.
    """
    u = np.asarray(first, dtype=np.float64)
    v = u if second is None else np.asarray(second, dtype=np.float64)
    norms = np.linalg.norm(u, axis=1)[:, None] * np.linalg.norm(v, axis=1)
    inner = u @ v.T
    with np.errstate(invalid="ignore", divide="ignore"):
        cosine = np.where(norms > 0, inner / norms, 0.0)
    # arccos turns a rounding error of 1e-16 below 1 into an angle of 1e-8: equal directions are made exactly equal.
    cosine[cosine > 1 - 4e-15] = 1.0
    np.maximum(cosine, -1.0, out=cosine)
    steps = (np.pi - np.arccos(cosine)) / (2 * np.pi)
    products = norms * (np.sqrt((1 - cosine) * (1 + cosine)) / (2 * np.pi) + steps * cosine)
    return products, steps, norms * cosine


def nngp_kernel(first: ArrayLike, second: ArrayLike | None = None, sigma_w: float = 1.0) -> Array:
    """Covariance of the untrained network's output, (rows of first, rows of second), float64."""
    products, _, _ = relu_expectations(first, second)
    return products * (sigma_w**4 / np.asarray(first).shape[1])


def ntk_kernel(first: ArrayLike, second: ArrayLike | None = None, sigma_w: float = 1.0) -> Array:
    """The neural tangent kernel, (rows of first, rows of second), float64."""
    products, steps, inner = relu_expectations(first, second)
    return (products + inner * steps) * (sigma_w**4 / np.asarray(first).shape[1])


def kernel_matrix(kernel: Kernel, first: ArrayLike, second: ArrayLike | None = None, sigma_w: float = 1.0) -> Array:
    """``ntk_kernel`` or ``nngp_kernel`` by name."""
    match kernel:
        case "ntk":
            return ntk_kernel(first, second, sigma_w)
        case "nngp":
            return nngp_kernel(first, second, sigma_w)
    raise InputError("kernel", repr(kernel), "'ntk' or 'nngp'")


def trained_moments(
    train: ArrayLike,
    targets: ArrayLike,
    test: ArrayLike,
    *,
    kernel: Kernel = "ntk",
    sigma_w: float = 1.0,
    training: Training | None = None,
    ridge: float = 0.0,
) -> tuple[Array, Array]:
    """Mean and covariance of infinitely wide networks trained on ``train`` with squared error.

    Parameters
    ----------
    train, test : (rows, d) inputs, used as they are (normalise them first where the method wants that).
    targets : (rows, outputs).
    training : a finite training time; None is convergence.
    ridge : added to the kernel's diagonal on the training rows.

    Returns the mean (test rows, outputs) and the covariance (test rows, test rows), which every output shares; outputs
    are independent of each other (Lee et al. 2019, equations 14 and 15). Raises InputError when the kernel is singular.
    """
    x, t = np.asarray(train, dtype=np.float64), np.asarray(test, dtype=np.float64)
    weights = _trained_weights(x, t, kernel, sigma_w, training, ridge)
    return weights @ np.asarray(targets, dtype=np.float64), _covariance(weights, x, t, sigma_w)


def _trained_weights(
    x: Array, t: Array, kernel: Kernel, sigma_w: float, training: Training | None, ridge: float
) -> Array:
    """What each test output is as a linear map of the training targets, (test rows, training rows)."""
    system = kernel_matrix(kernel, x, sigma_w=sigma_w)
    system[np.diag_indices_from(system)] += ridge
    cross = kernel_matrix(kernel, t, x, sigma_w)
    if training is None:
        return linalg.cho_solve(_cholesky(system), cross.T).T
    values, vectors = linalg.eigh(system)
    _require_regular(values)
    return ((cross @ vectors) * (training.learned(values) / values)) @ vectors.T


def _covariance(weights: Array, x: Array, t: Array, sigma_w: float) -> Array:
    """Covariance of the trained outputs: that of the untrained network's output minus what training takes off."""
    cross = weights @ nngp_kernel(x, t, sigma_w)
    out = nngp_kernel(t, sigma_w=sigma_w) + weights @ nngp_kernel(x, sigma_w=sigma_w) @ weights.T - cross - cross.T
    return (out + out.T) / 2


def _cholesky(system: Array) -> tuple[Array, bool]:
    try:
        factor = linalg.cho_factor(system, lower=True)
    except linalg.LinAlgError:
        _require_regular(np.zeros(1))
        raise
    _require_regular(np.diag(factor[0]) ** 2)
    return factor


def _require_regular(values: Array) -> None:
    if values.min() <= 1e-13 * max(values.max(), 1e-300):
        raise InputError("X", "training rows with a singular kernel", "rows of distinct directions, or ridge above 0")


def unit_rows(rows: ArrayLike, field: str = "X") -> Array:
    """Rows divided by their length. Raises InputError for a row of zeros, naming the first."""
    x = np.asarray(rows, dtype=np.float64)
    norms = np.linalg.norm(x, axis=1)
    if x.shape[0] and norms.min() == 0:
        raise InputError(f"{field}, row {int(norms.argmin())}", "only zeros, which have no direction", "a nonzero row")
    return x / norms[:, None]


class NTKRegressor(MultiOutputMixin, RegressorMixin, BaseEstimator):
    """Regression by the mean of infinitely wide two-layer ReLU networks, with their spread over initialisations.

    Parameters
    ----------
    kernel : ``ntk`` (both layers trained) or ``nngp`` (the last layer only: Gaussian-process regression).
    sigma_w : standard deviation of the weights.
    normalize : divide inputs by their length, as the paper does.
    ridge : added to the kernel's diagonal; 0 interpolates the training rows.
    training : ``GradientFlow`` or ``GradientDescent`` for a finite training time; None is convergence.
    solver : ``cholesky`` (O(rows^3), float64), ``cg`` (conjugate gradients; no kernel matrix is held, no spread), or
        ``auto`` (``cholesky`` up to 20,000 rows).

    Raises InputError for rows of zeros (with ``normalize``), a singular kernel, or a spread asked of ``cg``.
    """

    def __init__(
        self,
        kernel: Kernel = "ntk",
        *,
        sigma_w: float = 1.0,
        normalize: bool = True,
        ridge: float = 0.0,
        training: Training | None = None,
        solver: str = "auto",
    ) -> None:
        self.kernel = kernel
        self.sigma_w = sigma_w
        self.normalize = normalize
        self.ridge = ridge
        self.training = training
        self.solver = solver

    def fit(self, X: Any, y: Any) -> NTKRegressor:
        """Fit on X (rows, d) and y (rows,) or (rows, outputs)."""
        X, y = validate_data(self, X, y, multi_output=True, dtype=np.float64, y_numeric=True)
        if self.ridge < 0:
            raise InputError("ridge", self.ridge, "0 or more")
        if self.solver not in ("auto", "cholesky", "cg"):
            raise InputError("solver", repr(self.solver), "'auto', 'cholesky' or 'cg'")
        self.X_fit_ = unit_rows(X) if self.normalize else X
        self.y_fit_ = np.asarray(y, dtype=np.float64)
        dense = len(X) <= DENSE_ROWS if self.solver == "auto" else self.solver == "cholesky"
        if not dense and self.training is not None:
            raise InputError("training", self.training, "None with the solver 'cg'")
        self.solver_ = "cholesky" if dense else "cg"
        if dense:
            self._factorise()
        else:
            self.dual_coef_ = self._conjugate_gradients(self.y_fit_)
        return self

    def _factorise(self) -> None:
        system = kernel_matrix(self.kernel, self.X_fit_, sigma_w=self.sigma_w)
        system[np.diag_indices_from(system)] += self.ridge
        if self.training is None:
            self._factor = _cholesky(system)
            self.dual_coef_ = linalg.cho_solve(self._factor, self.y_fit_)
        else:
            values, vectors = linalg.eigh(system)
            _require_regular(values)
            self._filter = (vectors * (self.training.learned(values) / values)) @ vectors.T
            self.dual_coef_ = self._filter @ self.y_fit_

    def _conjugate_gradients(self, targets: Array) -> Array:
        x = self.X_fit_
        rows = max(1, BLOCK // len(x))

        def times(vector: Array) -> Array:
            out = self.ridge * vector
            for start in range(0, len(x), rows):
                block = kernel_matrix(self.kernel, x[start : start + rows], x, self.sigma_w)
                out[start : start + rows] += block @ vector
            return out

        operator = LinearOperator((len(x), len(x)), matvec=times, dtype=np.float64)
        columns = targets.reshape(len(x), -1)
        out = np.empty_like(columns)
        for j in range(columns.shape[1]):
            out[:, j], left = cg(operator, columns[:, j], rtol=1e-10, maxiter=10 * len(x))
            if left:
                raise InputError("X", "training rows with a nearly singular kernel", "ridge above 0")
        return out.reshape(targets.shape)

    def predict(self, X: Any, return_std: bool = False, return_cov: bool = False) -> Any:
        """Mean (rows, outputs); with ``return_std`` also the standard deviation (rows,) of every output, or with
        ``return_cov`` the covariance (rows, rows) that every output shares."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=np.float64)
        t = unit_rows(X) if self.normalize else X
        cross = kernel_matrix(self.kernel, t, self.X_fit_, self.sigma_w)
        mean = cross @ self.dual_coef_
        if not (return_std or return_cov):
            return mean
        if self.solver_ == "cg":
            raise InputError("solver", "'cg'", "'cholesky', which alone gives a spread")
        weights = linalg.cho_solve(self._factor, cross.T).T if self.training is None else cross @ self._filter
        covariance = _covariance(weights, self.X_fit_, t, self.sigma_w)
        return (mean, covariance) if return_cov else (mean, np.sqrt(np.maximum(np.diag(covariance), 0.0)))
