"""A real cache that follows one of several algorithms, which run on caches of their own, and evicts only when it must.

On a miss with a full cache it evicts the least recently requested page that the followed algorithm does not hold. One
always exists: the algorithm holds at most ``k - 1`` pages besides the requested one, and the real cache holds ``k``.
Following a single algorithm costs no more than the algorithm itself, since its pages are always among the real ones.

Which algorithm is followed is decided after each request, by one of four rules; see ``combine.Combined``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from paperworks.papers.paging.state import called, compiled, draw, inlined, owner_free

if TYPE_CHECKING:
    from paperworks.papers.paging.policy import Evictions

ONE, DETERMINISTIC, SWITCH, RANDOMISED = 0, 1, 2, 3
RESIDENT, TIME, FOLLOWED, VICTIM, SIZE, SWITCHES = 0, 1, 2, 3, 4, 5
BOUND, GAMMA, BETA = 0, 1, 2


class Follower(NamedTuple):
    """The real cache and what it knows of ``a`` algorithms.

    A page that is in the real cache but not in algorithm ``i``'s is a spare of ``i``. The spares of ``i`` are on the
    ``i``-th heap by the time of their latest request; entries whose page has since been requested, evicted or taken
    in by ``i`` are stale and are dropped when they come up.
    """

    present: np.ndarray  # bool [n]: the pages of the real cache
    last: np.ndarray  # int64 [n]: number of the page's latest request
    held: np.ndarray  # bool [a, n]: the pages of each algorithm's own cache
    heap_time: np.ndarray  # int64 [a, 2 k + 8]
    heap_page: np.ndarray  # int32 [a, 2 k + 8]
    heap_size: np.ndarray  # int64 [a]
    cost: np.ndarray  # int64 [a]: misses of each algorithm
    n: np.ndarray  # int64 [6]
    rate: np.ndarray  # float64 [3]: bound on the followed algorithm's misses, its growth, the weights' base
    rng: np.ndarray  # uint64 [1]

    def victims(self) -> np.ndarray:
        """The page that the latest request evicted: int32 [0] or [1]."""
        return np.array([self.n[VICTIM]] if self.n[VICTIM] >= 0 else [], np.int32)


def empty_follower(
    k: int, pages: int, algorithms: int, seed: int, *, gamma: float = 0.01, epsilon: float = 0.5
) -> Follower:
    """An empty real cache of ``k`` slots that follows the first of ``algorithms``."""
    n = np.zeros(6, np.int64)
    n[VICTIM], n[SIZE] = -1, k
    growth = 1.0 + gamma / max(1, algorithms - 1)
    return Follower(
        present=np.zeros(pages, np.bool_),
        last=np.zeros(pages, np.int64),
        held=np.zeros((algorithms, pages), np.bool_),
        heap_time=np.zeros((algorithms, 2 * k + 8), np.int64),
        heap_page=np.zeros((algorithms, 2 * k + 8), np.int32),
        heap_size=np.zeros(algorithms, np.int64),
        cost=np.zeros(algorithms, np.int64),
        n=n,
        rate=np.array([1.0, growth, 1.0 - epsilon / 2]),
        rng=np.array([seed], np.uint64),
    )


def grown_follower(f: Follower, pages: int) -> Follower:
    """The same follower with room for ``pages`` pages."""
    extra = pages - len(f.present)
    return f._replace(
        present=np.pad(f.present, (0, extra)),
        last=np.pad(f.last, (0, extra)),
        held=np.pad(f.held, ((0, 0), (0, extra))),
    )


def replay_lazily(
    pages: np.ndarray,
    misses: list[np.ndarray],
    evictions: list[Evictions],
    k: int,
    distinct: int,
    *,
    rule: int = ONE,
    seed: int = 0,
    gamma: float = 0.01,
    epsilon: float = 0.5,
    log: bool = False,
) -> tuple[np.ndarray, int, Evictions | None]:
    """Follow algorithms whose misses and evictions are known; returns as ``Policy.replay`` does."""
    from paperworks.papers.paging.policy import Evictions

    starts = np.cumsum([0] + [len(e.pages) for e in evictions])
    ends = np.stack([e.ends + start for e, start in zip(evictions, starts[:-1], strict=True)])
    follower = empty_follower(k, distinct, len(misses), seed, gamma=gamma, epsilon=epsilon)
    miss = np.empty(len(pages), np.bool_)
    victims = np.empty(len(pages) if log else 0, np.int32)
    out = np.concatenate([e.pages for e in evictions])
    _follow(follower, rule, pages, np.stack(misses), out, starts[:-1].copy(), ends, miss, victims)
    count = int(miss.sum()) - int(follower.n[RESIDENT])
    if not log:
        return miss, count, None
    gone = victims >= 0
    return miss, count, Evictions(victims[gone], np.cumsum(gone, dtype=np.int64))


def follow_one(f: Follower, rule: int, page: int, missed: list[bool], evicted: list[np.ndarray]) -> bool:
    """Serve one request, of which each algorithm says whether it missed and what it evicted; whether it was a hit."""
    borders = np.cumsum([0] + [len(e) for e in evicted])
    miss = np.empty(1, np.bool_)
    pages, misses = np.array([page], np.int32), np.array(missed)[:, None]
    _follow(
        f, rule, pages, misses, np.concatenate(evicted), borders[:-1].copy(), borders[1:, None].copy(), miss, _NOT_KEPT
    )
    return not miss[0]


_NOT_KEPT = np.empty(0, np.int32)


@compiled
def _follow(follower, rule, pages, missed, out, begin, ends, miss, victims):
    f = owner_free(follower)
    algorithms = len(missed)
    last = begin.copy()
    step_out = np.empty(16, np.int32)
    step_ends = np.zeros(algorithms + 1, np.int64)
    step_missed = np.zeros(algorithms, np.bool_)
    for t in range(len(pages)):
        total = 0
        for i in range(algorithms):
            total += ends[i, t] - last[i]
        if total > len(step_out):
            step_out = np.empty(2 * total, np.int32)
        at = 0
        for i in range(algorithms):
            for j in range(last[i], ends[i, t]):
                step_out[at] = out[j]
                at += 1
            last[i] = ends[i, t]
            step_ends[i + 1] = at
            step_missed[i] = missed[i, t]
        miss[t] = not follow_step(f, rule, pages[t], step_missed, step_out, step_ends)
        if len(victims):
            victims[t] = f.n[VICTIM]


@inlined
def follow_step(f, rule, page, missed, out, ends):
    """Serve one request; returns whether the real cache held the page.

    ``missed[i]`` says whether algorithm ``i`` missed, and ``out[ends[i] : ends[i + 1]]`` is what it evicted.
    """
    algorithms = len(missed)
    _choose(f, rule, missed)
    f.n[TIME] += 1
    f.n[VICTIM] = -1
    hit = f.present[page]
    f.last[page] = f.n[TIME]
    for i in range(algorithms):
        f.held[i, page] = True
        for j in range(ends[i], ends[i + 1]):
            gone = out[j]
            f.held[i, gone] = False
            if gone != page and f.present[gone]:
                _push(f, i, gone)
    if not hit:
        if f.n[RESIDENT] == f.n[SIZE]:
            victim = _pop(f, f.n[FOLLOWED])
            f.present[victim] = False
            f.n[VICTIM] = victim
        else:
            f.n[RESIDENT] += 1
        f.present[page] = True
    for i in range(algorithms):
        if not f.held[i, page]:
            _push(f, i, page)
    return hit


@called
def _choose(f, rule, missed):
    """Count the misses and decide which algorithm to follow."""
    algorithms = len(missed)
    now = f.n[FOLLOWED]
    before = _share(f, now) if rule == RANDOMISED else 1.0
    for i in range(algorithms):
        f.cost[i] += missed[i]
    if rule == DETERMINISTIC:
        while f.cost[f.n[FOLLOWED]] > f.rate[BOUND]:
            f.n[FOLLOWED] = (f.n[FOLLOWED] + 1) % algorithms
            f.rate[BOUND] *= f.rate[GAMMA]
    elif rule == SWITCH:
        for i in range(algorithms):
            if f.cost[i] < f.cost[f.n[FOLLOWED]]:
                f.n[FOLLOWED] = i
    elif rule == RANDOMISED and algorithms > 1:
        after = _share(f, now)
        # Leave with probability (before - after) / before, for one of those whose share is now the larger.
        if after < before and _uniform(f.rng) * before < before - after:
            total = 0.0
            for i in range(algorithms):
                total += 0.0 if i == now else _gain(f, i, missed)
            left = _uniform(f.rng) * total
            for i in range(algorithms):
                if i != now and left >= 0.0:
                    gain = _gain(f, i, missed)
                    if gain > 0.0:
                        f.n[FOLLOWED] = i
                        left -= gain
    if f.n[FOLLOWED] != now:
        f.n[SWITCHES] += 1


@called
def _share(f, i):
    """The algorithm's probability, beta^cost over the sum of all, written so that nothing underflows."""
    total = 0.0
    for j in range(len(f.cost)):
        total += f.rate[BETA] ** (f.cost[j] - f.cost[i])
    return 1.0 / total


@called
def _gain(f, i, missed):
    """By how much the algorithm's probability grew with the latest request (0 if it shrank)."""
    old = 0.0
    for j in range(len(f.cost)):
        old += f.rate[BETA] ** ((f.cost[j] - missed[j]) - (f.cost[i] - missed[i]))
    return max(0.0, _share(f, i) - 1.0 / old)


@inlined
def _uniform(rng):
    return draw(rng, np.int64(1 << 31)) / (1 << 31)


@called
def _push(f, i, page):
    """Put a spare on heap ``i``; a heap that is full is first rid of its stale entries."""
    if f.heap_size[i] == f.heap_time.shape[1]:
        kept = 0
        for j in range(f.heap_size[i]):
            if _valid(f, i, j):
                f.heap_time[i, kept], f.heap_page[i, kept] = f.heap_time[i, j], f.heap_page[i, j]
                kept += 1
        f.heap_size[i] = kept
        for j in range(kept // 2 - 1, -1, -1):
            _down(f, i, j)
    at = f.heap_size[i]
    f.heap_size[i] += 1
    time = f.last[page]
    while at > 0 and f.heap_time[i, (at - 1) >> 1] > time:
        above = (at - 1) >> 1
        f.heap_time[i, at], f.heap_page[i, at] = f.heap_time[i, above], f.heap_page[i, above]
        at = above
    f.heap_time[i, at], f.heap_page[i, at] = time, page


@called
def _pop(f, i):
    """The least recently requested spare of algorithm ``i``."""
    top = np.int64(0)
    while True:
        page = f.heap_page[i, top]
        valid = _valid(f, i, top)
        f.heap_size[i] -= 1
        end = f.heap_size[i]
        f.heap_time[i, top], f.heap_page[i, top] = f.heap_time[i, end], f.heap_page[i, end]
        _down(f, i, top)
        if valid:
            return page


@called
def _valid(f, i, at):
    page = f.heap_page[i, at]
    return f.present[page] and not f.held[i, page] and f.last[page] == f.heap_time[i, at]


@called
def _down(f, i, at):
    size = f.heap_size[i]
    time, page = f.heap_time[i, at], f.heap_page[i, at]
    while True:
        child = 2 * at + 1
        if child >= size:
            break
        if child + 1 < size and f.heap_time[i, child + 1] < f.heap_time[i, child]:
            child += 1
        if f.heap_time[i, child] >= time:
            break
        f.heap_time[i, at], f.heap_page[i, at] = f.heap_time[i, child], f.heap_page[i, child]
        at = child
    f.heap_time[i, at], f.heap_page[i, at] = time, page
