"""Mark0: randomised paging with discard predictions."""

from __future__ import annotations

from paperworks.papers.paging.policy import Policy
from paperworks.papers.paging.state import (
    EVICTED,
    PHASE,
    any_of,
    compiled,
    inlined,
    look_ahead,
    move,
    note,
    occupy,
    owner_free,
    release,
)

UNMARKED, MARKED, FREE = 0, 1, 2


class Mark0(Policy):
    """Throw a page away at once when its bit is 1, and treat the others as Marker does.

    In expectation it misses at most ``OPT + 2 H_k eta0 + eta1`` times. With all bits 0 it is Marker, draw for draw;
    with all bits 1 every request misses. ``lazy=True`` keeps discarded pages until their slot is needed, which never
    costs more than the eager algorithm and helps much when bits are wrong.
    """

    name = "Mark0"
    prediction = "discard"
    randomised = True

    def _replay(self, state, pages, bits, miss, log, ends):
        mark0_replay(state, pages, bits, miss, log, ends)


@inlined
def evict_unmarked(st):
    """Evict a uniformly random unmarked page; its slot is free."""
    slot = any_of(st, 0, st.n[UNMARKED])
    release(st, slot)
    move(st, slot, UNMARKED, FREE)


@inlined
def mark0_step(st, page, bit):
    """Serve one request; returns whether it was a hit.

    ``memory[page, 0]`` is the phase in whose set S the page is: the pages that were resident at the start of the
    phase and were not requested since. A page of S that is missing was thrown out by a random choice of this phase.
    """
    st.n[EVICTED] = 0
    k = len(st.page)
    slot = st.where[page]
    hit = slot >= 0
    if hit:
        if st.rank[slot] < st.n[UNMARKED]:
            move(st, slot, UNMARKED, MARKED)
    else:
        if st.memory[page, 0] == st.n[PHASE] and st.n[UNMARKED] > 0:
            evict_unmarked(st)  # the chain goes on, even if a slot is free
        elif st.n[MARKED] == k:
            if st.n[UNMARKED] == 0:
                st.n[PHASE] += 1
                st.n[UNMARKED] = k
                for s in range(k):
                    st.memory[st.page[s], 0] = st.n[PHASE]
            evict_unmarked(st)
        slot = st.order[st.n[MARKED]]
        move(st, slot, FREE, MARKED)
        occupy(st, slot, page)
    st.memory[page, 0] = 0
    if bit:
        release(st, slot)
        move(st, slot, MARKED, FREE)
    return hit


@compiled
def mark0_replay(state, pages, bits, miss, log, ends):
    """Serve a whole trace; see ``Policy._replay``."""
    st = owner_free(state)
    logged = 0
    for t in range(len(pages)):
        look_ahead(st, pages, t)
        miss[t] = not mark0_step(st, pages[t], bits[t])
        logged = note(st, t, log, ends, logged)
