"""Policies that learn from what they evicted: ARC and S3-FIFO, with two queues of pages and ghosts of evicted ones.

Both count as libCacheSim 0.3.5 does, request by request, for the sizes that it takes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from paperworks.papers.paging.lazy import grown_follower
from paperworks.papers.paging.policy import Policy
from paperworks.papers.paging.state import called, compiled, owner_free

# numpy's numbers, since a function is compiled anew for each literal that it is called with
FIRST, SECOND, FIRST_GHOSTS, SECOND_GHOSTS = (np.int64(queue) for queue in range(4))
"""The queues: pages loaded lately, pages that proved themselves, and what each of them evicted."""

NOWHERE = np.int64(-1)
QUEUES = 4
EVICTIONS, FULL_ONCE = QUEUES, QUEUES + 1  # in ``n``, after the sizes of the queues


class Queues(NamedTuple):
    """The state; ``n`` pages, ``k`` slots. Node ``QUEUES + page`` is a page, node ``q`` the sentinel of queue q."""

    where: np.ndarray  # int32 [n]: the page's queue, or NOWHERE
    uses: np.ndarray  # int32 [n]: requests since it was loaded, at most 3 (S3-FIFO)
    links: (
        np.ndarray
    )  # int32 [QUEUES + n, 2]: previous (younger) and next (older) node; a sentinel's previous is the oldest
    n: np.ndarray  # int64: sizes of the queues, evictions by the latest request, whether anything was ever evicted
    out: np.ndarray  # int32 [k + 1]: what the latest request evicted
    share: np.ndarray  # float64 [1]: the slots that ARC wants for FIRST


class QueuePolicy(Policy):
    """What ARC and S3-FIFO have in common: the state."""

    def _empty(self, pages):
        links = np.zeros((QUEUES + pages, 2), np.int32)
        links[:QUEUES] = np.arange(QUEUES)[:, None]
        return Queues(
            np.full(pages, NOWHERE, np.int32),
            np.zeros(pages, np.int32),
            links,
            np.zeros(QUEUES + 2, np.int64),
            np.zeros(self.k + 1, np.int32),
            np.zeros(1),
        )

    def _residents(self, state):
        return int(state.n[FIRST] + state.n[SECOND])

    def _out(self):
        return self._state.out[: self._state.n[EVICTIONS]]

    def _holds(self, number):
        return FIRST <= self._state.where[number] <= SECOND

    def _make_room(self, pages):
        old, new = self._state, self._empty(pages)
        new.where[: len(old.where)] = old.where
        new.uses[: len(old.uses)] = old.uses
        new.links[: len(old.links)] = old.links
        self._state = new._replace(n=old.n, out=old.out, share=old.share)
        if self._follower is not None:
            self._follower = grown_follower(self._follower, pages)


class ARC(QueuePolicy):
    """ARC (Megiddo, Modha 2003): recent and frequent pages, whose shares follow the hits among their ghosts.

    At most ``2 k`` pages and ghosts; on a page whose ghost is in the first queue the first one's share grows by
    ``max(1, |B2| / |B1|)``, on one of the second it shrinks likewise (the paper's figure 4).
    """

    name = "ARC"

    def _replay(self, state, pages, bits, miss, log, ends):
        arc_replay(state, self.k, pages, miss, log, ends)


class S3FIFO(QueuePolicy):
    """S3-FIFO (Yang et al. 2023): a small queue for new pages, a main one, and ghosts of the small one.

    The small queue has a tenth of the slots (at least one), there are nine tenths as many ghosts as slots, and a page
    that was requested twice or more in the small queue moves to the main one, where requests count up to 3.
    libCacheSim loads nothing for a cache of less than 20 pages; here a page that is requested is always loaded.
    """

    name = "S3-FIFO"

    def _replay(self, state, pages, bits, miss, log, ends):
        s3fifo_replay(state, self.k, max(1, self.k // 10), (9 * self.k) // 10, pages, miss, log, ends)


@called
def _take(st, page):
    node = page + QUEUES
    before, after = st.links[node, 0], st.links[node, 1]
    st.links[before, 1] = after
    st.links[after, 0] = before
    st.n[st.where[page]] -= 1
    st.where[page] = NOWHERE


@called
def _put(st, page, queue):
    """At the young end of a queue."""
    node = page + QUEUES
    first = st.links[queue, 1]
    st.links[node, 0], st.links[node, 1] = queue, first
    st.links[first, 0] = node
    st.links[queue, 1] = node
    st.n[queue] += 1
    st.where[page] = queue


@called
def _oldest(st, queue):
    return np.int64(st.links[queue, 0]) - QUEUES


@called
def _evict(st, queue, ghosts):
    """The oldest page of a queue leaves the cache and becomes a ghost, unless ``ghosts`` is NOWHERE."""
    page = _oldest(st, queue)
    _take(st, page)
    st.out[st.n[EVICTIONS]] = page
    st.n[EVICTIONS] += 1
    if ghosts != NOWHERE:
        _put(st, page, ghosts)


@called
def _arc_replace(st, ghosts):
    """Make room for a page whose ghost is in the queue ``ghosts``, if in any."""
    size = st.n[FIRST]
    if size > 0 and (size > st.share[0] or (ghosts == SECOND_GHOSTS and size == st.share[0])):
        _evict(st, FIRST, FIRST_GHOSTS)
    else:
        _evict(st, SECOND, SECOND_GHOSTS)


@called
def _arc_miss(st, k, page):
    ghosts = np.int64(st.where[page])
    ones, twos = st.n[FIRST_GHOSTS], st.n[SECOND_GHOSTS]
    if ghosts == FIRST_GHOSTS:
        st.share[0] = min(st.share[0] + max(twos / ones, 1.0), float(k))
    elif ghosts == SECOND_GHOSTS:
        st.share[0] = max(st.share[0] - max(ones / twos, 1.0), 0.0)
    if st.n[FIRST] + st.n[SECOND] >= k:
        if ghosts != NOWHERE:
            _arc_replace(st, ghosts)
        elif st.n[FIRST] + ones >= k:
            if ones > 0:
                _take(st, _oldest(st, FIRST_GHOSTS))
                _arc_replace(st, ghosts)
            else:
                _evict(st, FIRST, NOWHERE)
        else:
            if st.n[FIRST] + st.n[SECOND] + ones + twos >= 2 * k:
                _take(st, _oldest(st, SECOND_GHOSTS))
            _arc_replace(st, ghosts)
    if ghosts != NOWHERE:
        _take(st, page)
        _put(st, page, SECOND)
    else:
        _put(st, page, FIRST)


@called
def _note(st, t, log, ends, logged):
    if len(ends):
        for i in range(st.n[EVICTIONS]):
            log[logged] = st.out[i]
            logged += 1
        ends[t] = logged
    return logged


@compiled
def arc_replay(state, k, pages, miss, log, ends):
    """Serve a whole trace; see ``Policy._replay``."""
    st = owner_free(state)
    logged = np.int64(0)
    for t in range(len(pages)):
        page = np.int64(pages[t])
        st.n[EVICTIONS] = 0
        hit = st.where[page] == FIRST or st.where[page] == SECOND
        if hit:
            _take(st, page)
            _put(st, page, SECOND)
        else:
            _arc_miss(st, k, page)
        miss[t] = not hit
        logged = _note(st, t, log, ends, logged)


@called
def _s3fifo_evict(st, k, small, ghosts):
    """Make room for one page."""
    st.n[FULL_ONCE] = 1
    if st.n[SECOND] > k - small or st.n[FIRST] == 0:
        while True:
            page = _oldest(st, SECOND)
            if st.uses[page] == 0:
                break
            _take(st, page)
            _put(st, page, SECOND)
            st.uses[page] -= 1
        _evict(st, SECOND, NOWHERE)
        return
    while st.n[FIRST] > 0:
        page = _oldest(st, FIRST)
        if st.uses[page] < 2:
            _evict(st, FIRST, NOWHERE)
            if ghosts > 0:
                if st.n[FIRST_GHOSTS] >= ghosts:
                    _take(st, _oldest(st, FIRST_GHOSTS))
                _put(st, page, FIRST_GHOSTS)
            return
        _take(st, page)
        _put(st, page, SECOND)
        st.uses[page] = 0


@compiled
def s3fifo_replay(state, k, small, ghosts, pages, miss, log, ends):
    """Serve a whole trace; see ``Policy._replay``."""
    st = owner_free(state)
    logged = np.int64(0)
    for t in range(len(pages)):
        page = np.int64(pages[t])
        st.n[EVICTIONS] = 0
        hit = st.where[page] == FIRST or st.where[page] == SECOND
        if hit:
            st.uses[page] = min(st.uses[page] + 1, 3)
        else:
            known = st.where[page] == FIRST_GHOSTS
            if known:
                _take(st, page)
            while st.n[FIRST] + st.n[SECOND] >= k:
                _s3fifo_evict(st, k, small, ghosts)
            full = not st.n[FULL_ONCE] and st.n[FIRST] >= small
            _put(st, page, SECOND if known or full else FIRST)
            st.uses[page] = 0
        miss[t] = not hit
        logged = _note(st, t, log, ends, logged)
