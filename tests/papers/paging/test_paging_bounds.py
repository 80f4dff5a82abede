"""The theorems, by enumeration: all sequences, all bits, all random choices."""

from __future__ import annotations

import numpy as np
import pytest

from paperworks.errors import InputError
from paperworks.papers.paging import (
    LRU,
    DeterministicMarkAndPredict,
    FlushWhenAll0s,
    Mark0,
    MarkAndPredict,
    Marker,
    Trace,
    belady,
    guarantee,
    simulate,
)
from paperworks.papers.paging.bounds import Guarantee
from paperworks.papers.paging.exact import (
    MARK0,
    MARK_AND_PREDICT,
    MARKER,
    adversarial_sequence,
    all_cruel_sequences,
    expected_cost,
    sequences,
    worst_case,
)

ROUNDING = 1e-9


def test_sequences_up_to_renaming():
    assert len(list(sequences(4, 4))) == 15  # the Bell number
    assert list(sequences(3, 2)) == [(0, 0, 0), (0, 0, 1), (0, 1, 0), (0, 1, 1)]


@pytest.mark.parametrize(("k", "length", "pages"), [(1, 7, 3), (2, 8, 4), (3, 7, 5)])
def test_flush_when_all_0s(k, length, pages):
    policy = FlushWhenAll0s(k)
    found = worst_case(policy, guarantee(policy, k), length=length, pages=pages, k=k, kind="discard")
    assert found.excess <= 0
    assert found.perfect_difference == 0


@pytest.mark.parametrize(("k", "length", "pages"), [(1, 7, 3), (2, 8, 4), (3, 7, 5)])
def test_deterministic_mark_and_predict(k, length, pages):
    policy = DeterministicMarkAndPredict(k)
    found = worst_case(policy, guarantee(policy, k), length=length, pages=pages, k=k, kind="phase")
    assert found.excess <= 0
    assert found.perfect_excess <= 0


@pytest.mark.parametrize(("k", "length", "pages"), [(2, 6, 4), (3, 6, 5)])
def test_mark0_in_expectation(k, length, pages):
    found = worst_case(MARK0, guarantee("Mark0", k), length=length, pages=pages, k=k, kind="discard")
    assert found.excess <= ROUNDING
    assert found.perfect_difference <= ROUNDING


@pytest.mark.parametrize(("k", "length", "pages"), [(2, 6, 4), (3, 6, 5)])
def test_mark_and_predict_in_expectation(k, length, pages):
    found = worst_case(MARK_AND_PREDICT, guarantee("Mark&Predict", k), length=length, pages=pages, k=k, kind="phase")
    assert found.excess <= ROUNDING
    assert found.perfect_excess <= ROUNDING


def test_a_smaller_bound_does_not_hold():
    """The enumeration sees violations: with half of each coefficient some case is worse."""
    for weaker in (Guarantee(1, 0.5, 1), Guarantee(1, 1, 0.4)):
        assert worst_case(FlushWhenAll0s(2), weaker, length=7, pages=4, k=2, kind="discard").excess > 0
    assert worst_case(MARK0, Guarantee(1, 0.5, 1), length=6, pages=4, k=2, kind="discard").excess > 0
    with pytest.raises(InputError, match="randomised"):
        worst_case(Mark0(2), Guarantee(1, 1, 1), length=3, pages=3, k=2, kind="discard")


@pytest.mark.parametrize(("machine", "policy"), [(MARK0, Mark0), (MARK_AND_PREDICT, MarkAndPredict), (MARKER, Marker)])
def test_the_compiled_policies_have_the_machines_expectation(machine, policy):
    """Mean misses over 1,200 seeds within 4.5 standard errors, over sequences with many random choices."""
    rng = np.random.default_rng(11)
    for _ in range(5):
        k = int(rng.integers(2, 4))
        sequence = rng.integers(0, k + 2, 14)
        bits = (rng.random(14) < 0.25).astype(np.uint8)
        trace = Trace.of(sequence)
        expected = expected_cost(machine, trace.pages.tolist(), bits.tolist(), k)
        costs = [simulate(policy(k, random_state=s), trace, bits).misses for s in range(1200)]
        error = np.std(costs) / np.sqrt(len(costs))
        assert abs(np.mean(costs) - expected) <= 4.5 * error + 1e-9


def test_no_deterministic_algorithm_escapes_the_cruel_sequence():
    for k, length in ((2, 12), (3, 10)):
        most = max(belady(Trace.of(s), k).misses for s in all_cruel_sequences(k, length))
        assert most <= k + -(-(length - k) // k)


@pytest.mark.parametrize("policy", [FlushWhenAll0s(4), DeterministicMarkAndPredict(4), LRU(4)])
@pytest.mark.parametrize("bit", [0, 1])
def test_cruel_sequence(policy, bit):
    sequence = adversarial_sequence(policy, 400, bit)
    trace = Trace.of(sequence)
    assert simulate(policy, trace, np.full(400, bit, np.uint8)).misses == 400
    assert belady(trace, 4).misses <= 4 + 396 / 4
