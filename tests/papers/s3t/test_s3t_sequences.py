"""Orders of slices, closed forms and simulations: values of the paper, brute force, and identities."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paperworks.errors import InputError
from paperworks.papers.s3t import (
    bms_sequences,
    conditional_sequences,
    cyclic_sequences,
    deletion_rate,
    deletion_rate_std,
    mean_pairwise_distance,
    plan,
    random_sequences,
    retention_probability,
    sequence_score,
    simulate_deletions,
    sorted_cyclic_sequences,
)
from paperworks.papers.s3t.simulation import replay
from paperworks.papers.s3t.theory import collector_mean


@pytest.mark.parametrize(
    ("n_slices", "budget", "expected"),
    [
        (4, 4, "0123 3012 2301 1230"),
        (4, 5, "0123 0312 1230 2301 3012"),
        (4, 8, "0123 0312 3012 3201 2301 2130 1230 1023"),
        (4, 13, "0123 0132 0231 0312 1023 1230 1302 2013 2130 2301 3012 3120 3201"),
        (3, 6, "012 021 102 120 201 210"),
        (5, 10, "01234 04123 40123 43012 34012 32401 23401 21340 12340 10234"),
        (1, 1, "0"),
    ],
)
def test_rotations_are_those_of_the_authors_routine(n_slices: int, budget: int, expected: str) -> None:
    found = cyclic_sequences(n_slices, budget)
    assert {"".join(map(str, order)) for order in found} == set(expected.split())
    assert len(found) == budget


@given(st.integers(1, 5), st.data())
def test_rotations_are_different_orders_and_start_with_all_slices_equally_often(n_slices: int, data) -> None:
    budget = data.draw(st.integers(1, math.factorial(n_slices)))
    found = cyclic_sequences(n_slices, budget)
    assert len(set(found)) == budget
    assert all(sorted(order) == list(range(n_slices)) for order in found)
    firsts = np.bincount([order[0] for order in found], minlength=n_slices)
    assert firsts.max() - firsts.min() <= 1


@settings(deadline=None, max_examples=40)  # the first call imports scipy
@given(st.integers(2, 7), st.integers(0, 10**6))
def test_a_budget_of_all_slices_gives_a_latin_square(n_slices: int, seed: int) -> None:
    p = np.random.default_rng(seed).dirichlet(np.ones(n_slices) * 0.3)
    for orders in (cyclic_sequences(n_slices, n_slices), bms_sequences(p), sorted_cyclic_sequences(p)):
        assert all(len({order[place] for order in orders}) == n_slices for place in range(n_slices))
        assert mean_pairwise_distance(orders) == n_slices


def test_distance_is_the_mean_over_pairs() -> None:
    orders = random_sequences(5, 7, np.random.default_rng(1))
    pairs = [sum(a != b for a, b in zip(p, q, strict=True)) for p, q in itertools.combinations(orders, 2)]
    assert mean_pairwise_distance(orders) == pytest.approx(np.mean(pairs))
    assert math.isnan(mean_pairwise_distance(orders[:1]))


def test_matching_gives_the_authors_example() -> None:
    assert bms_sequences([0.4, 0.3, 0.2, 0.1], t=100) == [(0, 1, 2, 3), (1, 0, 3, 2), (2, 3, 0, 1), (3, 2, 1, 0)]


@pytest.mark.parametrize("t", [1, 3, 20, 100, 1000])
@pytest.mark.parametrize("n_slices", [3, 4, 5])
def test_every_level_of_the_matching_is_the_best_one(n_slices: int, t: int) -> None:
    for seed in range(3):
        p = np.random.default_rng(seed).dirichlet(np.ones(n_slices))
        orders = bms_sequences(p, t=t)
        for level in range(1, n_slices):
            before = [order[:level] for order in orders]

            def gains(chosen: tuple[int, ...], before: list = before, level: int = level, p: np.ndarray = p) -> float:
                if any(c in b for b, c in zip(before, chosen, strict=True)):
                    return -1.0
                rests = [max(1 - sum(p[[*b, c]]), 0) for b, c in zip(before, chosen, strict=True)]
                return sum((level + 1) * rest**t for rest in rests)

            best = max(gains(chosen) for chosen in itertools.permutations(range(n_slices)))
            assert gains(tuple(order[level] for order in orders)) == pytest.approx(best, rel=1e-9)


def test_matching_beats_the_median_of_random_latin_squares() -> None:
    p = np.array([0.45, 0.3, 0.15, 0.1])
    rng = np.random.default_rng(0)
    base = np.array(cyclic_sequences(4, 4))
    totals = []
    for _ in range(1000):
        square = rng.permutation(4)[base[rng.permutation(4)][:, rng.permutation(4)]]
        totals.append(sum(sequence_score(order, p, 10) for order in square.tolist()))
    assert sum(sequence_score(order, p, 10) for order in bms_sequences(p, t=10)) >= np.median(totals)


def test_one_request_ahead_all_latin_squares_score_the_same() -> None:
    p = [0.4, 0.35, 0.15, 0.1]
    totals = [
        sum(sequence_score(order, p, 1) for order in orders)
        for orders in (bms_sequences(p, t=1), sorted_cyclic_sequences(p), cyclic_sequences(4, 4))
    ]
    assert np.ptp(totals) < 1e-12
    assert sequence_score((1, 0), [0.25, 0.75], 2) == pytest.approx(0.25**2)


def test_fewer_and_more_sequences_than_slices() -> None:
    p = [0.4, 0.3, 0.2, 0.1]
    every = bms_sequences(p, t=10)
    best = bms_sequences(p, 2, t=10)
    assert set(best) == set(sorted(every, key=lambda order: -sequence_score(order, p, 10))[:2])
    many = bms_sequences(p, 24, rng=np.random.default_rng(0))
    assert many[:4] == bms_sequences(p)
    assert len(set(many)) == 24


def test_conditional_sampling_draws_by_one_less_the_probability() -> None:
    rng = np.random.default_rng(0)
    p = np.array([0.7, 0.2, 0.1])
    firsts = np.bincount([conditional_sequences(p, 1, rng)[0][0] for _ in range(2000)], minlength=3) / 2000
    np.testing.assert_allclose(firsts, (1 - p) / 2, atol=0.045)
    assert len(set(conditional_sequences([1.0, 0.0, 0.0], 6, rng))) == 6  # all orders, impossible ones last


@pytest.mark.parametrize(
    ("m", "n_slices", "budget", "mean", "std"),
    [
        (5, 4, 1, 45.667, 23.23),
        (5, 4, 2, 58.579, 23.69),
        (5, 4, 4, 71.955, 23.80),
        (5, 6, 1, 68.500, None),
        (5, 6, 2, 87.869, None),
        (5, 6, 3, 99.547, None),
        (5, 6, 6, 119.850, None),
        (10, 4, 1, 117.159, None),
        (10, 4, 4, 171.142, None),
        (1, 4, 4, 8.3333, None),
        (2, 3, 3, 14.7, None),
        (5, 4, 24, 71.955, 23.80),
    ],
)
def test_deletion_rates_of_the_specification(m: int, n_slices: int, budget: int, mean: float, std: float) -> None:
    assert deletion_rate(m, n_slices, budget) == pytest.approx(mean, abs=6e-4)
    if std is not None:
        assert deletion_rate_std(m, n_slices, budget) == pytest.approx(std, abs=0.006)


@given(st.lists(st.floats(1e-4, 1), min_size=1, max_size=7))
def test_the_collectors_integral_is_the_alternating_sum(weights: list[float]) -> None:
    p = np.array(weights) / (sum(weights) * 1.3)
    expected = sum(
        (-1) ** (len(some) + 1) / sum(some) for n in range(1, len(p) + 1) for some in itertools.combinations(p, n)
    )
    assert collector_mean(p) == pytest.approx(expected, rel=1e-7)


@pytest.mark.filterwarnings("error")
def test_the_collectors_integral_for_a_coupon_that_hardly_comes() -> None:
    assert collector_mean([0.5, 1e-18]) == pytest.approx(1e18, rel=1e-9)


def test_deletion_rate_under_a_prior() -> None:
    uniform = np.full((3, 4), 1 / 12)
    assert deletion_rate(3, 4, 2, uniform) == pytest.approx(deletion_rate(3, 4, 2))
    skewed = [0.7, 0.1, 0.1, 0.1]
    simulated = simulate_deletions(2, 4, 2, streams=4000, prior=skewed, sequences=bms_sequences(skewed, 2)).requests
    expected = deletion_rate(2, 4, 2, skewed)
    assert abs(simulated.mean() - expected) < 4 * simulated.std() / 4000**0.5
    assert deletion_rate(1, 2, 2, [1.0, 0.0]) == math.inf


def test_kept_quality_of_the_specification_and_by_enumeration() -> None:
    assert retention_probability(1, 4, 3, 4) == pytest.approx(0.888, abs=5e-4)
    assert retention_probability(1, 4, 3, 4, exact=True) == pytest.approx(1.0)
    assert retention_probability(2, 4, 3, 4) == pytest.approx(0.4138, abs=5e-5)
    assert retention_probability(2, 4, 3, 4, exact=True) == pytest.approx(0.4375)
    assert retention_probability(2, 4, 3, 1) == pytest.approx(0.5**3)
    for k, budget, r in itertools.product((1, 2, 3), (1, 2, 4, 5), (0, 1, 2, 4)):
        kept = [
            max(min((order.index(c) for c in stream), default=4) for order in cyclic_sequences(4, budget)) >= k
            for stream in itertools.product(range(4), repeat=r)
        ]
        assert retention_probability(k, 4, r, budget, exact=True) == pytest.approx(np.mean(kept))
    assert retention_probability(2, 21, 4, 21, exact=True) == pytest.approx(1.0, abs=0.01)  # simulated


def test_simulated_streams_agree_with_cutting_lists_one_by_one() -> None:
    orders = cyclic_sequences(3, 2)
    found = simulate_deletions(2, 3, 2, streams=40, record=6, rng=np.random.default_rng(5))
    drawn = np.random.default_rng(5).integers(6, size=(256, 40))
    for stream in range(40):
        lists = {shard: [list(order) for order in orders] for shard in range(2)}
        for number, request in enumerate(drawn[:, stream], 1):
            shard, slice_ = divmod(int(request), 3)
            lists[shard] = [q[: q.index(slice_)] if slice_ in q else q for q in lists[shard]]
            longest = [max(map(len, lists[s])) for s in range(2)]
            if number <= 6:
                assert found.depth[stream, number].tolist() == longest
            if max(longest) == 0:
                assert found.requests[stream] == number
                break
    own = simulate_deletions(2, 3, 2, streams=40, sequences=[orders, orders], rng=np.random.default_rng(5))
    assert np.array_equal(own.requests, found.requests)
    other = simulate_deletions(1, 3, 1, streams=2000, sequences=[[(2, 0, 1)]], prior=[0.0, 0.5, 0.5]).requests
    assert abs(other.mean() - 2) < 0.2
    with pytest.raises(InputError, match="sequences"):
        simulate_deletions(1, 3, 1, sequences=[(0, 1, 1)])
    assert replay(orders, [1, 0], 3).tolist() == [[3, 3], [1, 2], [0, 1]]


def test_a_plan_is_the_best_that_fits() -> None:
    best, second, *_ = plan(records=20_000, layers=12, budget_gpu_hours=3, seconds_per_record=0.002, epochs=3, keep=4)
    assert best.hours <= 3
    assert best.requests >= second.requests
    assert best.n_slices * best.layers_per_slice <= 12
    assert best.passes == pytest.approx(best.budget * (best.n_slices + 1) / 2)  # rotations share no beginning
    assert best.requests == deletion_rate(best.n_shards, best.n_slices, best.budget)
    small = plan(records=20_000, layers=12, storage=5e6, adapter_bytes=1e6)[0]
    assert small.n_shards * small.budget <= 5
    with pytest.raises(InputError, match=r"budget_gpu_hours: .* hours or more"):
        plan(records=20_000, layers=12, budget_gpu_hours=1e-6)
    with pytest.raises(InputError, match="budget_gpu_hours"):
        plan(records=20_000, layers=12)


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda: cyclic_sequences(3, 7), "budget"),
        (lambda: cyclic_sequences(3, 0), "budget"),
        (lambda: cyclic_sequences(0, 1), "n_slices"),
        (lambda: cyclic_sequences(3, 2.0), "budget"),
        (lambda: sequence_score([0, 9], [0.5, 0.5], 3), "order"),
        (lambda: sequence_score([0, 0], [0.5, 0.5], 3), "order"),
        (lambda: plan(records=1000, layers=4, budget_gpu_hours=1, epochs=-1), "epochs"),
        (lambda: plan(records=1000, layers=4, budget_gpu_hours=1, keep=0), "keep"),
        (lambda: bms_sequences([0.5, 0.6]), "prior"),
        (lambda: bms_sequences([1.5, -0.5]), "prior"),
        (lambda: deletion_rate(0, 3, 1), "n_shards"),
        (lambda: deletion_rate(2, 3, 1, [0.5, 0.5]), "prior"),
        (lambda: retention_probability(5, 4, 1, 1), "k"),
        (lambda: simulate_deletions(1, 2, 1, prior=[0.0, 1.0]), "prior"),
    ],
)
def test_values_out_of_bounds_name_their_field(call, field: str) -> None:
    with pytest.raises(InputError) as caught:
        call()
    assert caught.value.field == field
