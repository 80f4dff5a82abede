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

import numpy as np

K1 = 1.2
B = 0.75
"""The constants of SQLite's bm25()."""
LEAST_IDF = 1e-6
FEW = 5_000
"""Fewer documents are ranked by numpy. It takes some times as long as compiled code, less than a millisecond in all,
and numba takes a second to import."""


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
        norm = (K1 * (1 - B + B * lengths / self.mean_length)).astype(np.float32)
        self._impacts = (counts * (K1 + 1) / (counts + norm[rows])).astype(np.float32)
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
        if len(self.ids) < FEW:
            rows, scores = _top_of_few(
                self.starts, self.rows, self._impacts, numbers[order], idf[order], len(self.ids), allowed, limit
            )
            return self.ids[rows], scores
        from paperworks.embedding.best_rows import best_rows

        if not hasattr(self._scratch, "scores"):
            self._scratch.scores = np.zeros(len(self.ids), np.float32)
            self._scratch.met = np.empty(len(self.ids), np.int32)
        mask = np.ones(0, np.bool_) if allowed is None else allowed
        rows, scores = best_rows(
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


def _top_of_few(
    starts: np.ndarray,
    rows: np.ndarray,
    impacts: np.ndarray,
    numbers: np.ndarray,
    idf: np.ndarray,
    documents: int,
    allowed: np.ndarray | None,
    limit: int,
) -> tuple[np.ndarray, np.ndarray]:
    """What ``best_rows`` finds, by the sum over all postings of the terms."""
    scores = np.zeros(documents, np.float32)
    for number, weight in zip(numbers, idf, strict=True):
        own = slice(starts[number], starts[number + 1])
        scores[rows[own]] += weight * impacts[own]
    found = np.flatnonzero(scores if allowed is None else scores * allowed)
    best = found[np.lexsort((found, -scores[found]))[:limit]]
    return best, scores[best]
