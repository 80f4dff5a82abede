"""The classical policies, which need no predictions: LRU, FIFO, Random, Marker and SIEVE."""

from __future__ import annotations

import numpy as np

from paperworks.papers.paging.mark0 import FREE, MARKED, UNMARKED, evict_unmarked
from paperworks.papers.paging.policy import Policy
from paperworks.papers.paging.state import (
    COUNT,
    EVICTED,
    HAND,
    PHASE,
    ahead,
    append,
    compiled,
    draw,
    inlined,
    look_ahead,
    move,
    note,
    occupy,
    owner_free,
    release,
    unlink,
)


class LRU(Policy):
    """Evict the least recently requested page; ``k``-competitive (Sleator, Tarjan 1985)."""

    name = "LRU"

    def _replay(self, state, pages, bits, miss, log, ends):
        lru_replay(state, pages, miss, log, ends)


class FIFO(Policy):
    """Evict the page that was loaded first; ``k``-competitive."""

    name = "FIFO"

    def _replay(self, state, pages, bits, miss, log, ends):
        fifo_replay(state, pages, miss, log, ends)


class RandomEviction(Policy):
    """Evict a uniformly random page; ``k``-competitive in expectation."""

    name = "Random"
    randomised = True

    def _replay(self, state, pages, bits, miss, log, ends):
        random_replay(state, pages, miss, log, ends)


class Marker(Policy):
    """Evict a uniformly random unmarked page; at most ``2 H_k OPT`` misses in expectation (Fiat et al. 1991)."""

    name = "Marker"
    randomised = True

    def _replay(self, state, pages, bits, miss, log, ends):
        marker_replay(state, pages, miss, log, ends)


class Sieve(Policy):
    """SIEVE (Zhang et al. 2024): a queue in loading order, and a hand that spares pages requested since it passed."""

    name = "SIEVE"

    def _replay(self, state, pages, bits, miss, log, ends):
        sieve_replay(state, pages, miss, log, ends)


@inlined
def lru_step(st, page):
    """Serve one request; returns whether it was a hit. The list of all pages is in the order of their requests."""
    st.n[EVICTED] = 0
    k = len(st.page)
    slot = st.where[page]
    hit = slot >= 0
    if hit:
        unlink(st, slot)
    else:
        if st.n[COUNT] < k:
            slot = st.n[COUNT]
            st.n[COUNT] += 1
        else:
            slot = st.links[k, 1]
            unlink(st, slot)
            release(st, slot)
        occupy(st, slot, page)
    append(st, slot, k)
    return hit


@compiled
def lru_replay(state, pages, miss, log, ends):
    """Serve a whole trace; see ``Policy._replay``."""
    st = owner_free(state)
    logged = 0
    for t in range(len(pages)):
        look_ahead(st, pages, t)
        miss[t] = not lru_step(st, pages[t])
        oldest = st.links[len(st.page), 1]
        if oldest < len(st.page):
            ahead(st.where, np.int64(st.page[oldest]))  # written when the page goes
        logged = note(st, t, log, ends, logged)


@inlined
def fifo_step(st, page):
    """Serve one request; returns whether it was a hit. The hand goes round the slots."""
    st.n[EVICTED] = 0
    hit = st.where[page] >= 0
    if not hit:
        slot = st.n[HAND]
        st.n[HAND] = slot + 1 if slot + 1 < len(st.page) else 0
        if st.n[COUNT] < len(st.page):
            st.n[COUNT] += 1
        else:
            release(st, slot)
        occupy(st, slot, page)
    return hit


@compiled
def fifo_replay(state, pages, miss, log, ends):
    """Serve a whole trace; see ``Policy._replay``."""
    st = owner_free(state)
    logged = 0
    for t in range(len(pages)):
        look_ahead(st, pages, t)
        miss[t] = not fifo_step(st, pages[t])
        logged = note(st, t, log, ends, logged)


@inlined
def random_step(st, page):
    """Serve one request; returns whether it was a hit."""
    st.n[EVICTED] = 0
    hit = st.where[page] >= 0
    if not hit:
        if st.n[COUNT] < len(st.page):
            slot = st.n[COUNT]
            st.n[COUNT] += 1
        else:
            slot = draw(st.rng, len(st.page))
            release(st, slot)
        occupy(st, slot, page)
    return hit


@compiled
def random_replay(state, pages, miss, log, ends):
    """Serve a whole trace; see ``Policy._replay``."""
    st = owner_free(state)
    logged = 0
    for t in range(len(pages)):
        look_ahead(st, pages, t)
        miss[t] = not random_step(st, pages[t])
        logged = note(st, t, log, ends, logged)


@inlined
def marker_step(st, page):
    """Serve one request; returns whether it was a hit."""
    st.n[EVICTED] = 0
    k = len(st.page)
    slot = st.where[page]
    hit = slot >= 0
    if hit:
        if st.rank[slot] < st.n[UNMARKED]:
            move(st, slot, UNMARKED, MARKED)
    else:
        if st.n[MARKED] == k:
            if st.n[UNMARKED] == 0:
                st.n[PHASE] += 1
                st.n[UNMARKED] = k
            evict_unmarked(st)
        slot = st.order[st.n[MARKED]]
        move(st, slot, FREE, MARKED)
        occupy(st, slot, page)
    return hit


@compiled
def marker_replay(state, pages, miss, log, ends):
    """Serve a whole trace; see ``Policy._replay``."""
    st = owner_free(state)
    logged = 0
    for t in range(len(pages)):
        look_ahead(st, pages, t)
        miss[t] = not marker_step(st, pages[t])
        logged = note(st, t, log, ends, logged)


@inlined
def sieve_step(st, page):
    """Serve one request; returns whether it was a hit. ``bit`` says that a page was requested since it was loaded.

    n[HAND] is one more than the slot at which the hand stands, or 0 before its first move.
    """
    st.n[EVICTED] = 0
    k = len(st.page)
    slot = st.where[page]
    hit = slot >= 0
    if hit:
        st.bit[slot] = 1
    else:
        if st.n[COUNT] < k:
            slot = st.n[COUNT]
            st.n[COUNT] += 1
        else:
            slot = st.n[HAND] - 1
            if slot < 0 or slot == k:
                slot = st.links[k, 1]
            while st.bit[slot]:
                st.bit[slot] = 0
                slot = st.links[slot, 1]
                if slot == k:
                    slot = st.links[k, 1]
            st.n[HAND] = st.links[slot, 1] + 1
            unlink(st, slot)
            release(st, slot)
        occupy(st, slot, page)
        st.bit[slot] = 0
        append(st, slot, k)
    return hit


@compiled
def sieve_replay(state, pages, miss, log, ends):
    """Serve a whole trace; see ``Policy._replay``."""
    st = owner_free(state)
    logged = 0
    for t in range(len(pages)):
        look_ahead(st, pages, t)
        miss[t] = not sieve_step(st, pages[t])
        logged = note(st, t, log, ends, logged)
