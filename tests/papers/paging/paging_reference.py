"""Policies written down a second time, as sets and lists, to compare the compiled ones with."""

from __future__ import annotations

from collections import OrderedDict
from functools import cache


def optimal_misses(sequence, k):
    """The optimum by trying every eviction."""

    @cache
    def best(at, cache):
        if at == len(sequence):
            return 0
        page = sequence[at]
        if page in cache:
            return best(at + 1, cache)
        if len(cache) < k:
            return 1 + best(at + 1, cache | {page})
        return 1 + min(best(at + 1, cache - {gone} | {page}) for gone in cache)

    return best(0, frozenset())


def furthest(sequence, k, times):
    """LFD with the given next requests: misses and labels. Ties go to the least recently requested page."""
    cache: dict = {}  # page -> (time of next request, number of latest request)
    misses, labels = 0, [0] * len(sequence)
    for t, page in enumerate(sequence):
        if page not in cache:
            misses += 1
            if len(cache) == k:
                gone = max(cache, key=lambda p: (cache[p][0], -cache[p][1]))
                labels[cache[gone][1]] = 1
                del cache[gone]
        cache[page] = (times[t], t)
    return misses, labels


def next_times(sequence):
    return [
        next((u for u in range(t + 1, len(sequence)) if sequence[u] == p), len(sequence))
        for t, p in enumerate(sequence)
    ]


def phases(sequence, k):
    """The phases as lists of request numbers."""
    found: list[list[int]] = [[]]
    for t, page in enumerate(sequence):
        pages = {sequence[u] for u in found[-1]}
        if page not in pages and len(pages) == k:
            found.append([])
        found[-1].append(t)
    return found


def flush(sequence, bits, k):
    """Per-request misses of FlushWhenAll0s."""
    bit: OrderedDict = OrderedDict()  # page -> bit, in the order of requests
    misses = []
    for page, b in zip(sequence, bits, strict=True):
        misses.append(page not in bit)
        if page not in bit and len(bit) == k:
            ones = [p for p in bit if bit[p]]
            if ones:
                del bit[ones[0]]
            else:
                bit.clear()
        bit.pop(page, None)
        bit[page] = b
    return misses


def deterministic_mark_and_predict(sequence, bits, k):
    """Per-request misses of Mark&Predict with the least recently requested candidate."""
    cache: OrderedDict = OrderedDict()  # page -> (bit, marked)
    misses = []
    for page, b in zip(sequence, bits, strict=True):
        misses.append(page not in cache)
        if page not in cache and len(cache) == k:
            if all(marked for _, marked in cache.values()):
                for p in cache:
                    cache[p] = (cache[p][0], False)
            unmarked = [p for p in cache if not cache[p][1]]
            ones = [p for p in unmarked if cache[p][0]]
            del cache[(ones or unmarked)[0]]
        cache.pop(page, None)
        cache[page] = (b, True)
    return misses


def lru(sequence, k):
    cache: OrderedDict = OrderedDict()
    misses = []
    for page in sequence:
        misses.append(page not in cache)
        if page not in cache and len(cache) == k:
            cache.popitem(last=False)
        cache[page] = None
        cache.move_to_end(page)
    return misses


def fifo(sequence, k):
    cache: list = []
    misses = []
    for page in sequence:
        misses.append(page not in cache)
        if page not in cache:
            cache = cache[1:] if len(cache) == k else cache
            cache.append(page)
    return misses


def blind_oracle(sequence, times, k):
    """Per-request misses; ties go to the least recently requested page."""
    cache: dict = {}
    misses = []
    for t, page in enumerate(sequence):
        misses.append(page not in cache)
        if page not in cache and len(cache) == k:
            del cache[max(cache, key=lambda p: (cache[p][0], -cache[p][1]))]
        cache[page] = (times[t], t)
    return misses


def follow_marking(sequence, times, k):
    cache: dict = {}
    marked: set = set()
    misses = []
    for t, page in enumerate(sequence):
        misses.append(page not in cache)
        if page not in cache and len(cache) == k:
            if marked >= set(cache):
                marked.clear()
            del cache[max((p for p in cache if p not in marked), key=lambda p: (cache[p][0], -cache[p][1]))]
        cache[page] = (times[t], t)
        marked.add(page)
    return misses


def follow(sequence, caches, k, choose):
    """A real cache that follows algorithms whose caches after each request are given; ``choose(t)`` names one."""
    real: OrderedDict = OrderedDict()
    misses = []
    for t, page in enumerate(sequence):
        misses.append(page not in real)
        if page not in real and len(real) == k:
            del real[next(p for p in real if p not in caches[choose(t)][t])]
        real.pop(page, None)
        real[page] = None
    return misses
