"""FlushWhenAll0s: deterministic paging with discard predictions."""

from __future__ import annotations

from paperworks.papers.paging.policy import Policy
from paperworks.papers.paging.state import (
    COUNT,
    EVICTED,
    append,
    clear,
    compiled,
    inlined,
    look_ahead,
    note,
    occupy,
    owner_free,
    release,
    unlink,
)


class FlushWhenAll0s(Policy):
    """Evict a page whose latest bit is 1; when every page's bit is 0, evict all pages.

    Among the 1-pages the least recently requested goes first (the paper lets it be any). With ``eta0`` wrong keep bits
    and ``eta1`` wrong discard bits it misses at most ``OPT + (k - 1) eta0 + eta1`` times.
    """

    name = "FlushWhenAll0s"
    prediction = "discard"

    def _replay(self, state, pages, bits, miss, log, ends):
        flush_replay(state, pages, bits, miss, log, ends)


@inlined
def flush_step(st, page, bit):
    """Serve one request; returns whether it was a hit. The slots in use are 0 .. n[COUNT] - 1."""
    st.n[EVICTED] = 0
    k = len(st.page)
    ones = k  # sentinel of the list of 1-pages
    slot = st.where[page]
    hit = slot >= 0
    if hit:
        if st.bit[slot]:
            unlink(st, slot)
    else:
        if st.n[COUNT] < k:
            slot = st.n[COUNT]
            st.n[COUNT] += 1
        elif st.links[ones, 1] != ones:
            slot = st.links[ones, 1]
            unlink(st, slot)
            release(st, slot)
        else:
            for s in range(k):
                release(st, s)
            clear(st, ones)
            slot = 0
            st.n[COUNT] = 1
        occupy(st, slot, page)
    # The bit belongs to the request: a hit replaces the one that the page had.
    st.bit[slot] = bit
    if bit:
        append(st, slot, ones)
    return hit


@compiled
def flush_replay(state, pages, bits, miss, log, ends):
    """Serve a whole trace; see ``Policy._replay``."""
    st = owner_free(state)
    logged = 0
    for t in range(len(pages)):
        look_ahead(st, pages, t)
        miss[t] = not flush_step(st, pages[t], bits[t])
        logged = note(st, t, log, ends, logged)
