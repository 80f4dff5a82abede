"""The best documents of an inverted index, compiled: see ``paperworks.embedding.postings``."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

LOOKED_UP_BELOW = 64
"""Reading so many postings in a row takes as long as looking one up."""


@njit(nogil=True, cache=True)
def best_rows(
    starts: Any,
    rows: Any,
    impacts: Any,
    numbers: Any,
    idf: Any,
    most: Any,
    scores: Any,
    met: Any,
    allowed: Any,
    limit: int,
) -> tuple[Any, Any]:  # pragma: no cover - compiled
    """The best rows and their scores, unordered.

    ``most`` [terms], descending, is what a term can add at most. ``scores`` [n] is zero before and after, ``met`` [n]
    is scratch for the rows that were met.
    """
    rest = np.zeros(len(numbers) + 1, np.float64)  # what the terms from here on can add at most
    for t in range(len(numbers) - 1, -1, -1):
        rest[t] = rest[t + 1] + most[t] * 1.0001  # rounding may not exclude a row
    best = np.empty(limit, np.float32)
    found = np.empty(limit, np.int64)
    count: Any = np.int64(0)  # not a literal, for which all that it is passed to would be compiled anew
    t = 0
    while t < len(numbers):
        weight = idf[t]
        for i in range(starts[numbers[t]], starts[numbers[t] + 1]):
            row = rows[i]
            if scores[row] == 0:
                met[count] = row
                count += 1
            scores[row] += weight * impacts[i]
        t += 1
        if t < len(numbers) and starts[numbers[t] + 1] - starts[numbers[t]] > count:
            size = _best_of(met, count, scores, allowed, best, found)
            if size == limit and best[0] > rest[t]:  # rows that were not met cannot be among the best any more
                break
    kept = count
    if t < len(numbers):
        candidates = met[:count].copy()
        while t < len(numbers):
            still: Any = np.int64(0)
            for i in range(kept):  # those that can still be among the best
                row = candidates[i]
                candidates[still] = row
                still += scores[row] + rest[t] >= best[0]
            kept = still
            _add_to(candidates, kept, scores, rows, impacts, starts[numbers[t]], starts[numbers[t] + 1], idf[t])
            t += 1
            size = _best_of(candidates, kept, scores, allowed, best, found)
    else:
        size = _best_of(met, count, scores, allowed, best, found)
    for i in range(count):
        scores[met[i]] = 0
    return found[:size], best[:size]


@njit(nogil=True, cache=True)
def _add_to(
    candidates: Any, count: int, scores: Any, rows: Any, impacts: Any, start: int, end: int, weight: Any
) -> None:  # pragma: no cover - compiled
    """Add a term to rows that have a score. Where they are few beside the postings, they are looked up there."""
    if count * LOOKED_UP_BELOW > end - start:
        for i in range(start, end):
            score = scores[rows[i]]
            scores[rows[i]] = score + weight * impacts[i] * (score > 0)
        return
    for i in range(count):
        row = candidates[i]
        low, high = start, end
        while low < high:
            middle = (low + high) // 2
            if rows[middle] < row:
                low = middle + 1
            else:
                high = middle
        if low < end and rows[low] == row:
            scores[row] += weight * impacts[low]


@njit(nogil=True, cache=True)
def _best_of(
    candidates: Any, count: int, scores: Any, allowed: Any, best: Any, found: Any
) -> int:  # pragma: no cover - compiled
    """Put the best allowed candidates into a heap, the least first; returns how many there are."""
    size: Any = np.int64(0)
    restricted = len(allowed) > 0
    least = np.float32(0)  # the score that a row needs at least
    for i in range(count):
        row = candidates[i]
        score = scores[row]
        if score >= least and not (restricted and not allowed[row]):
            size = _offer(best, found, size, score, np.int64(row))
            least = best[0] if size == len(best) else np.float32(0)
    return size


@njit(nogil=True, cache=True)
def _offer(best: Any, found: Any, size: int, score: Any, row: Any) -> Any:  # pragma: no cover - compiled
    """Put a row into the heap if it is among the best; returns how many are in it."""
    full = size == len(best)
    if full and not (score > best[0] or (score == best[0] and row < found[0])):
        return size
    if not full:
        at = size
        while at > 0:  # sift up
            parent = (at - 1) // 2
            if best[parent] < score or (best[parent] == score and found[parent] > row):
                break
            best[at], found[at] = best[parent], found[parent]
            at = parent
        best[at], found[at] = score, row
        return size + 1
    at = 0
    while True:  # sift down
        child = 2 * at + 1
        if child >= size:
            break
        other = child + 1
        if other < size and (best[other] < best[child] or (best[other] == best[child] and found[other] > found[child])):
            child = other
        if score < best[child] or (score == best[child] and row > found[child]):
            break
        best[at], found[at] = best[child], found[child]
        at = child
    best[at], found[at] = score, row
    return size
