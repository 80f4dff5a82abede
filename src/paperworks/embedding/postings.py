"""BM25 from an inverted index in memory: the scores of SQLite's ``bm25()``, at a hundredth of its time per document.

SQLite looks up the length and the positions of every document that has one of the words, and counts the documents of
every word, for each query. Here the part of a score that does not depend on the query is computed once per posting, and
the postings of frequent words, which add little, are read only for documents that can still be among the best (the
MaxScore of Turtle and Flood, Information Processing & Management 31(6), 1995): the result is the same.
"""

from __future__ import annotations

import threading
from array import array
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit

K1 = 1.2
B = 0.75
"""The constants of SQLite's bm25()."""
LEAST_IDF = 1e-6
LOOKED_UP_BELOW = 64
"""Reading so many postings in a row takes as long as looking one up."""


class Postings:
    """Which rows have which term, and how much that counts.

    Attributes
    ----------
    ids : int64 [n], the identity of each row.
    lengths : float32 [n], tokens per row.
    terms : term -> its number t; its postings are ``rows[starts[t]:starts[t + 1]]``.
    rows : int32, row numbers, ascending per term.
    counts : float32, weighted number of occurrences.
    mean_length : tokens per row that lengths are compared with.
    """

    def __init__(
        self,
        ids: np.ndarray,
        lengths: np.ndarray,
        terms: dict[str, int],
        starts: np.ndarray,
        rows: np.ndarray,
        counts: np.ndarray,
        mean_length: float | None = None,
    ) -> None:
        self.ids, self.lengths, self.terms, self.starts = ids, lengths, terms, starts
        self.rows, self.counts = rows, counts
        self.mean_length = mean_length or float(lengths.mean() if len(lengths) else 1.0) or 1.0
        norm = K1 * (1 - B + B * lengths / self.mean_length)
        self._impacts = np.empty(len(rows), np.float32)
        _impacts(rows, counts, norm.astype(np.float32), self._impacts)
        self._peaks = np.maximum.reduceat(self._impacts, starts[:-1]) if len(rows) else np.empty(0, np.float32)
        self._scratch = threading.local()

    def __len__(self) -> int:
        return len(self.ids)

    def frequency(self, term: str) -> int:
        """The number of rows that have the term."""
        number = self.terms.get(term)
        return 0 if number is None else int(self.starts[number + 1] - self.starts[number])

    def top(
        self, weights: dict[str, float], limit: int, allowed: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The ``limit`` best ids [k] and their scores [k], best first; equal scores by ascending row.

        Parameters
        ----------
        weights : terms with their inverse document frequencies.
        allowed : bool [n], the rows that may be found.
        """
        known = [(self.terms[t], w) for t, w in weights.items() if t in self.terms]
        if not known or limit < 1 or not len(self.ids):
            return np.empty(0, np.int64), np.empty(0, np.float32)
        numbers = np.array([n for n, _ in known], np.int64)
        idf = np.array([w for _, w in known], np.float32)
        most = self._peaks[numbers] * idf
        order = np.argsort(-most, kind="stable")
        if not hasattr(self._scratch, "scores"):
            self._scratch.scores = np.zeros(len(self.ids), np.float32)
            self._scratch.met = np.empty(len(self.ids), np.int32)
        mask = np.ones(0, np.bool_) if allowed is None else allowed
        rows, scores = _top(
            self.starts,
            self.rows,
            self._impacts,
            numbers[order],
            idf[order],
            most[order],
            self._scratch.scores,
            self._scratch.met,
            mask,
            limit,
        )
        best = np.lexsort((rows, -scores))
        return self.ids[rows[best]], scores[best]

    def save(self, path: Path) -> None:
        """Write to an ``.npz`` file (not moved into place: the caller does that)."""
        names = "\n".join(self.terms).encode()
        np.savez(
            path,
            ids=self.ids,
            lengths=self.lengths,
            names=np.frombuffer(names, np.uint8),
            starts=self.starts,
            rows=self.rows,
            counts=self.counts,
        )

    @classmethod
    def load(cls, path: Path) -> Postings:
        """Read what ``save`` wrote. Raises OSError, ValueError or KeyError for a damaged file."""
        with np.load(path, allow_pickle=False) as saved:
            names = saved["names"].tobytes().decode()
            terms = {name: n for n, name in enumerate(names.split("\n"))} if names else {}
            return cls(saved["ids"], saved["lengths"], terms, saved["starts"], saved["rows"], saved["counts"])

    @classmethod
    def build(cls, occurrences: Iterable[tuple[str, int, float]], mean_length: float | None = None) -> Postings:
        """From every occurrence of every term, as (term, id, weight), sorted by term and then by id.

        A document's length is its number of occurrences; ``mean_length`` replaces their mean, so that an index of
        few documents scores like the large one beside it.
        """
        terms: dict[str, int] = {}
        numbers, documents, weights = array("i"), array("q"), array("f")
        number = -1
        last: str | None = None
        for term, document, weight in occurrences:
            if term != last:
                number, last = number + 1, term
                terms[term] = number
            numbers.append(number)
            documents.append(document)
            weights.append(weight)
        term_of = np.frombuffer(numbers, np.int32) if numbers else np.empty(0, np.int32)
        document_of = np.frombuffer(documents, np.int64) if documents else np.empty(0, np.int64)
        weight_of = np.frombuffer(weights, np.float32) if weights else np.empty(0, np.float32)
        ids, row_of = np.unique(document_of, return_inverse=True)
        lengths = np.bincount(row_of, minlength=len(ids)).astype(np.float32)
        fresh = np.ones(len(term_of), bool)
        fresh[1:] = (term_of[1:] != term_of[:-1]) | (document_of[1:] != document_of[:-1])
        first = np.flatnonzero(fresh)
        counts = np.add.reduceat(weight_of, first) if len(first) else np.empty(0, np.float32)
        starts = np.searchsorted(term_of[first], np.arange(len(terms) + 1)).astype(np.int64)
        return cls(ids, lengths, terms, starts, row_of[first].astype(np.int32), counts, mean_length)


def inverse_frequency(rows: int, having: int) -> float:
    """SQLite's inverse document frequency: log((N - n + 1/2) / (n + 1/2)), at least 1e-6."""
    return max(float(np.log((rows - having + 0.5) / (having + 0.5))), LEAST_IDF)


@njit(nogil=True, cache=True)
def _impacts(rows: Any, counts: Any, norm: Any, out: Any) -> None:  # pragma: no cover - compiled
    for i in range(len(rows)):
        out[i] = counts[i] * (K1 + 1) / (counts[i] + norm[rows[i]])


@njit(nogil=True, cache=True)
def _top(
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
    count = 0
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
            still = 0
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
    size = 0
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
