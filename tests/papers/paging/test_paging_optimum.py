"""The optimum, the labels and the phases against brute force; error counts and bounds."""

from __future__ import annotations

import numpy as np
import paging_reference as reference
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paperworks.errors import InputError
from paperworks.papers.paging import (
    LRU,
    Trace,
    belady,
    bound,
    guarantee,
    labels_from_times,
    lru_stack_distances,
    phase_labels,
    prediction_error,
    simulate,
)
from paperworks.papers.paging.bounds import harmonic, next_time_bound, time_error
from paperworks.papers.paging.optimum import next_requests

requests = st.lists(st.integers(0, 5), min_size=1, max_size=14)


@settings(max_examples=120, deadline=None)
@given(requests, st.integers(1, 4))
def test_belady_is_the_optimum_over_all_evictions(sequence, k):
    optimum = belady(Trace.of(sequence), k)
    assert optimum.misses == optimum.per_request_miss.sum() == reference.optimal_misses(tuple(sequence), k)
    if optimum.misses >= k:
        assert optimum.discard_labels.sum() == optimum.misses - k


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=80), st.integers(1, 6), st.integers(0, 2**32))
def test_labels_are_those_of_the_second_writing(sequence, k, seed):
    trace = Trace.of(sequence)
    times = reference.next_times(sequence)
    assert next_requests(trace).tolist() == times
    misses, labels = reference.furthest(sequence, k, times)
    assert (belady(trace, k).misses, belady(trace, k).discard_labels.tolist()) == (misses, labels)
    noisy = np.random.default_rng(seed).integers(0, 30, len(sequence))
    assert labels_from_times(trace, k, noisy).tolist() == reference.furthest(sequence, k, noisy.tolist())[1]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=80), st.integers(1, 6))
def test_phases(sequence, k):
    found = phase_labels(Trace.of(sequence), k)
    expected = reference.phases(sequence, k)
    assert [int((found.phase_ids == i).sum()) for i in range(len(expected))] == [len(p) for p in expected]
    pages = [{sequence[t] for t in phase} for phase in expected]
    before = [set(), *pages[:-1]]
    after = [*pages[1:], set()]
    assert found.clean_counts.tolist() == [len(p - b) for p, b in zip(pages, before, strict=True)]
    assert found.bits.tolist() == [
        int(sequence[t] not in a) for phase, a in zip(expected, after, strict=True) for t in phase
    ]


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=120))
def test_stack_distances_are_lru_at_every_size(sequence):
    trace = Trace.of(sequence)
    distances = lru_stack_distances(trace)
    for k in range(1, 14):
        assert np.array_equal(distances > k, simulate(LRU(k), trace).per_request_miss)


def test_known_next_requests_may_be_given():
    trace = Trace.of([3, 1, 3, 2, 1])
    assert belady(trace, 2, next_request=np.array([2, 4, 5, 5, 5])).misses == belady(trace, 2).misses
    with pytest.raises(InputError, match="1 at request 1; expected a later request"):
        belady(trace, 2, next_request=np.array([2, 1, 5, 5, 5]))


def test_prediction_error_counts_every_request():
    assert prediction_error(np.array([0, 0, 1, 1]), np.array([1, 0, 1, 0])) == (1, 1)
    with pytest.raises(InputError, match="shape"):
        prediction_error(np.array([0]), np.array([1, 0]))


def test_bounds_by_hand():
    assert harmonic(1) == 1
    assert harmonic(4) == pytest.approx(25 / 12)
    assert harmonic(5000) == pytest.approx(sum(1 / i for i in range(1, 5001)), abs=1e-12)
    assert bound("FlushWhenAll0s", 100, 3, 5, 10) == 100 + 9 * 3 + 5
    assert bound("Mark0", 100, 3, 5, 4) == pytest.approx(100 + 2 * 25 / 12 * 3 + 5)
    assert bound("Mark&Predict", 100, 3, 5, 4) == pytest.approx(200 + 25 / 12 * 3 + 5)
    assert bound("Mark&Predict (LRU order)", 100, 3, 5, 4) == 200 + 9 + 5
    assert guarantee(LRU(7), 7).alpha == 7
    assert guarantee("SIEVE", 7) is None
    assert next_time_bound("PredictiveMarker", 100, 0, 10) == 200
    assert next_time_bound("PredictiveMarker", 100, 1e9, 4) == pytest.approx(100 * 4 * 25 / 12)
    assert next_time_bound("BlindOracle", 100, 50, 2) == 200
    assert time_error(np.array([3, 9]), np.array([5, 9])) == 2
    with pytest.raises(InputError, match="did you mean 'FlushWhenAll0s'"):
        bound("FlushWhenAll", 1, 0, 0, 2)


def test_empty_and_missing_pages():
    with pytest.raises(InputError, match="no requests"):
        belady([], 2)
    with pytest.raises(InputError, match="nan at request 1"):
        Trace.of([1.0, float("nan")])
    with pytest.raises(InputError, match="None at request 2"):
        Trace.of(["a", "b", None])
