"""The policies that one-bit predictions are compared with: they need the time of each page's next request.

The prediction ``h`` that comes with a request is the number of the request (counted from 0) at which the page is
expected again; a number past the end of the trace means never. Ties go to the least recently requested page.
"""

from __future__ import annotations

import numpy as np

from paperworks.papers.paging.policy import Policy
from paperworks.papers.paging.state import (
    ABSENT,
    COUNT,
    EVICTED,
    HAND,
    HEAP,
    PHASE,
    TIME,
    any_of,
    compiled,
    draw,
    heap_add,
    heap_change,
    heap_remove,
    inlined,
    look_ahead,
    note,
    occupy,
    owner_free,
    release,
)

FOLLOW, PREDICTIVE, L, L_NON = 0, 1, 2, 3
DISTINCT = HAND
CHAIN_LIMIT = 0


class BlindOracle(Policy):
    """Evict the page whose predicted next request is furthest (Wei 2020); with true times this is the optimum."""

    name = "BlindOracle"
    prediction = "next_time"

    def _replay(self, state, pages, times, miss, log, ends):
        blind_replay(state, pages, times, miss, log, ends)


class _Marking(Policy):
    """A marking algorithm: what it evicts is decided by ``_kind``."""

    prediction = "next_time"
    _kind = FOLLOW

    def _replay(self, state, pages, times, miss, log, ends):
        marking_replay(state, self._kind, pages, times, miss, log, ends)


class FollowPredictionMarking(_Marking):
    """Evict the unmarked page whose predicted next request is furthest."""

    name = "FollowPredMarking"


class PredictiveMarker(_Marking):
    """Lykouris, Vassilvitskii 2018: per chain of evictions trust the prediction H_k times, then evict at random.

    A request that was not resident at the start of the phase begins a chain; the page that it drives out stands for
    the chain, and its return goes on with it.
    """

    name = "PredictiveMarker"
    randomised = True
    _kind = PREDICTIVE


class LMarker(_Marking):
    """Rohatgi 2020: trust the prediction for the first eviction of a chain, then evict unmarked pages at random."""

    name = "LMarker"
    randomised = True
    _kind = L


class LNonMarker(_Marking):
    """Rohatgi 2020: as LMarker, but the second eviction of a chain is a uniformly random page of the whole cache.

    Not robust alone; combine it with Marker.
    """

    name = "LNonMarker"
    randomised = True
    _kind = L_NON


@inlined
def blind_step(st, page, h):
    """Serve one request; returns whether it was a hit. All resident pages are on the heap."""
    st.n[EVICTED] = 0
    st.n[TIME] += 1
    slot = st.where[page]
    hit = slot >= 0
    if hit:
        st.key[slot] = h
        st.time[slot] = st.n[TIME]
        heap_change(st, slot)
    else:
        if st.n[HEAP] < len(st.page):
            slot = st.n[HEAP]
        else:
            slot = st.order[0]
            heap_remove(st, slot)
            release(st, slot)
        occupy(st, slot, page)
        st.key[slot] = h
        st.time[slot] = st.n[TIME]
        heap_add(st, slot)
    return hit


@compiled
def blind_replay(state, pages, times, miss, log, ends):
    """Serve a whole trace; see ``Policy._replay``."""
    st = owner_free(state)
    logged = 0
    for t in range(len(pages)):
        look_ahead(st, pages, t)
        miss[t] = not blind_step(st, pages[t], times[t])
        logged = note(st, t, log, ends, logged)


@inlined
def marking_step(st, kind, page, h):
    """Serve one request; returns whether it was a hit.

    The heap holds the unmarked pages. A phase ends with the (k+1)-th distinct page; n[DISTINCT] counts them.
    ``memory[page, 0]`` is ``4 * phase``, plus 2 if the page was resident at its start (it is stale), plus 1 once it
    is requested in the phase. ``memory[page, 1]`` is the length of the chain that the evicted page stands for.
    """
    st.n[EVICTED] = 0
    st.n[TIME] += 1
    k = len(st.page)
    if st.memory[page, 0] >> 2 != st.n[PHASE] or not st.memory[page, 0] & 1:
        if st.n[DISTINCT] == k:
            _next_phase(st)
        st.n[DISTINCT] += 1
    slot = st.where[page]
    hit = slot >= 0
    stale = st.memory[page, 0] >> 1 == 2 * st.n[PHASE] + 1
    if hit:
        if st.rank[slot] >= 0:
            heap_remove(st, slot)
    else:
        if st.n[COUNT] < k:
            slot = st.n[COUNT]
            st.n[COUNT] += 1
            st.rank[slot] = ABSENT
        else:
            length = st.memory[page, 1] + 1 if stale else 1
            slot = _victim(st, kind, length)
            if st.rank[slot] >= 0:
                heap_remove(st, slot)
            st.memory[release(st, slot), 1] = length
        occupy(st, slot, page)
    st.memory[page, 0] = 4 * st.n[PHASE] + 2 * stale + 1
    st.key[slot] = h
    st.time[slot] = st.n[TIME]
    return hit


@inlined
def _next_phase(st):
    """All resident pages are unmarked and stale."""
    st.n[PHASE] += 1
    st.n[DISTINCT] = 0
    st.n[HEAP] = 0
    for slot in range(st.n[COUNT]):
        st.memory[st.page[slot], 0] = 4 * st.n[PHASE] + 2
        st.memory[st.page[slot], 1] = 0
        heap_add(st, slot)


@inlined
def _victim(st, kind, length):
    """The slot whose page goes, for the eviction that makes its chain ``length`` long."""
    if kind == FOLLOW:
        trusted = True
    elif kind == PREDICTIVE:
        if st.n[CHAIN_LIMIT] == 0:
            harmonic = 0.0
            for i in range(1, len(st.page) + 1):
                harmonic += 1.0 / i
            st.n[CHAIN_LIMIT] = int(harmonic)
        trusted = length <= st.n[CHAIN_LIMIT]
    else:
        trusted = length == 1
    if trusted:
        return st.order[0]
    if kind == L_NON and length == 2:
        return np.int32(draw(st.rng, len(st.page)))
    return any_of(st, 0, st.n[HEAP])


@compiled
def marking_replay(state, kind, pages, times, miss, log, ends):
    """Serve a whole trace; see ``Policy._replay``."""
    st = owner_free(state)
    logged = 0
    for t in range(len(pages)):
        miss[t] = not marking_step(st, kind, pages[t], times[t])
        logged = note(st, t, log, ends, logged)
