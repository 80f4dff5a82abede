"""Required sizes against brute force, simulation, known figures and their limits."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from paperworks.errors import InputError
from paperworks.papers.permutations_ntk import (
    GradientFlow,
    LimitEnsemble,
    all_inputs,
    apply_permutation,
    failure_bound,
    limit_constant,
    permutation_moments,
    required_models,
    round_outputs,
    success_probability,
)


def test_known_sizes() -> None:
    ks = (5, 10, 15, 20, 25, 30)
    assert [required_models(k, 0.1, 2, method="tails") for k in ks] == [205, 333, 454, 579, 708, 840]
    assert [required_models(k, 0.1, 2, method="tails", kernel="nngp") for k in ks] == [28, 58, 89, 121, 155, 190]
    assert [required_models(k, 0.1, 2) for k in ks] == [484, 619, 786, 964, 1150, 1341]


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 40), st.data())
def test_smallest_size(k: int, data: st.DataObject) -> None:
    n = data.draw(st.integers(1, k))
    delta = data.draw(st.floats(0.001, 0.5))
    size = required_models(k, delta, n, method="tails")
    assert success_probability(k, n, size) >= 1 - delta
    assert size == 1 or success_probability(k, n, size - 1) < 1 - delta
    assert required_models(k, delta, n) >= size  # the closed bound is never below the exact answer


@settings(max_examples=40, deadline=None)
@given(st.integers(3, 30), st.floats(0.001, 0.5), st.sampled_from(["zero", "midpoint"]))
def test_bounds_over_all_inputs(k: int, delta: float, threshold: str) -> None:
    tails = required_models(k, delta, method="tails", threshold=threshold)
    closed = required_models(k, delta, threshold=threshold)
    assert tails <= closed
    assert failure_bound(k, "all", tails, threshold=threshold) <= delta < 1
    assert tails == 1 or failure_bound(k, "all", tails - 1, threshold=threshold) > delta
    assert required_models(k, delta, 2, method="tails") <= required_models(k, delta, method="tails")


def test_failure_bound_sums_every_bit_of_every_input() -> None:
    k, size = 6, 300
    total = 0.0
    for row in itertools.product((0, 1), repeat=k):
        n = sum(row)
        if n < 2:
            continue
        m = permutation_moments(k, n)
        for bit in row:
            margin = float(m.one_mean) if bit else -float(m.zero_mean)
            total += norm.sf(margin * math.sqrt(size) / float(m.std))
    assert failure_bound(k, "all", size) == pytest.approx(total, rel=1e-9)
    assert failure_bound(k, {2: 15, 3: 20, 4: 15, 5: 6, 6: 1}, size) == pytest.approx(total, rel=1e-9)
    assert failure_bound(k, {1: 6}, 1) == 0


def test_two_ones_are_the_worst() -> None:
    for k in (3, 4, 10, 50, 200):
        m = permutation_moments(k, np.arange(2, k))
        ratio = m.variance / np.minimum(m.one_mean, -m.zero_mean) ** 2
        assert ratio.argmax() == 0


def test_growth_is_linearithmic_and_quadratic() -> None:
    ks = [10 * 2**i for i in range(9)]
    single = [required_models(k, 0.1, 2) / (k * math.log(k / 0.1)) for k in ks]
    assert [round(v, 2) for v in single[:7]] == [13.44, 9.10, 7.24, 6.40, 6.00, 5.80, 5.70]
    assert (np.diff(single) < 0).all()
    assert 5.607 < limit_constant() < 5.608
    assert single[-1] > limit_constant()
    m = permutation_moments(10**8, 2)
    assert 2 * float(m.variance) / float(m.zero_mean) ** 2 / 10**8 == pytest.approx(limit_constant(), rel=1e-5)
    every = [required_models(k, 0.1) for k in ks]
    ratio = np.array(every[1:]) / np.array(every[:-1])
    assert (np.diff(ratio) > 0).all()
    assert ratio[4] == pytest.approx(3.76, abs=0.005)
    assert ratio[-1] < 4


def test_success_probability_is_that_of_simulation() -> None:
    k, size, draws = 6, 150, 20_000
    rows = np.array([[1, 1, 0, 0, 0, 0], [0, 1, 1, 1, 1, 0], [1, 1, 1, 1, 1, 1]])
    for threshold in ("zero", "midpoint"):
        limit = LimitEnsemble([3, 1, 0, 2, 5, 4], rows)
        count = 8 if threshold == "midpoint" else size
        right = limit.exact(limit.draw(np.random.default_rng(0), draws, members=count), threshold).mean(axis=0)
        for share, n in zip(right, (2, 4, 6), strict=True):
            exact = success_probability(k, n, count, threshold=threshold)
            assert share == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / draws) + 1e-9)


def test_drawn_outputs_have_the_moments_and_correlations() -> None:
    rows = all_inputs(4)
    limit = LimitEnsemble([1, 3, 0, 2], rows)
    one_by_one = limit.draw(np.random.default_rng(1), 30_000)
    assert one_by_one.shape == (30_000, 15, 4)
    np.testing.assert_allclose(one_by_one.mean(axis=0), limit.mean, atol=4 * 0.16 / math.sqrt(30_000))
    from paperworks.papers.permutations_ntk import output_covariance

    for coordinate in (0, 3):
        measured = np.cov(one_by_one[:, :, coordinate].T)
        np.testing.assert_allclose(measured, output_covariance(rows), atol=0.001)
    across = np.corrcoef(one_by_one[:, 5, 0], one_by_one[:, 5, 1])[0, 1]
    assert abs(across) < 0.03
    averaged = limit.draw(np.random.default_rng(2), 30_000, members=25)
    np.testing.assert_allclose(averaged.var(axis=0) * 25, one_by_one.var(axis=0), rtol=0.06, atol=1e-12)


def test_ensembles_of_the_required_size_fail_rarely_and_small_ones_often() -> None:
    limit = LimitEnsemble(np.arange(6)[::-1], all_inputs(6))
    size = required_models(6, 0.1, method="tails")
    rate = limit.failure_rate(np.random.default_rng(0), size, 2000)
    assert 0.02 < rate <= 0.1 + 3 * math.sqrt(0.09 / 2000)
    assert limit.failure_rate(np.random.default_rng(0), size // 20, 500) > 0.5


def test_first_sizes_follow_the_running_average() -> None:
    limit = LimitEnsemble([2, 0, 1, 3], np.array([[1, 1, 0, 0], [0, 1, 1, 0], [1, 0, 0, 1]]))
    found = limit.first_sizes(np.random.default_rng(4), 1.0, 3)
    rng = np.random.default_rng(4)
    for size in found:
        total, seen = np.zeros((3, 4)), 0
        while True:
            for outputs in limit.draw(rng, 32):
                total, seen = total + outputs, seen + 1
                if limit.exact(total / seen).all():
                    break
            else:
                continue
            break
        assert seen == size
    assert limit.first_sizes(np.random.default_rng(0), 1.0, 1, cap=1).tolist() == [1]
    weighted = limit.first_sizes(np.random.default_rng(0), 1.0, 40, weights=[1, 0, 0])
    assert weighted.mean() < limit.first_sizes(np.random.default_rng(0), 1.0, 40).mean()


def test_training_rows_are_cut_at_one_half() -> None:
    rows = np.eye(3, dtype=np.uint8)
    wanted = apply_permutation([1, 2, 0], rows)
    noisy = wanted + 1e-9
    assert (round_outputs(noisy, rows) == wanted).all()
    assert (round_outputs(noisy, rows, "midpoint") == wanted).all()


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda: required_models(0), "bits"),
        (lambda: required_models(5, 0.0), "delta"),
        (lambda: required_models(5, 1.0), "delta"),
        (lambda: required_models(5, 0.1, 6), "scope"),
        (lambda: required_models(5, 0.1, {2: 0}), "scope"),
        (lambda: required_models(5, 0.1, "none"), "scope"),
        (lambda: required_models(5, 0.1, 2, method="guess"), "method"),
        (lambda: required_models(5, 0.1, threshold="half"), "threshold"),
        (lambda: required_models(5, 0.1, training=GradientFlow(1.0, 0.01)), "training"),
        (lambda: success_probability(5, 2, 0), "members"),
        (lambda: failure_bound(5, 2, 1.5), "members"),
        (lambda: LimitEnsemble([0, 1], [[0, 0]]), "X, row 0"),
        (lambda: LimitEnsemble(np.arange(14), all_inputs(14)), "rows"),
        (lambda: round_outputs([[1.0]], [[1]], "half"), "threshold"),
    ],
)
def test_bad_input_names_the_field(call: object, field: str) -> None:
    with pytest.raises(InputError) as caught:
        call()  # type: ignore[operator]
    assert caught.value.field == field


def test_edge_sizes() -> None:
    assert required_models(1) == 1
    assert required_models(1, scope=1, method="tails") == 1
    assert required_models(2, method="tails") >= 1
    assert success_probability(3, 1, 1) == 1.0


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda: LimitEnsemble([1, 0], [[1, 1], [1, 1]]), "rows"),
        (lambda: LimitEnsemble([1, 0], [[1, 1]]).failure_rate(np.random.default_rng(0), 0, 1), "members"),
        (lambda: LimitEnsemble([1, 0], [[1, 1]]).failure_rate(np.random.default_rng(0), 1, 0), "repetitions"),
        (lambda: LimitEnsemble([1, 0], [[1, 1]]).first_sizes(np.random.default_rng(0), 1.5, 1), "accuracy"),
        (lambda: LimitEnsemble([1, 0], [[1, 1]]).first_sizes(np.random.default_rng(0), 0.9, 1, weights=[0]), "weights"),
    ],
)
def test_bad_simulations_name_the_field(call: object, field: str) -> None:
    with pytest.raises(InputError) as caught:
        call()  # type: ignore[operator]
    assert caught.value.field == field
