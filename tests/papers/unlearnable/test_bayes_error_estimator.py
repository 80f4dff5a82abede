"""The estimator: values that are known, brute force, autograd, and the limits of the kernel."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from paperworks.errors import InputError
from paperworks.papers.unlearnable import (
    BayesErrorEstimator,
    bayes_error,
    classifier_error,
    mixture,
    pushed,
)


def formula(z: torch.Tensor, y: torch.Tensor, kernel: str, sigma: float, normalise: str) -> torch.Tensor:
    """The paper's formula with the whole kernel matrix, for autograd; the sum is not floored."""
    if normalise == "maxabs":
        z = z / (z.abs().max() + 1e-8)
    products = z @ z.T
    if kernel == "rbf":
        squares = z.square().sum(1)[:, None] + z.square().sum(1)[None, :] - 2 * products
        s = torch.exp(-squares / (2 * sigma**2))
    else:
        s = torch.sigmoid(products)
    s = s * (1 - torch.eye(len(z), dtype=z.dtype))
    posterior = torch.stack([s[:, y == c].sum(1) for c in range(int(y.max()) + 1)], 1) / s.sum(1, keepdim=True)
    return 1 - posterior.max(1).values


def data(n: int = 40, d: int = 3, classes: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = np.arange(n) % classes
    return rng.normal(size=(n, d)) + 0.8 * y[:, None], y


@pytest.mark.parametrize("kernel", ["rbf", "logistic"])
@pytest.mark.parametrize("normalise", ["none", "maxabs"])
@pytest.mark.parametrize("chunk", [7, 1024])
def test_values_and_gradient_are_those_of_autograd(kernel: str, normalise: str, chunk: int) -> None:
    z, y = data()
    estimator = BayesErrorEstimator(kernel, 0.7, chunk=chunk, normalise=normalise)  # type: ignore[arg-type]
    leaf = torch.from_numpy(z).requires_grad_(True)
    expected = formula(leaf, torch.from_numpy(y), kernel, 0.7, normalise)
    np.testing.assert_allclose(estimator.per_sample(z, y), expected.detach().numpy(), atol=1e-12)
    expected.mean().backward()
    assert leaf.grad is not None
    np.testing.assert_allclose(estimator.gradient(z, y), leaf.grad.numpy(), atol=1e-12)


@pytest.mark.parametrize("normalise", ["none", "maxabs", "quantile"])
def test_the_gradient_is_that_of_central_differences(normalise: str) -> None:
    z, y = data(20, 2)
    estimator = BayesErrorEstimator(sigma=0.8, normalise=normalise)  # type: ignore[arg-type]
    found = estimator.gradient(z, y)
    for row, column in [(0, 0), (7, 1), np.unravel_index(np.abs(z).argmax(), z.shape)]:
        step = np.zeros_like(z)
        step[row, column] = 1e-6
        slope = (estimator.score(z + step, y) - estimator.score(z - step, y)) / 2e-6
        assert found[row, column] == pytest.approx(slope, abs=1e-7)


def test_a_reference_subset_has_its_own_gradient() -> None:
    z, y = data(30, 2)
    estimator = BayesErrorEstimator(sigma=0.8, normalise="none", reference=12)
    found = estimator.gradient(z, y)
    for row in (0, 3, 11, 29):
        step = np.zeros_like(z)
        step[row, 0] = 1e-6
        slope = (estimator.score(z + step, y) - estimator.score(z - step, y)) / 2e-6
        assert found[row, 0] == pytest.approx(slope, abs=1e-7)
    assert estimator.score(z, y) == pytest.approx(
        BayesErrorEstimator(sigma=0.8, normalise="none").score(z, y), abs=0.15
    )


def test_a_reference_subset_keeps_two_rows_of_each_class() -> None:
    z = np.r_[np.zeros((990, 1)), np.ones((10, 1))] + np.random.default_rng(0).normal(0, 0.01, (1000, 1))
    y = np.r_[np.zeros(990, int), np.ones(10, int)]
    found = BayesErrorEstimator(sigma=0.1, normalise="none", reference=10).per_sample(z, y)
    assert found[990:].max() < 1e-6  # the rare class has neighbours of its own
    BayesErrorEstimator(reference=999).score(z, y)  # one less than the rows


def test_it_is_an_estimator_of_scikit_learn() -> None:
    from sklearn.base import clone

    made = clone(BayesErrorEstimator(sigma=np.float32(0.5), reference=20))  # type: ignore[arg-type]
    assert (made.get_params()["reference"], made.sigma) == (20, np.float32(0.5))


def test_classes_apart_and_features_that_say_nothing() -> None:
    y = np.array([0] * 5 + [1] * 3 + [2] * 4)
    estimator = BayesErrorEstimator(normalise="none")
    assert estimator.score(10.0 * y[:, None], y) < 1e-6
    errors = estimator.per_sample(np.ones((12, 2)), y)
    # without itself a sample of the largest class sees 4 of its own among 11, the others see 5
    np.testing.assert_allclose(errors, np.where(y == 0, 1 - 4 / 11, 1 - 5 / 11), atol=1e-12)


def test_two_gaussians_have_the_error_of_theory() -> None:
    rng = np.random.default_rng(0)
    y = np.arange(4000) % 2
    z = (rng.normal(size=4000) + 2 * y)[:, None]
    true = norm.cdf(-1)
    for sigma in (0.1, 0.2):
        assert BayesErrorEstimator(sigma=sigma, normalise="none").score(z, y) == pytest.approx(true, abs=0.03)
    assert BayesErrorEstimator("knn", normalise="none", neighbours=100).score(z, y) == pytest.approx(true, abs=0.03)


def test_order_rotation_and_translation_change_nothing() -> None:
    z, y = data(50, 3)
    rng = np.random.default_rng(1)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    order = rng.permutation(50)
    estimator = BayesErrorEstimator(sigma=0.5, normalise="none")
    expected = estimator.score(z, y)
    for changed, labels in ((z[order], y[order]), (z @ turn, y), (z + 7.0, y)):
        assert estimator.score(changed, labels) == pytest.approx(expected, abs=1e-10)


def test_nearest_neighbours_by_hand() -> None:
    z = np.array([[0.0], [1.0], [2.1], [10.0], [11.0], [12.1]])
    y = np.array([0, 0, 1, 1, 1, 0])
    # two nearest others: of 0 -> {1, 2}: a half; of 1 -> {0, 2}: a half; of 2 -> {0, 1}: 0; of 3 -> {4, 5}: a half;
    # of 4 -> {3, 5}: a half; of 5 -> {3, 4}: 0
    found = BayesErrorEstimator("knn", normalise="none", neighbours=2).per_sample(z, y)
    np.testing.assert_allclose(found, [0.5, 0.5, 0, 0.5, 0.5, 0])


def test_a_narrow_kernel_becomes_the_nearest_neighbour_and_warns() -> None:
    z, y = data(40, 3)
    narrow = BayesErrorEstimator(sigma=1e-4, normalise="none")
    with pytest.warns(UserWarning, match="larger sigma"):
        found = narrow.score(z, y)
    assert found == pytest.approx(0, abs=1e-9)  # one neighbour decides: a posterior of 1
    assert narrow.starved_share(z, y) == 1
    wide = BayesErrorEstimator(sigma=1.0, normalise="none")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        wide.score(z, y)
    assert wide.starved_share(z, y) == 0


def test_one_extreme_value_does_not_move_the_quantile_scale() -> None:
    z, y = data(2000, 3)
    spoilt = z.copy()
    spoilt[0, 0] = 1e4
    by_quantile, by_largest = (BayesErrorEstimator(normalise=n) for n in ("quantile", "maxabs"))  # type: ignore[arg-type]
    assert by_quantile.score(spoilt, y) == pytest.approx(by_quantile.score(z, y), abs=0.01)
    assert by_largest.score(spoilt, y) > 0.6  # everything but one value is squeezed together


def test_the_median_bandwidth() -> None:
    z = np.array([[0.0], [1.0], [3.0], [4.0]])  # distances 1, 3, 4, 2, 3, 1
    y = np.array([0, 0, 1, 1])
    by_median = BayesErrorEstimator(sigma="median", normalise="none").score(z, y)
    assert by_median == pytest.approx(BayesErrorEstimator(sigma=2.0, normalise="none").score(z, y), abs=1e-12)


def test_arrays_and_tensors_of_both_precisions() -> None:
    z, y = data()
    exact = BayesErrorEstimator().score(z, y)
    for same in (z.astype(np.float32), torch.from_numpy(z).float(), torch.from_numpy(z), z.tolist()):
        assert BayesErrorEstimator().score(same, torch.from_numpy(y)) == pytest.approx(exact, abs=1e-5)


@pytest.mark.parametrize(
    ("z", "y", "field"),
    [
        (np.ones((4, 2)), [0, 0, 0, 0], "y"),
        (np.ones((4, 2)), [0, 0, 0, 1], "y"),
        (np.ones((4, 2)), [1, 1, 2, 2], "y"),
        (np.ones((4, 2)), [0, 0, 1], "y"),
        (np.ones((2, 2)), [0, 1], "y"),
        (np.ones((4, 2)), ["a", "a", "b", "b"], "y"),
        (np.full((4, 2), np.nan), [0, 0, 1, 1], "Z"),
        (np.full((4, 2), 1e200), [0, 0, 1, 1], "Z"),
        (np.array([["a"], ["b"], ["c"], ["d"]]), [0, 0, 1, 1], "Z"),
        (np.ones((4, 2, 2)), [0, 0, 1, 1], "Z"),
    ],
)
def test_bad_input(z: np.ndarray, y: list[object], field: str) -> None:
    with pytest.raises(InputError) as refused:
        BayesErrorEstimator().score(z, y)
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("kernel", "cubic"),
        ("sigma", 0),
        ("sigma", math.nan),
        ("chunk", 0),
        ("normalise", "l2"),
        ("neighbours", 0),
        ("reference", 1),
    ],
)
def test_bad_options(name: str, value: object) -> None:
    with pytest.raises(InputError) as refused:
        BayesErrorEstimator(**{name: value})  # type: ignore[arg-type]
    assert refused.value.field == name


def test_neighbours_have_no_gradient() -> None:
    z, y = data()
    with pytest.raises(InputError, match="gradient"):
        BayesErrorEstimator("knn").gradient(z, y)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6), st.integers(2, 4), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_bounds_of_the_bayes_error(points: int, classes: int, share: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    one, two = (rng.dirichlet(np.full(points * classes, 0.3)).reshape(points, classes) for _ in range(2))
    mixed = mixture(share, one, two)
    assert bayes_error(mixed) >= share * bayes_error(one) + (1 - share) * bayes_error(two) - 1e-12
    decisions = rng.integers(classes, size=points)
    assert classifier_error(one, decisions) >= bayes_error(one) - 1e-12
    assert classifier_error(one, one.argmax(1)) == pytest.approx(bayes_error(one), abs=1e-12)
    assert bayes_error(pushed(one, rng.integers(3, size=points))) >= bayes_error(one) - 1e-12
    assert bayes_error(pushed(one, rng.permutation(points))) == pytest.approx(bayes_error(one), abs=1e-12)


def test_laws_are_checked() -> None:
    assert bayes_error([[0.5, 0.0], [0.25, 0.25]]) == 0.25
    for law in ([[0.5, 0.6]], [[1.5, -0.5]], [0.5, 0.5], [[math.nan, 1.0]]):
        with pytest.raises(InputError):
            bayes_error(law)
    with pytest.raises(InputError):
        mixture(1.5, [[1.0, 0.0]], [[1.0, 0.0]])
