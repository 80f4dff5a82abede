"""Combinations: the real cache against a second writing, and what they guarantee."""

from __future__ import annotations

import numpy as np
import paging_reference as reference
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paperworks.errors import InputError
from paperworks.papers.paging import (
    LRU,
    BlindOracle,
    Combined,
    FlushWhenAll0s,
    Mark0,
    MarkAndPredict,
    Marker,
    Trace,
    belady,
    flip,
    simulate,
)

requests = st.lists(st.integers(0, 8), min_size=1, max_size=70)


def run_alone(policy, trace, bits):
    """The misses of a policy, and its cache after each request."""
    misses, caches = [], []
    for page, bit in zip(trace.ids[trace.pages].tolist(), bits.tolist(), strict=True):
        misses.append(not policy.access(page, bit))
        caches.append(set(policy))
    return np.cumsum(misses), caches


@settings(max_examples=60, deadline=None)
@given(requests, st.integers(1, 5), st.integers(0, 2**32))
def test_the_real_cache_is_its_second_writing(sequence, k, seed):
    trace = Trace.of(sequence)
    bits = np.random.default_rng(seed).integers(0, 2, len(trace)).astype(np.uint8)
    policies = [FlushWhenAll0s(k), Mark0(k, random_state=seed), LRU(k)]
    alone = [run_alone(p.clone(), trace, bits) for p in policies]
    costs = np.stack([cost for cost, _ in alone])
    caches = [held for _, held in alone]

    followed, now = [], 0
    for t in range(len(trace)):
        if costs[:, t].min() < costs[now, t]:
            now = int(costs[:, t].argmin())
        followed.append(now)
    expected = reference.follow(sequence, caches, k, lambda t: followed[t])
    assert simulate(Combined(policies, rule="switch"), trace, bits).per_request_miss.tolist() == expected

    followed, now, bound = [], 0, 1.0
    for t in range(len(trace)):
        while costs[now, t] > bound:
            now = (now + 1) % 3
            bound *= 1 + 0.2 / 2
        followed.append(now)
    expected = reference.follow(sequence, caches, k, lambda t: followed[t])
    result = simulate(Combined(policies, rule="deterministic", gamma=0.2), trace, bits)
    assert result.per_request_miss.tolist() == expected

    lazy = reference.follow(sequence, caches, k, lambda t: 1)
    assert simulate(Mark0(k, random_state=seed, lazy=True), trace, bits).per_request_miss.tolist() == lazy


def test_the_randomised_rule_follows_each_policy_with_its_weight():
    """How often the second of two is followed at the end, over 600 seeds, against the chain of these probabilities."""
    rng = np.random.default_rng(2)
    trace = Trace.of(rng.integers(0, 6, 30))
    bits = rng.integers(0, 2, 30).astype(np.uint8)
    ends = []
    for seed in range(600):
        combined = Combined([FlushWhenAll0s(3), LRU(3)], rule="randomised", epsilon=0.2).clone(random_state=seed)
        for page, bit in zip(trace.pages.tolist(), bits.tolist(), strict=True):
            combined.access(page, bit)
        ends.append(isinstance(combined.followed, LRU))
    # The first policy is followed first; whoever's weight falls is left with the probability of the fall.
    costs = [np.cumsum(simulate(p, trace, bits).per_request_miss) for p in (FlushWhenAll0s(3), LRU(3))]
    weights = 0.9 ** np.array(costs, float)
    shares = np.column_stack([[0.5, 0.5], weights / weights.sum(0)])
    second = 0.0
    for before, after in zip(shares.T, shares.T[1:], strict=False):
        if after[0] < before[0]:
            second += (1 - second) * (before[0] - after[0]) / before[0]
        elif after[1] < before[1]:
            second -= second * (before[1] - after[1]) / before[1]
    assert 0.02 < second < 0.98
    assert abs(np.mean(ends) - second) < 4.5 * np.sqrt(second * (1 - second) / 600)


def test_combination_keeps_what_good_bits_give_and_limits_what_bad_ones_cost():
    rng = np.random.default_rng(4)
    trace = Trace.of(rng.zipf(1.2, 40_000) % 700)
    k = 50
    optimum = belady(trace, k)
    lru = simulate(LRU(k), trace).misses
    for probability in (0.0, 0.05, 0.5, 1.0):
        bits = flip(optimum.discard_labels, probability, rng)
        own = simulate(FlushWhenAll0s(k), trace, bits).misses
        for rule in ("deterministic", "switch", "randomised"):
            got = simulate(Combined([FlushWhenAll0s(k), LRU(k)], rule=rule), trace, bits).misses
            assert optimum.misses <= got <= 1.03 * min(own, lru) + k


def test_combinations_of_combinations():
    inner = Combined([MarkAndPredict(3), Marker(3)], rule="switch")
    outer = Combined([inner, LRU(3)], rule="switch")
    assert outer.prediction == "phase"
    trace = Trace.of(np.random.default_rng(0).integers(0, 6, 200))
    bits = np.zeros(200, np.uint8)
    expected = simulate(outer, trace, bits).per_request_miss
    got = [not outer.access(int(p), 0) for p in trace.ids[trace.pages]]
    assert got == expected.tolist()


def test_bad_combinations():
    with pytest.raises(InputError, match="1 policies"):
        Combined([LRU(2)])
    with pytest.raises(InputError, match="sizes 2, 3"):
        Combined([LRU(2), LRU(3)])
    with pytest.raises(InputError, match="discard, next_time"):
        Combined([FlushWhenAll0s(2), BlindOracle(2)])
    with pytest.raises(InputError, match="rule"):
        Combined([LRU(2), LRU(2)], rule="best")
    with pytest.raises(InputError, match="epsilon"):
        Combined([LRU(2), LRU(2)], epsilon=1.0)
