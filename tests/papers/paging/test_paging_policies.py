"""Every policy against a plain second writing of it, one request at a time against whole traces."""

from __future__ import annotations

import numpy as np
import paging_reference as reference
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba.core.dispatcher import Dispatcher

from paperworks.errors import InputError
from paperworks.papers.paging import (
    ARC,
    FIFO,
    LRU,
    S3FIFO,
    BlindOracle,
    Combined,
    DeterministicMarkAndPredict,
    FlushWhenAll0s,
    FollowPredictionMarking,
    LNonMarker,
    Mark0,
    MarkAndPredict,
    Marker,
    Sieve,
    Trace,
    TrustAndDoubt,
    adaptive,
    belady,
    lazy,
    oracle,
    phase_labels,
    simulate,
    state,
    trust_and_doubt,
)
from paperworks.papers.paging.planner import POLICIES

requests = st.lists(st.integers(0, 7), min_size=1, max_size=60)
sizes = st.integers(1, 6)


def predictions_for(policy, trace, rng):
    if policy.prediction == "none":
        return None
    if policy.prediction == "next_time":
        return rng.integers(0, 2 * len(trace) + 2, len(trace))
    return rng.integers(0, 2, len(trace)).astype(np.uint8)


@settings(max_examples=150, deadline=None)
@given(requests, sizes, st.integers(0, 2**32))
def test_deterministic_policies_are_their_second_writing(sequence, k, seed):
    rng = np.random.default_rng(seed)
    trace = Trace.of(sequence)
    bits = rng.integers(0, 2, len(trace))
    times = rng.integers(0, 6, len(trace))  # with ties
    for policy, expected in (
        (FlushWhenAll0s(k), reference.flush(sequence, bits, k)),
        (DeterministicMarkAndPredict(k), reference.deterministic_mark_and_predict(sequence, bits, k)),
        (LRU(k), reference.lru(sequence, k)),
        (FIFO(k), reference.fifo(sequence, k)),
    ):
        assert simulate(policy, trace, bits).per_request_miss.tolist() == expected, policy
    for policy, expected in (
        (BlindOracle(k), reference.blind_oracle(sequence, times, k)),
        (FollowPredictionMarking(k), reference.follow_marking(sequence, times, k)),
    ):
        assert simulate(policy, trace, times).per_request_miss.tolist() == expected, policy


@pytest.mark.parametrize("name", list(POLICIES))
def test_one_request_at_a_time_gives_what_a_replay_gives(name):
    rng = np.random.default_rng(3)
    for k, pages in ((1, 3), (3, 5), (6, 40)):
        trace = Trace.of(rng.zipf(1.3, 400) % pages)
        policy = POLICIES[name](k)
        predictions = predictions_for(policy, trace, rng)
        result = simulate(policy, trace, predictions)
        held: set = set()
        evicted = 0
        for t, page in enumerate(trace.ids[trace.pages].tolist()):
            hit = policy.access(page, 0 if predictions is None else int(predictions[t]))
            assert hit == (page in held) == (not result.per_request_miss[t])
            # What it says it evicted is exactly what left, and the cache is never too full.
            held = (held | {page}) - set(policy.evicted)
            evicted += len(policy.evicted)
            assert set(policy) == held
            assert len(held) <= k
        assert (policy.requests, policy.misses) == (len(trace), result.misses)
        assert evicted == result.evictions == result.misses - len(held)
        policy.reset()
        assert len(policy) == 0
        assert result.misses + result.hits == len(trace)
        assert result.cost_curve[-1] == result.misses


def test_pages_may_be_anything_hashable():
    policy = MarkAndPredict(3)
    assert [policy.access(p, 0) for p in ("a", 3, ("x", 1), "a")] == [False, False, False, True]
    assert set(policy) == {"a", 3, ("x", 1)}
    with pytest.raises(InputError, match="page"):
        policy.access(float("nan"), 0)
    with pytest.raises(InputError, match="bit"):
        policy.access("a", 2)


def test_mark0_without_ones_is_marker_draw_for_draw():
    rng = np.random.default_rng(0)
    trace = Trace.of(rng.zipf(1.2, 20_000) % 300)
    for seed in range(5):
        mark0 = simulate(Mark0(20, random_state=seed), trace, np.zeros(len(trace), np.uint8))
        marker = simulate(Marker(20, random_state=seed), trace)
        assert np.array_equal(mark0.per_request_miss, marker.per_request_miss)
        assert mark0.misses != simulate(Marker(20, random_state=seed + 1), trace).misses


def test_mark0_with_only_ones_misses_always():
    trace = Trace.of([0, 0, 1, 1, 0])
    assert simulate(Mark0(3), trace, np.ones(5, np.uint8)).misses == 5
    assert simulate(Mark0(3, lazy=True), trace, np.ones(5, np.uint8)).misses == 2


def test_a_hit_replaces_the_bit():
    # Page 1 is loaded with 0 and hit with 1: it, not 0, has to go for page 2.
    bits = [0, 0, 1, 0, 0]
    assert simulate(FlushWhenAll0s(2), Trace.of([0, 1, 1, 2, 0]), bits).per_request_miss.tolist()[-1] is False
    for seed in range(8):
        result = simulate(MarkAndPredict(2, random_state=seed), Trace.of([0, 1, 1, 2, 0]), bits)
        assert not result.per_request_miss[-1]


@settings(max_examples=60, deadline=None)
@given(requests, sizes, st.integers(0, 2**32))
def test_lazy_never_misses_where_eager_hits(sequence, k, seed):
    trace = Trace.of(sequence)
    bits = np.random.default_rng(seed).integers(0, 2, len(trace)).astype(np.uint8)
    for kind in (Mark0, FlushWhenAll0s):
        eager = simulate(kind(k, random_state=seed), trace, bits).per_request_miss
        lazy = simulate(kind(k, random_state=seed, lazy=True), trace, bits).per_request_miss
        assert not (lazy & ~eager).any()


@settings(max_examples=60, deadline=None)
@given(requests, sizes, st.integers(0, 2**32))
def test_marking_algorithms_miss_at_most_k_times_per_phase(sequence, k, seed):
    rng = np.random.default_rng(seed)
    trace = Trace.of(sequence)
    phases = phase_labels(trace, k).phase_ids
    bits, times = rng.integers(0, 2, len(trace)), rng.integers(0, 99, len(trace))
    for policy in (MarkAndPredict(k, random_state=seed), DeterministicMarkAndPredict(k), Marker(k)):
        miss = simulate(policy, trace, bits).per_request_miss
        assert np.bincount(phases, weights=miss).max() <= k
    miss = simulate(FollowPredictionMarking(k), trace, times).per_request_miss
    assert np.bincount(phases, weights=miss).max() <= k


@settings(max_examples=100, deadline=None)
@given(requests, sizes, st.integers(0, 2**32))
def test_perfect_predictions(sequence, k, seed):
    trace = Trace.of(sequence)
    optimum, phases = belady(trace, k), phase_labels(trace, k)
    for policy in (FlushWhenAll0s(k), Mark0(k, random_state=seed), Mark0(k, random_state=seed, lazy=True)):
        assert simulate(policy, trace, optimum.discard_labels).misses == optimum.misses
    for policy in (MarkAndPredict(k, random_state=seed), DeterministicMarkAndPredict(k)):
        assert simulate(policy, trace, phases.bits).misses == phases.clean_counts.sum()
    assert simulate(BlindOracle(k), trace, oracle(trace, k, "next_time")).misses == optimum.misses


def test_trust_and_doubt_lies_between_the_optimum_and_marker_with_true_times_and_is_robust_with_false_ones():
    rng = np.random.default_rng(1)
    trace = Trace.of(rng.zipf(1.2, 30_000) % 500)
    k = 40
    times = oracle(trace, k, "next_time")
    marker = simulate(Marker(k), trace).misses
    assert belady(trace, k).misses <= simulate(TrustAndDoubt(k), trace, times).misses < 0.95 * marker
    assert simulate(TrustAndDoubt(k), trace, 10**9 - times).misses < 1.15 * marker


def test_cyclic_sequence():
    """k + 1 pages in turn: LRU misses always, the optimum about once in k requests, LNonMarker keeps its promise."""
    k, length = 5, 600
    trace = Trace.of([i % (k + 1) for i in range(length)])
    assert simulate(LRU(k), trace).misses == length
    optimum = belady(trace, k)
    assert optimum.misses == k + -(-(length - k) // k)
    assert simulate(FlushWhenAll0s(k), trace, np.zeros(length, np.uint8)).misses == length
    phases = phase_labels(trace, k)
    assert simulate(MarkAndPredict(k), trace, phases.bits).misses == phases.clean_counts.sum()
    assert simulate(LNonMarker(k), trace, oracle(trace, k, "next_time")).misses < length / 2


def test_sieve_spares_what_was_requested_since_the_hand_passed():
    # 0 is requested again and spared; the hand takes 1, stands at 2, and takes it next although 0 is older.
    policy = Sieve(3)
    for page in (0, 1, 2, 0):
        policy.access(page)
    assert [policy.access(3), policy.evicted] == [False, (1,)]
    assert [policy.access(4), policy.evicted] == [False, (2,)]
    assert 0 in policy


@pytest.mark.parametrize("k", [0, -1, 2.5, True, "3"])
def test_bad_sizes(k):
    with pytest.raises(InputError, match="k: found"):
        LRU(k)


def test_bad_predictions():
    trace = Trace.of([1, 2, 1])
    for bits, found in (([0, 1], "shape"), ([0, 2, 1], "2 at request 1"), (None, "none"), ([[0]], "shape")):
        with pytest.raises(InputError, match=found):
            simulate(FlushWhenAll0s(2), trace, bits)
    with pytest.raises(InputError, match="nan at request 1"):
        simulate(BlindOracle(2), trace, [1.0, float("nan"), 2.0])
    with pytest.raises(InputError, match="random_state"):
        Mark0(2, random_state=-1)


def test_sets_are_caches_of_their_own():
    rng = np.random.default_rng(5)
    trace = Trace.of(rng.integers(0, 64, 3000))
    ids = trace.ids[trace.pages]
    for make in (lambda: LRU(4), lambda: FlushWhenAll0s(4), lambda: BlindOracle(4)):
        policy = make()
        predictions = None if policy.prediction == "none" else oracle(trace, 4, policy.prediction, sets=8)
        result = simulate(policy, trace, predictions, sets=8)
        own = 0
        for number in range(8):
            part = Trace.of(ids[ids % 8 == number])
            truth = None if policy.prediction == "none" else oracle(part, 4, policy.prediction)
            own += simulate(policy, part, truth).misses
        assert result.misses == own
        assert result.k == 32
        if policy.prediction != "none":
            assert own == belady(trace, 4, sets=8).misses


def test_seeds():
    trace = Trace.of(np.random.default_rng(0).integers(0, 30, 2000))
    one, same, other = (simulate(Marker(9, random_state=s), trace).per_request_miss for s in (7, 7, 8))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    assert (
        Marker(9, random_state=np.random.default_rng(0)).seed == Marker(9, random_state=np.random.default_rng(0)).seed
    )
    assert Combined([Marker(3), LRU(3)]).clone(random_state=5).policies[0].seed == 5


@pytest.mark.parametrize(
    "policy",
    [TrustAndDoubt(3), Combined([LNonMarker(3), Marker(3)]), ARC(3), S3FIFO(3)],
    ids=lambda p: p.name,
)
def test_what_policies_share_is_compiled_once(policy):
    """A literal among its arguments would compile a function again. (Nothing is compiled where a replay was kept.)"""
    trace = Trace.of([0, 1, 2, 3, 4, 0, 1, 4, 2, 3] * 3)
    simulate(policy, trace, predictions_for(policy, trace, np.random.default_rng(0)))
    for module in (state, lazy, adaptive, trust_and_doubt):
        for name, made in vars(module).items():
            if isinstance(made, Dispatcher):
                assert len(made.signatures) <= 1, name
