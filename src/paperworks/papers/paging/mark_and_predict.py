"""Mark&Predict: marking with phase predictions, randomised and deterministic."""

from __future__ import annotations

from paperworks.papers.paging.policy import Policy
from paperworks.papers.paging.state import (
    COUNT,
    EVICTED,
    TIME,
    any_of,
    append,
    compiled,
    inlined,
    look_ahead,
    move,
    note,
    occupy,
    owner_free,
    release,
    unlink,
)

UNMARKED_1, UNMARKED_0, MARKED_1, MARKED_0, FREE = 0, 1, 2, 3, 4


class MarkAndPredict(Policy):
    """Marker that evicts, among the unmarked pages, those which are predicted not to return in the next phase.

    The bit of a request is 1 if its page is NOT expected in the next phase. In expectation it misses at most
    ``2 OPT + H_k eta0 + eta1`` times, and never more than ``k`` times per phase, whatever the bits.
    """

    name = "Mark&Predict"
    prediction = "phase"
    randomised = True

    def _replay(self, state, pages, bits, miss, log, ends):
        mark_and_predict_replay(state, pages, bits, miss, log, ends)


class DeterministicMarkAndPredict(Policy):
    """Mark&Predict with the least recently requested candidate in place of a random one.

    It misses at most ``2 OPT + (k - 1) eta0 + eta1`` times, and never more than ``k`` times per phase.
    """

    name = "Mark&Predict (LRU order)"
    prediction = "phase"

    def _replay(self, state, pages, bits, miss, log, ends):
        deterministic_replay(state, pages, bits, miss, log, ends)


@inlined
def mark_and_predict_step(st, page, bit):
    """Serve one request; returns whether it was a hit."""
    st.n[EVICTED] = 0
    slot = st.where[page]
    hit = slot >= 0
    target = MARKED_1 if bit else MARKED_0
    if hit:
        at = st.rank[slot]
        region = UNMARKED_1
        while at >= st.n[region]:
            region += 1
        move(st, slot, region, target)
    else:
        if st.n[MARKED_0] == len(st.page):
            if st.n[UNMARKED_0] == 0:  # a new phase: what was marked is unmarked, with its bits
                st.n[UNMARKED_1] = st.n[MARKED_1]
                st.n[UNMARKED_0] = st.n[MARKED_0]
                st.n[MARKED_1] = st.n[MARKED_0]
            if st.n[UNMARKED_1] > 0:
                slot = any_of(st, 0, st.n[UNMARKED_1])
                source = UNMARKED_1
            else:
                slot = any_of(st, 0, st.n[UNMARKED_0])
                source = UNMARKED_0
            release(st, slot)
            move(st, slot, source, FREE)
        slot = st.order[st.n[MARKED_0]]
        move(st, slot, FREE, target)
        occupy(st, slot, page)
    return hit


@compiled
def mark_and_predict_replay(state, pages, bits, miss, log, ends):
    """Serve a whole trace; see ``Policy._replay``."""
    st = owner_free(state)
    logged = 0
    for t in range(len(pages)):
        look_ahead(st, pages, t)
        miss[t] = not mark_and_predict_step(st, pages[t], bits[t])
        logged = note(st, t, log, ends, logged)


@inlined
def deterministic_step(st, page, bit):
    """Serve one request; returns whether it was a hit.

    The pages are in two lists by their bit, each in the order of their latest requests. A page is marked if that
    request belongs to this phase, so that every unmarked page stands before the marked ones of its list. n[0] is the
    number of unmarked pages, n[1] the time at which the phase began.
    """
    st.n[EVICTED] = 0
    k = len(st.page)
    zeros, ones = k, k + 1
    st.n[TIME] += 1
    slot = st.where[page]
    hit = slot >= 0
    if hit:
        if st.time[slot] < st.n[1]:
            st.n[0] -= 1
        unlink(st, slot)
    else:
        if st.n[COUNT] < k:
            slot = st.n[COUNT]
            st.n[COUNT] += 1
        else:
            if st.n[0] == 0:
                st.n[0] = k
                st.n[1] = st.n[TIME]
            slot = st.links[ones, 1]
            if slot == ones or st.time[slot] >= st.n[1]:
                slot = st.links[zeros, 1]
            st.n[0] -= 1
            unlink(st, slot)
            release(st, slot)
        occupy(st, slot, page)
    st.time[slot] = st.n[TIME]
    append(st, slot, ones if bit else zeros)
    return hit


@compiled
def deterministic_replay(state, pages, bits, miss, log, ends):
    """Serve a whole trace; see ``Policy._replay``."""
    st = owner_free(state)
    logged = 0
    for t in range(len(pages)):
        look_ahead(st, pages, t)
        miss[t] = not deterministic_step(st, pages[t], bits[t])
        logged = note(st, t, log, ends, logged)
