"""Exact answers for small cases: expected costs over all random choices, all sequences, all bit vectors.

A machine is an algorithm written down once more, in the plainest way: a start and a step that returns every outcome
with its probability. Expected costs follow by enumeration; nothing is sampled. The deterministic algorithms are
enumerated through the same compiled steps that replay traces.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from paperworks.errors import InputError
from paperworks.papers.paging.bounds import Guarantee
from paperworks.papers.paging.flush import FlushWhenAll0s, flush_step
from paperworks.papers.paging.mark_and_predict import DeterministicMarkAndPredict, deterministic_step
from paperworks.papers.paging.optimum import belady, phase_labels
from paperworks.papers.paging.policy import Policy
from paperworks.papers.paging.state import ABSENT, LISTS, clear, compiled, empty_state, owner_free
from paperworks.papers.paging.trace import Trace

_FLUSH, _MARK = 0, 1

State = Any
Outcomes = list[tuple[float, State, int]]
"""Probability, next state, misses (0 or 1)."""


class Machine(NamedTuple):
    """An algorithm as a Markov chain. ``step(state, page, bit, k)`` lists the outcomes of a request."""

    start: State
    step: Callable[[State, int, int, int], Outcomes]


def expected_cost(machine: Machine, sequence: Sequence[int], bits: Sequence[int], k: int) -> float:
    """The expected number of misses, exact up to rounding."""
    cost = 0.0
    states = {machine.start: 1.0}
    for page, bit in zip(sequence, bits, strict=True):
        states, miss = _advance(machine, states, page, bit, k)
        cost += miss
    return cost


def _advance(
    machine: Machine, states: dict[State, float], page: int, bit: int, k: int
) -> tuple[dict[State, float], float]:
    after: dict[State, float] = {}
    cost = 0.0
    for state, probability in states.items():
        for share, then, miss in machine.step(state, page, bit, k):
            after[then] = after.get(then, 0.0) + probability * share
            cost += probability * share * miss
    return after, cost


# -- the randomised algorithms -------------------------------------------------------------------------------------


def _mark0(state: State, page: int, bit: int, k: int) -> Outcomes:
    unmarked, marked, phase_set = state
    outcomes: Outcomes = []
    if page in marked or page in unmarked:
        choices: list[tuple[float, frozenset, frozenset, frozenset]] = [(1.0, unmarked, marked, phase_set)]
        miss = 0
    else:
        miss = 1
        if page in phase_set and unmarked:
            choices = [(1 / len(unmarked), unmarked - {u}, marked, phase_set) for u in unmarked]
        elif len(unmarked) + len(marked) == k:
            if not unmarked:
                unmarked, marked, phase_set = marked, frozenset(), marked
            choices = [(1 / len(unmarked), unmarked - {u}, marked, phase_set) for u in unmarked]
        else:
            choices = [(1.0, unmarked, marked, phase_set)]
    for share, u, m, s in choices:
        kept = m - {page} if bit else m | {page}
        outcomes.append((share, (u - {page}, kept, s - {page}), miss))
    return outcomes


def _mark_and_predict(state: State, page: int, bit: int, k: int) -> Outcomes:
    unmarked, marked = state  # dicts page -> bit, as frozensets of pairs
    bit_of = dict(unmarked) | dict(marked)
    if page in bit_of:
        pair = (page, bit_of[page])
        return [(1.0, (unmarked - {pair}, marked - {pair} | {(page, bit)}), 0)]
    if len(bit_of) < k:
        return [(1.0, (unmarked, marked | {(page, bit)}), 1)]
    if not unmarked:
        unmarked, marked = marked, frozenset()
    candidates = [pair for pair in unmarked if pair[1]] or list(unmarked)
    return [(1 / len(candidates), (unmarked - {pair}, marked | {(page, bit)}), 1) for pair in candidates]


def _marker(state: State, page: int, bit: int, k: int) -> Outcomes:
    unmarked, marked = state
    if page in unmarked or page in marked:
        return [(1.0, (unmarked - {page}, marked | {page}), 0)]
    if len(unmarked) + len(marked) < k:
        return [(1.0, (unmarked, marked | {page}), 1)]
    if not unmarked:
        unmarked, marked = marked, frozenset()
    return [(1 / len(unmarked), (unmarked - {u}, marked | {page}), 1) for u in unmarked]


_EMPTY: frozenset = frozenset()
MARK0 = Machine((_EMPTY, _EMPTY, _EMPTY), _mark0)
"""Mark0 (eager)."""
MARK_AND_PREDICT = Machine((_EMPTY, _EMPTY), _mark_and_predict)
"""Mark&Predict."""
MARKER = Machine((_EMPTY, _EMPTY), _marker)
"""Marker; it ignores the bits."""


# -- all sequences, all bits ---------------------------------------------------------------------------------------


class Worst(NamedTuple):
    """What an enumeration found.

    Attributes
    ----------
    cases : pairs of a sequence and a bit vector.
    excess : the largest ``cost - (alpha OPT + beta eta0 + gamma eta1)``; a bound that holds has at most 0.
    perfect_excess : the largest ``cost - alpha OPT`` over true bits.
    perfect_difference : the largest ``|cost - OPT|`` over true bits.
    """

    cases: int
    excess: float
    perfect_excess: float
    perfect_difference: float


def sequences(length: int, pages: int) -> Iterator[tuple[int, ...]]:
    """All request sequences over at most ``pages`` pages, up to renaming: each new page is the next number."""
    if length < 1 or pages < 1:
        raise InputError("length, pages", f"{length}, {pages}", "at least 1 each")

    def extend(prefix: tuple[int, ...], used: int) -> Iterator[tuple[int, ...]]:
        if len(prefix) == length:
            yield prefix
            return
        for page in range(min(used + 1, pages)):
            yield from extend((*prefix, page), max(used, page + 1))

    return extend((), 0)


def worst_case(
    algorithm: Machine | Policy, guarantee: Guarantee, *, length: int, pages: int, k: int, kind: str
) -> Worst:
    """Try every sequence of ``length`` requests over ``pages`` pages with every bit vector.

    Parameters
    ----------
    algorithm : a machine (expected costs), or a deterministic policy (costs of its compiled code).
    kind : ``discard`` or ``phase``, the meaning of the bits.
    """
    if kind not in ("discard", "phase"):
        raise InputError("kind", repr(kind), "discard or phase")
    if isinstance(algorithm, Policy) and algorithm.randomised:
        raise InputError("algorithm", f"{algorithm.name}, which is randomised", "a machine, or a deterministic policy")
    vectors = (np.arange(2**length)[:, None] >> np.arange(length)[::-1] & 1).astype(np.uint8)
    cases, excess, perfect_excess, perfect_difference = 0, -np.inf, -np.inf, 0.0
    for sequence in sequences(length, pages):
        trace = Trace.of(np.array(sequence))
        optimum = belady(trace, k)
        truth = optimum.discard_labels if kind == "discard" else phase_labels(trace, k).bits
        if isinstance(algorithm, Policy):
            costs = _costs_of_policy(algorithm, trace, vectors)
        else:
            costs = np.array(list(_costs_of_machine(algorithm, sequence, k)))
        eta0 = ((vectors == 0) & (truth == 1)).sum(1)
        eta1 = ((vectors == 1) & (truth == 0)).sum(1)
        bounds = guarantee.alpha * optimum.misses + guarantee.beta * eta0 + guarantee.gamma * eta1
        perfect = costs[int("".join(map(str, truth)), 2)]
        cases += len(vectors)
        excess = max(excess, float((costs - bounds).max()))
        perfect_excess = max(perfect_excess, float(perfect - guarantee.alpha * optimum.misses))
        perfect_difference = max(perfect_difference, abs(float(perfect - optimum.misses)))
    return Worst(cases, excess, perfect_excess, perfect_difference)


def _costs_of_policy(policy: Policy, trace: Trace, vectors: np.ndarray) -> np.ndarray:
    if isinstance(policy, FlushWhenAll0s):
        which = _FLUSH
    elif isinstance(policy, DeterministicMarkAndPredict):
        which = _MARK
    else:
        return np.array([policy.replay(trace.pages, bits, distinct=trace.distinct)[0].sum() for bits in vectors])
    costs = np.empty(len(vectors), np.int64)
    _replay_all(empty_state(policy.k, trace.distinct, 0), which, trace.pages, vectors, costs)
    return costs


@compiled
def _replay_all(state, which, pages, vectors, costs):
    """The misses under each bit vector, from an empty cache each time."""
    st = owner_free(state)
    k = len(st.page)
    for row in range(len(vectors)):
        st.where[:] = ABSENT
        st.n[:] = 0
        for sentinel in range(k, k + LISTS):
            clear(st, sentinel)
        misses = 0
        for t in range(len(pages)):
            if which == _FLUSH:
                misses += not flush_step(st, pages[t], vectors[row, t])
            else:
                misses += not deterministic_step(st, pages[t], vectors[row, t])
        costs[row] = misses


def _costs_of_machine(machine: Machine, sequence: Sequence[int], k: int) -> Iterator[float]:
    """The expected cost under every bit vector, in the order of ``vectors``; prefixes are walked once."""

    def walk(at: int, states: dict[State, float], cost: float) -> Iterator[float]:
        if at == len(sequence):
            yield cost
            return
        for bit in (0, 1):
            after, miss = _advance(machine, states, sequence[at], bit, k)
            yield from walk(at + 1, after, cost + miss)

    return walk(0, {machine.start: 1.0}, 0.0)


# -- the lower bound ---------------------------------------------------------------------------------------------


def adversarial_sequence(policy: Policy, length: int, bit: int) -> list[int]:
    """The cruel sequence: of ``k + 1`` pages always request one that the policy lacks. Every request is a miss.

    ``bit`` comes with every request. The optimum misses at most ``k + (length - k) / k`` times, so that a deterministic
    policy with bound ``alpha OPT + beta eta0 + gamma eta1`` has ``alpha + beta >= k`` (bits 0: ``eta1 = 0``, and
    ``eta0`` is at most OPT) and ``alpha + (k - 1) gamma >= k`` (bits 1: ``eta0 = 0``).
    """
    policy = policy.clone()
    made: list[int] = []
    for _ in range(length):
        page = next(p for p in range(policy.k + 1) if p not in policy)
        policy.access(page, bit)
        made.append(page)
    return made


def all_cruel_sequences(k: int, length: int) -> Iterator[list[int]]:
    """The cruel sequences against every deterministic algorithm at once: one per series of eviction choices.

    With ``k + 1`` pages the missing page is the one that was evicted last, so that after the first ``k + 1`` requests
    each request may be any page but the one before; algorithms that evict more lose more.
    """

    def extend(made: list[int]) -> Iterator[list[int]]:
        if len(made) == length:
            yield made
            return
        if len(made) <= k:
            yield from extend([*made, len(made)])
        else:
            for page in range(k + 1):
                if page != made[-1]:
                    yield from extend([*made, page])

    return extend([])
