"""The closed form against quadrature, 40-digit algebra, neural-tangents, scikit-learn and its own invariants."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Kernel, StationaryKernelMixin

from paperworks.errors import InputError
from paperworks.papers.permutations_ntk import (
    GradientDescent,
    GradientFlow,
    NTKRegressor,
    all_inputs,
    apply_permutation,
    nngp_kernel,
    ntk_kernel,
    output_covariance,
    output_moments,
    permutation_matrix,
    permutation_moments,
    precise_moments,
    round_outputs,
    trained_moments,
    training_spectrum,
)
from paperworks.papers.permutations_ntk.kernels import unit_rows
from paperworks.papers.permutations_ntk.precise import relative_error
from paperworks.papers.permutations_ntk.theory import kernel_entries, mean_squared_error

KERNELS = ("ntk", "nngp")
TRAININGS = (None, GradientFlow(0.7, 11.0), GradientDescent(0.6, 7), GradientFlow(1.0, 0.0))


@pytest.mark.parametrize("cosine", [-1.0, -0.6, 0.0, 0.3, 0.99, 1.0])
def test_kernels_are_gaussian_expectations(cosine: float) -> None:
    """E[relu relu] and E[step step] by integration over the angle of a two-dimensional Gaussian."""
    u, v = np.array([1.0, 0.0]), np.array([cosine, np.sqrt(1 - cosine**2)])
    angle = np.arccos(cosine)
    # In polar coordinates the radius gives E[r^2] = 2; both neurons are active on an arc of pi - angle.
    low, high = angle - np.pi / 2, np.pi / 2
    relu, _ = integrate.quad(lambda t: 2 * np.cos(t) * np.cos(t - angle) / (2 * np.pi), low, high)
    step = (high - low) / (2 * np.pi)
    assert nngp_kernel(u[None], v[None])[0, 0] == pytest.approx(relu / 2, abs=1e-12)
    assert ntk_kernel(u[None], v[None])[0, 0] == pytest.approx((relu + cosine * step) / 2, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 6), st.integers(2, 7), st.floats(0.3, 3), st.floats(0.1, 10), st.integers(0, 2**32 - 1))
def test_kernels_scale_with_inputs_and_weights(d: int, rows: int, sigma: float, size: float, seed: int) -> None:
    x = np.random.default_rng(seed).standard_normal((rows, d))
    for kernel in (ntk_kernel, nngp_kernel):
        base = kernel(x)
        np.testing.assert_allclose(kernel(size * x, x, sigma), size * sigma**4 * base, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(base, base.T, atol=1e-15)
        assert np.linalg.eigvalsh(base).min() > -1e-10
    assert np.diag(nngp_kernel(x)) == pytest.approx((x**2).sum(axis=1) / (2 * d))
    assert np.diag(ntk_kernel(x)) == pytest.approx((x**2).sum(axis=1) / d)


def test_figures_of_neural_tangents() -> None:
    """google/neural-tangents 0.6.5, Dense-Relu-Dense, W_std = 1, no biases, k = 5, gradient_descent_mse_ensemble."""
    rows = np.array([[1, 1, 0, 0, 0], [1, 1, 1, 1, 0]])
    kernel = ntk_kernel(unit_rows(rows), np.eye(5))
    np.testing.assert_allclose(kernel[0, [0, 4]], [0.12857393, 0.03183099], atol=5e-9)
    np.testing.assert_allclose(kernel[1, [0, 4]], [0.09423311, 0.03183099], atol=5e-9)
    np.testing.assert_allclose(nngp_kernel(np.eye(5))[0, :2], [0.1, 0.03183099], atol=5e-9)
    m = permutation_moments(5, [2, 4])
    np.testing.assert_allclose(m.one_mean, [0.56063224, 0.32397436], atol=5e-9)
    np.testing.assert_allclose(m.zero_mean, [-0.01463984, -0.04709354], atol=5e-9)
    np.testing.assert_allclose(m.variance, [0.01323468, 0.02357021], atol=5e-9)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("training", TRAININGS)
@pytest.mark.parametrize("sigma", [1.0, 1.3])
def test_closed_form_is_dense_algebra(kernel: str, training: object, sigma: float) -> None:
    for k in range(1, 33 if sigma == 1 else 9):
        rows = unit_rows(np.tril(np.ones((k, k))))
        mean, covariance = trained_moments(np.eye(k), np.eye(k), rows, kernel=kernel, sigma_w=sigma, training=training)
        m = permutation_moments(k, kernel=kernel, sigma_w=sigma, training=training)
        np.testing.assert_allclose(mean[:, 0], m.one_mean, atol=1e-12)
        np.testing.assert_allclose(mean[:-1, -1], m.zero_mean[:-1], atol=1e-12)
        np.testing.assert_allclose(np.diag(covariance), m.variance, atol=1e-12)


@pytest.mark.parametrize(("k", "n"), [(2, 2), (3, 2), (7, 3), (11, 11), (16, 2)])
def test_closed_form_in_forty_digits(k: int, n: int) -> None:
    with mpmath.workdps(40):
        b, s = 1 / (2 * mpmath.pi), 1 / mpmath.sqrt(n)
        angle = mpmath.acos(s)
        system = mpmath.matrix(k, k)
        for i in range(k):
            for j in range(k):
                system[i, j] = 1 if i == j else b
        right = mpmath.matrix([b * (mpmath.sin(angle) + 2 * (mpmath.pi - angle) * s) if i < n else b for i in range(k)])
        exact = mpmath.lu_solve(system, right)
    m = permutation_moments(k, n)
    one, zero, variance = precise_moments(k, n)
    assert abs(one - exact[0]) < 1e-35
    assert zero is None if n == k else abs(zero - exact[k - 1]) < 1e-35
    assert float(m.variance) == pytest.approx(float(variance), rel=1e-12)
    assert relative_error(m) < 1e-12
    assert float(m.one_mean) == pytest.approx(float(exact[0]), rel=1e-14)
    if n < k:
        assert float(m.zero_mean) == pytest.approx(float(exact[k - 1]), rel=1e-12)


def test_training_inputs_are_interpolated_exactly() -> None:
    for k in (1, 2, 5, 100, 10**6):
        for kernel in KERNELS:
            m = permutation_moments(k, 1, kernel=kernel)
            assert (float(m.one_mean), float(m.zero_mean), float(m.variance)) == (1.0, 0.0, 0.0)


def test_signs_by_the_inequality_of_the_readme() -> None:
    """n (v1 - b) - a >= b (pi sqrt(n) + 2 - 2 pi) > 0 for n >= 2, whatever k is."""
    n = np.concatenate([np.arange(2, 2000), np.geomspace(2000, 1e9, 1000).astype(np.int64)])
    b = 1 / (2 * np.pi)
    _, cross = kernel_entries(n, "ntk")
    slack, bound = n * (cross - b) - (1 - b), b * (np.pi * np.sqrt(n) + 2 - 2 * np.pi)
    assert (slack >= bound * (1 - 1e-9)).all()
    assert bound.min() > 0.02
    for k in (2, 3, 17, 1000):
        m = permutation_moments(k, np.arange(2, k + 1))
        assert (m.one_mean > 0).all()
        assert (m.zero_mean < 0).all()
        assert (m.variance > 0).all()


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(6)), st.permutations(range(6)))
def test_relabelling_bits_permutes_the_mean(permutation: list[int], labels: list[int]) -> None:
    """Whatever permutation is learned, dense algebra gives the closed form of (k, n)."""
    rows = all_inputs(6)
    p = permutation_matrix(permutation)
    dense, covariance = trained_moments(np.eye(6)[labels], np.eye(6)[labels] @ p.T, unit_rows(rows))
    mean, std = output_moments(permutation, rows)
    np.testing.assert_allclose(dense, mean, atol=1e-12)
    np.testing.assert_allclose(covariance, output_covariance(rows), atol=1e-12)
    np.testing.assert_allclose(np.diag(covariance), std[:, 0] ** 2, atol=1e-12)


@pytest.mark.parametrize("k", [1, 2, 7, 10])
@pytest.mark.parametrize("kernel", KERNELS)
def test_the_rounded_mean_is_exact_on_every_input(k: int, kernel: str) -> None:
    permutation = np.random.default_rng(k).permutation(k)
    rows = all_inputs(k)
    assert len(rows) == len(np.unique(rows, axis=0)) == 2**k - 1
    regressor = NTKRegressor(kernel).fit(np.eye(k), permutation_matrix(permutation).T)
    wanted = apply_permutation(permutation, rows)
    assert (round_outputs(regressor.predict(rows), rows) == wanted).all()
    if k > 2:
        fewer = NTKRegressor(kernel).fit(np.eye(k)[1:], permutation_matrix(permutation).T[1:]).predict(rows)
        assert (round_outputs(fewer, rows) != wanted).any()


def test_spectrum() -> None:
    for kernel in KERNELS:
        for k, sigma in ((2, 1.0), (9, 1.0), (9, 0.8)):
            matrix = ntk_kernel(np.eye(k), sigma_w=sigma) if kernel == "ntk" else nngp_kernel(np.eye(k), sigma_w=sigma)
            values = np.linalg.eigvalsh(matrix)
            assert training_spectrum(k, kernel=kernel, sigma_w=sigma) == pytest.approx((values[0], values[-1]))


def test_finite_training_goes_from_nothing_to_convergence() -> None:
    start, end = permutation_moments(6, training=GradientFlow(1.0, 0.0)), permutation_moments(6)
    assert np.abs(start.one_mean).max() == np.abs(start.zero_mean).max() == 0
    np.testing.assert_allclose(start.variance, 1 / 12)  # the untrained network: K(x, x) = 1 / (2 k)
    late = permutation_moments(6, training=GradientDescent(1.0, 5000))
    np.testing.assert_allclose(late.one_mean, end.one_mean, atol=1e-12)
    np.testing.assert_allclose(late.variance, end.variance, atol=1e-12)
    with pytest.raises(InputError, match=r"learning_rate.*2 / eigenvalue"):
        permutation_moments(6, training=GradientDescent(8.0, 3))


def test_official_errors_of_the_mean() -> None:
    """0.00211 (69 networks, k = 10) and 0.000468 (175, k = 30) in the official results."""
    assert mean_squared_error(10, 2, 69, kernel="nngp") == pytest.approx(0.00211, rel=0.01)
    assert mean_squared_error(30, 2, 175, kernel="nngp") == pytest.approx(0.000468, rel=0.04)
    assert mean_squared_error(10, 2, 69, kernel="ntk") > 0.0025


class ArcCosine(StationaryKernelMixin, Kernel):
    """The untrained network's covariance as a scikit-learn kernel."""

    def __init__(self) -> None:
        pass

    def __call__(self, X: np.ndarray, Y: np.ndarray | None = None, eval_gradient: bool = False) -> np.ndarray:
        return nngp_kernel(X, Y)

    def diag(self, X: np.ndarray) -> np.ndarray:
        return np.diag(nngp_kernel(X)).copy()


def test_last_layer_training_is_gaussian_process_regression() -> None:
    rng = np.random.default_rng(3)
    x, y, t = rng.standard_normal((9, 4)), rng.standard_normal(9), rng.standard_normal((6, 4))
    x, t = unit_rows(x), unit_rows(t)
    peer = GaussianProcessRegressor(ArcCosine(), alpha=1e-3, optimizer=None).fit(x, y)
    ours = NTKRegressor("nngp", ridge=1e-3).fit(x, y)
    mean, std = ours.predict(t, return_std=True)
    np.testing.assert_allclose(mean, peer.predict(t), atol=1e-9)
    assert (std >= 0).all()
    interpolating, covariance = NTKRegressor("nngp").fit(x, y).predict(t, return_cov=True)
    exact = GaussianProcessRegressor(ArcCosine(), alpha=1e-12, optimizer=None).fit(x, y)
    expected, expected_covariance = exact.predict(t, return_cov=True)
    np.testing.assert_allclose(interpolating, expected, atol=1e-6)
    np.testing.assert_allclose(covariance, expected_covariance, atol=1e-7)


def test_regressor_solvers_agree() -> None:
    rng = np.random.default_rng(0)
    x, y, t = rng.standard_normal((60, 5)), rng.standard_normal((60, 2)), rng.standard_normal((7, 5))
    dense = NTKRegressor(ridge=1e-3).fit(x, y)
    iterative = NTKRegressor(ridge=1e-3, solver="cg").fit(x, y)
    np.testing.assert_allclose(iterative.predict(t), dense.predict(t), atol=1e-6)
    late = NTKRegressor(ridge=1e-3, training=GradientFlow(1.0, 1e9)).fit(x, y)
    for left, right in zip(late.predict(t, return_std=True), dense.predict(t, return_std=True), strict=True):
        np.testing.assert_allclose(left, right, atol=1e-8)
    with pytest.raises(InputError, match="cholesky"):
        iterative.predict(t, return_std=True)


def test_regressor_spread_is_calibrated() -> None:
    """Draws of the kernel's process, trained in function space, scatter as the regressor says."""
    rng = np.random.default_rng(5)
    x, t = unit_rows(rng.standard_normal((6, 3))), unit_rows(rng.standard_normal((2, 3)))
    y = rng.standard_normal(6)
    both = np.vstack([x, t])
    prior = np.linalg.cholesky(nngp_kernel(both) + 1e-12 * np.eye(8)) @ rng.standard_normal((8, 40_000))
    weights = np.linalg.solve(ntk_kernel(x), ntk_kernel(x, t)).T
    trained = prior[6:] + weights @ (y[:, None] - prior[:6])
    mean, std = NTKRegressor().fit(x, y).predict(t, return_std=True)
    assert stats.kstest((trained[0] - mean[0]) / std[0], "norm").pvalue > 1e-3
    assert stats.kstest((trained[1] - mean[1]) / std[1], "norm").pvalue > 1e-3


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda: permutation_moments(0), "bits"),
        (lambda: permutation_moments(True), "bits"),
        (lambda: permutation_moments(4, [5]), "ones"),
        (lambda: permutation_moments(4, [0]), "ones"),
        (lambda: permutation_moments(4, [1.5]), "ones"),
        (lambda: permutation_moments(4, kernel="rbf"), "kernel"),
        (lambda: permutation_moments(4, sigma_w=0), "sigma_w"),
        (lambda: GradientFlow(0, 1), "learning_rate"),
        (lambda: GradientDescent(1, -1), "steps"),
        (lambda: mean_squared_error(4, 2, 0), "members"),
        (lambda: precise_moments(4, 5), "ones"),
        (lambda: precise_moments(4, 2, digits=3), "digits"),
        (lambda: NTKRegressor().fit(np.zeros((2, 3)), [1, 2]), "X, row 0"),
        (lambda: NTKRegressor().fit(np.array([[1.0, 2], [2, 4]]), [1, 2]), "X"),
        (lambda: NTKRegressor(solver="lu").fit(np.eye(2), [1, 2]), "solver"),
        (lambda: NTKRegressor(ridge=-1).fit(np.eye(2), [1, 2]), "ridge"),
        (lambda: NTKRegressor(solver="cg", training=GradientFlow(1, 1)).fit(np.eye(2), [1, 2]), "training"),
    ],
)
def test_bad_input_names_the_field(call: object, field: str) -> None:
    with pytest.raises(InputError) as caught:
        call()  # type: ignore[operator]
    assert caught.value.field == field
