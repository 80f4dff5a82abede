"""Shares of the budget and weights of the clusters: exact properties, worked values, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paperworks.errors import InputError
from paperworks.papers.diversify_conquer import InertFeedbackWarning, allocate_budget, round_sizes, update_weights
from paperworks.papers.diversify_conquer.allocation import resolve_budget
from paperworks.papers.diversify_conquer.weights import cluster_scores, warn_if_inert

SIZES = st.lists(st.integers(0, 50), min_size=1, max_size=12).filter(any)


@given(SIZES, st.floats(0, 1))
@settings(max_examples=200, deadline=None)
def test_proportional_shares_add_up_and_are_less_than_one_off(sizes: list[int], share: float) -> None:
    budget = round(share * sum(sizes))
    counts = allocate_budget(sizes, budget)
    assert counts.sum() == budget
    assert (counts <= sizes).all()
    assert (np.abs(counts - budget * np.array(sizes) / sum(sizes)) < 1).all()


@given(SIZES, st.floats(0, 1), st.lists(st.floats(0, 10), min_size=12, max_size=12))
@settings(max_examples=200, deadline=None)
def test_weighted_shares_respect_the_sizes(sizes: list[int], share: float, weights: list[float]) -> None:
    budget = round(share * sum(sizes))
    counts = allocate_budget(sizes, budget, weights[: len(sizes)])
    assert counts.sum() == budget
    assert (counts <= sizes).all()


def test_what_a_full_cluster_cannot_give_the_others_share_in_proportion() -> None:
    # 10 of 12 go by weights 8 : 1 : 1; the first has only 2, so 8 are left for two equal ones
    np.testing.assert_array_equal(allocate_budget([2, 5, 5], 10, [8, 1, 1]), [2, 4, 4])
    # a cluster of weight 0 gives only what the others do not have
    np.testing.assert_array_equal(allocate_budget([3, 5], 4, [1, 0]), [3, 1])
    np.testing.assert_array_equal(allocate_budget([3, 5], 3, [1, 0]), [3, 0])
    np.testing.assert_array_equal(allocate_budget([1, 1, 1], 2), [1, 1, 0])


def test_largest_remainder_by_hand() -> None:
    # shares 3.6, 2.4, 1.2 of 7.2 -> 7: 3.5, 2.33, 1.17 -> 3, 2, 1 and the one left to the remainder .5
    np.testing.assert_array_equal(allocate_budget([36, 24, 12], 7), [4, 2, 1])
    # 1.5 and 2.5, and halves of all but 8: of equal remainders the first ones, whatever rounding makes of them
    np.testing.assert_array_equal(allocate_budget([3, 5], 4), [2, 2])
    np.testing.assert_array_equal(allocate_budget([8, 1, 1, 7, 9], 13), [4, 1, 1, 3, 4])


def test_rounds_add_up() -> None:
    np.testing.assert_array_equal(round_sizes(10, 3), [4, 3, 3])
    for rounds in (0, 11, 2.0, True):
        with pytest.raises(InputError, match="rounds"):
            round_sizes(10, rounds)  # type: ignore[arg-type]


@pytest.mark.parametrize(("budget", "expected"), [(5, 5), (0.1, 10), (1.0, 100), (1, 1), (0.001, 1), (np.int64(7), 7)])
def test_a_budget_is_a_number_or_a_share(budget, expected: int) -> None:
    assert resolve_budget(budget, 100) == expected


@pytest.mark.parametrize("budget", [0, -1, 101, 1.5, float("nan"), True, "5", None, 0.0])
def test_other_budgets_are_refused(budget) -> None:
    with pytest.raises(InputError, match="budget"):
        resolve_budget(budget, 100)


def test_bad_allocations_are_named() -> None:
    for sizes, budget, weights, field in (
        ([1, 2], 4, None, "budget"),
        ([1, 2], -1, None, "budget"),
        ([-1, 2], 1, None, "sizes"),
        ([1, 2], 1, [1], "weights"),
        ([1, 2], 1, [np.nan, 1], "weights"),
        ([1, 2], 1, [-1, 1], "weights"),
    ):
        with pytest.raises(InputError) as caught:
            allocate_budget(sizes, budget, weights)
        assert caught.value.field == field


def test_weight_update_of_the_paper_by_hand() -> None:
    np.testing.assert_allclose(update_weights(np.full(4, 0.25), np.array([1.0, 2, 3, 4])), [0.1, 0.2, 0.3, 0.4])
    # unequal old weights: w s = .5, .6, .8 of 1.9
    found = update_weights(np.array([0.5, 0.3, 0.2]), np.array([1.0, 2, 4]))
    np.testing.assert_allclose(found, np.array([0.5, 0.6, 0.8]) / 1.9)
    replaced = update_weights(np.array([0.5, 0.3, 0.2]), np.array([1.0, 2, 4]), accumulate=False)
    np.testing.assert_allclose(replaced, np.array([1, 2, 4]) / 7)


@given(st.lists(st.floats(-50, 50), min_size=3, max_size=3), st.sampled_from(["softmax", "relu"]), st.booleans())
@settings(max_examples=100, deadline=None)
def test_any_scores_give_weights_that_sum_to_one(scores: list[float], transform, accumulate: bool) -> None:
    found = update_weights(np.array([0.2, 0.3, 0.5]), np.array(scores), transform=transform, accumulate=accumulate)
    assert found.sum() == pytest.approx(1)
    assert (found >= 0).all()
    same = update_weights(np.array([0.2, 0.3, 0.5]), np.array(scores) + 7.0, transform="softmax")
    np.testing.assert_allclose(
        same, update_weights(np.array([0.2, 0.3, 0.5]), np.array(scores), transform="softmax"), atol=1e-9
    )


@pytest.mark.parametrize("accumulate", [True, False])
def test_a_cluster_without_a_score_keeps_its_weight(accumulate: bool) -> None:
    old = np.array([0.1, 0.4, 0.2, 0.3])
    found = update_weights(old, np.array([1.0, np.nan, 3.0, np.nan]), accumulate=accumulate)
    np.testing.assert_allclose(found[[1, 3]], [0.4, 0.3])
    assert found[2] > found[0]
    with pytest.warns(UserWarning, match="no cluster has a score"):
        np.testing.assert_allclose(update_weights(old, np.full(4, np.nan)), old)


def test_the_cap_keeps_every_cluster_within_reach() -> None:
    found = update_weights(np.full(3, 1 / 3), np.array([0.0, 10.0, 20.0]), transform="softmax", max_ratio=10)
    assert found.max() / found.min() == pytest.approx(10)
    reference = np.array([0.8, 0.1, 0.1])
    found = update_weights(reference, np.array([-9.0, 0, 9.0]), transform="softmax", max_ratio=4, reference=reference)
    assert (found / reference).max() / (found / reference).min() == pytest.approx(4)


def test_scores_that_make_no_weights_are_refused() -> None:
    for scores, options, field in (
        ([-1.0, 2], {}, "scores"),
        ([0.0, 0], {}, "scores"),
        ([np.inf, 1], {}, "scores"),
        ([1.0], {}, "scores"),
        ([1.0, 2], {"temperature": 0}, "temperature"),
        ([1.0, 2], {"transform": "max"}, "transform"),
        ([1.0, 2], {"max_ratio": 0.5}, "max_ratio"),
    ):
        with pytest.raises(InputError) as caught:
            update_weights(np.array([0.5, 0.5]), np.array(scores), **options)
        assert caught.value.field == field


def test_cluster_scores_leave_out_what_is_missing() -> None:
    means, counts = cluster_scores(np.array([1.0, 3, np.nan, np.nan]), np.array([0, 0, 0, 1]), 3)
    np.testing.assert_array_equal(means, [2, np.nan, np.nan])
    np.testing.assert_array_equal(counts, [2, 0, 0])


def test_feedback_of_zeros_is_said() -> None:
    with pytest.warns(InertFeedbackWarning, match="75%"):
        assert warn_if_inert(np.array([0.0, 0, 0, 1, np.nan])) == 0.75
