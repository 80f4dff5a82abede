"""Trust&Doubt: predictions of the optimum's cache (Antoniadis, Coester, Elias, Polak, Simon 2020)."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from paperworks.papers.paging.next_time import blind_step
from paperworks.papers.paging.policy import Policy
from paperworks.papers.paging.state import State, called, compiled, draw, empty_state, grown, inlined, owner_free

PHASE, DISTINCT, ANCIENT, CLEAN, UNIVERSE, RESIDENT, TIME = 0, 1, 2, 3, 4, 5, 6
TRUSTED, LIMIT, COUNT = 0, 1, 2


class TrustAndDoubt(Policy):
    """Follow a predicted cache chain by chain, and doubt it for a while each time that it was wrong.

    The predicted cache is BlindOracle's, run beside on the predicted next requests. In a phase, pages that were
    requested neither in it nor in the one before (ancient) go first. After that every clean page of the phase is
    charged with one missing page. A trusted chain keeps a page missing that the predicted cache lacks, marked or not;
    if that page is requested the chain is doubted, and keeps random unmarked pages missing until as many of them were
    requested as its limit says. Then it is trusted again, with twice the limit.

    The scheme (ancient pages, chains per clean page, trust, doubt, doubling) is the paper's. When exactly a chain
    changes between trust and doubt is our reading of it. Serving a miss takes O(k).
    """

    name = "Trust&Doubt"
    prediction = "next_time"
    randomised = True

    def _empty(self, pages: int) -> tuple[State, Chains]:
        return empty_state(self.k, pages, self.seed), empty_chains(self.k, pages, self.seed)

    def _residents(self, state: Any) -> int:
        return int(state[1].n[RESIDENT])

    def _out(self) -> np.ndarray:
        chains = self._state[1]
        return chains.out[: chains.out_count[0]]

    def _room(self) -> int:
        return len(self._state[1].cached)

    def _make_room(self, pages: int) -> None:
        oracle, chains = self._state
        extra = pages - len(chains.cached)
        chains = chains._replace(
            cached=np.pad(chains.cached, (0, extra)),
            phase=np.pad(chains.phase, (0, extra), constant_values=-9),
            time=np.pad(chains.time, (0, extra)),
            chain=np.pad(chains.chain, (0, extra), constant_values=-1),
        )
        self._state = grown(oracle, pages), chains

    def _holds(self, number: int) -> bool:
        return bool(self._state[1].cached[number])

    def _replay(self, state, pages, times, miss, log, ends):
        trust_replay(*state, pages, times, miss, log, ends)


class Chains(NamedTuple):
    """What Trust&Doubt keeps; ``n`` pages, ``k`` slots.

    The universe of a phase are the pages requested in it or in the phase before. While no ancient page is left, the
    universe has as many missing pages as the phase has clean pages, and each belongs to one chain.
    """

    cached: np.ndarray  # bool [n]
    phase: np.ndarray  # int32 [n]: the phase of the page's latest request
    time: np.ndarray  # int64 [n]: the number of that request
    chain: np.ndarray  # int32 [n]: the chain that keeps the page missing, or -1
    universe: np.ndarray  # int32 [2 k + 1]
    ancient: np.ndarray  # int32 [k]
    chains: np.ndarray  # int64 [k + 1, 3]: trusted, limit, doubted requests so far
    n: np.ndarray  # int64 [7]
    out: np.ndarray  # int32 [1]
    out_count: np.ndarray  # int64 [1]
    rng: np.ndarray  # uint64 [1]


def empty_chains(k: int, pages: int, seed: int) -> Chains:
    """The chains of an empty cache."""
    return Chains(
        cached=np.zeros(pages, np.bool_),
        phase=np.full(pages, -9, np.int32),
        time=np.zeros(pages, np.int64),
        chain=np.full(pages, -1, np.int32),
        universe=np.zeros(2 * k + 1, np.int32),
        ancient=np.zeros(k, np.int32),
        chains=np.zeros((k + 1, 3), np.int64),
        n=np.zeros(7, np.int64),
        out=np.zeros(1, np.int32),
        out_count=np.zeros(1, np.int64),
        rng=np.array([seed], np.uint64),
    )


@called
def trust_step(oracle, c, page, h):
    """Serve one request; returns whether it was a hit."""
    blind_step(oracle, page, h)
    k = len(c.ancient)
    c.n[TIME] += 1
    c.out_count[0] = 0
    if c.phase[page] != c.n[PHASE]:
        if c.n[DISTINCT] == k:
            _next_phase(c)
        c.n[DISTINCT] += 1
    hit = c.cached[page]
    clean = c.phase[page] < c.n[PHASE] - 1
    charged = c.chain[page]
    c.phase[page] = c.n[PHASE]
    c.time[page] = c.n[TIME]
    had_ancient = c.n[ANCIENT] > 0
    if clean:
        c.universe[c.n[UNIVERSE]] = page
        c.n[UNIVERSE] += 1
        if hit:
            _forget_ancient(c, page)
    if not hit:
        if c.n[RESIDENT] < k:
            c.n[RESIDENT] += 1
        elif c.n[ANCIENT] > 0:
            victim = _ancient_victim(oracle, c)
            _forget_ancient(c, victim)
            _evict(c, victim)
        else:
            if clean:
                chain = c.n[CLEAN]
                c.chains[chain, TRUSTED], c.chains[chain, LIMIT] = 1, 1
            else:
                chain = charged
                _change_trust(c, chain)
            c.chain[page] = -1
            victim = _missing_page(oracle, c, c.chains[chain, TRUSTED] == 1)
            _evict(c, victim)
            c.chain[victim] = chain
        c.cached[page] = True
    c.n[CLEAN] += clean
    if had_ancient and c.n[ANCIENT] == 0:
        _assign_chains(c)
    return hit


@called
def _next_phase(c):
    """The universe is what the ended phase requested; resident pages outside it are ancient."""
    old = c.n[UNIVERSE]
    ended = c.n[PHASE]
    ancient = 0
    # Ancient pages of the ended phase that were never evicted nor requested are still resident.
    for i in range(c.n[ANCIENT]):
        c.ancient[ancient] = c.ancient[i]
        ancient += 1
    kept = 0
    for i in range(old):
        page = c.universe[i]
        c.chain[page] = -1
        if c.phase[page] == ended:
            c.universe[kept] = page
            kept += 1
        elif c.cached[page]:
            c.ancient[ancient] = page
            ancient += 1
    c.n[UNIVERSE] = kept
    c.n[ANCIENT] = ancient
    c.n[PHASE] += 1
    c.n[DISTINCT] = 0
    c.n[CLEAN] = 0


@inlined
def _evict(c, page):
    c.cached[page] = False
    c.out[0] = page
    c.out_count[0] = 1


@called
def _forget_ancient(c, page):
    """The page is no longer ancient."""
    for i in range(c.n[ANCIENT]):
        if c.ancient[i] == page:
            c.n[ANCIENT] -= 1
            c.ancient[i] = c.ancient[c.n[ANCIENT]]
            return


@called
def _ancient_victim(oracle, c):
    """An ancient page, one that the predicted cache lacks if there is one."""
    for i in range(c.n[ANCIENT]):
        if oracle.where[c.ancient[i]] < 0:
            return c.ancient[i]
    return c.ancient[0]


@inlined
def _change_trust(c, chain):
    """The chain's missing page was requested."""
    if c.chains[chain, TRUSTED]:
        c.chains[chain, TRUSTED], c.chains[chain, COUNT] = 0, 0
    else:
        c.chains[chain, COUNT] += 1
        if c.chains[chain, COUNT] >= c.chains[chain, LIMIT]:
            c.chains[chain, TRUSTED] = 1
            c.chains[chain, LIMIT] *= 2


@called
def _missing_page(oracle, c, trusted):
    """The page that a chain keeps missing from now on.

    Trusted: the least recently requested resident page of the universe that the predicted cache lacks. One exists: the
    universe exceeds the cache by the number of chains, and the predicted cache holds the page requested now. Doubted:
    a uniformly random unmarked resident page.
    """
    found = -1
    seen = 0
    for i in range(c.n[UNIVERSE]):
        page = c.universe[i]
        if c.cached[page]:
            if trusted:
                if oracle.where[page] < 0 and (found < 0 or c.time[page] < c.time[found]):
                    found = page
            elif c.phase[page] == c.n[PHASE] - 1:
                seen += 1
                if draw(c.rng, seen) == 0:
                    found = page
    return found


@called
def _assign_chains(c):
    """The last ancient page is gone: each clean page so far is charged with one missing page, and trusts."""
    chain = 0
    for i in range(c.n[UNIVERSE]):
        page = c.universe[i]
        if not c.cached[page]:
            c.chain[page] = chain
            c.chains[chain, TRUSTED], c.chains[chain, LIMIT] = 1, 1
            chain += 1


@compiled
def trust_replay(oracle_state, chains, pages, times, miss, log, ends):
    """Serve a whole trace; see ``Policy._replay``."""
    oracle = owner_free(oracle_state)
    c = owner_free(chains)
    logged = 0
    for t in range(len(pages)):
        miss[t] = not trust_step(oracle, c, pages[t], times[t])
        if len(ends):
            for _ in range(c.out_count[0]):
                log[logged] = c.out[0]
                logged += 1
            ends[t] = logged
