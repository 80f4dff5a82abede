"""Search by words (BM25) and by meaning (embeddings), fused by reciprocal rank."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np

RRF_CONSTANT = 60
"""The k of Cormack, Clarke and Buettcher, SIGIR 2009: it keeps one list's first place from deciding alone."""


def reciprocal_rank_fusion(rankings: Sequence[Sequence[int]], constant: int = RRF_CONSTANT) -> list[tuple[int, float]]:
    """Fuse rankings (each a list of items, best first) by the sum of 1 / (constant + rank), rank from 1.

    Returns (item, score), best first; equal scores keep the order of the items' numbers.
    """
    scores: dict[int, float] = {}
    for ranking in rankings:
        for rank, item in enumerate(ranking, constant + 1):
            scores[item] = scores.get(item, 0.0) - 1.0 / rank
    return [(item, -score) for score, item in sorted((score, item) for item, score in scores.items())]


_LUCENE = (
    "a an and are as at be but by for if in into is it no not of on or such that the their then there these they this "
    "to was will with"
)
STOP_WORDS = frozenset(_LUCENE.split())
"""The English stop words of Lucene."""


class HybridIndex:
    """Search over a list of texts.

    Parameters
    ----------
    texts : what is searched; results are positions in this list.
    encode : from texts to unit vectors [n, d]; None leaves BM25 alone.
    """

    def __init__(self, texts: Sequence[str], encode: Callable[[Sequence[str]], np.ndarray] | None = None) -> None:
        self._texts = list(texts)
        self._encode = encode

    def by_words(self, query: str) -> list[tuple[int, float]]:
        """Texts that share a (stemmed) word with the query, with their BM25 scores, best first.

        Stop words of the query are left out. The scores are those of SQLite's full-text index (k1 = 1.2, b = 0.75).
        """
        words = [word for word in re.findall(r"\w+", query.lower()) if word not in STOP_WORDS]
        if not words:
            return []
        match = " OR ".join(f'"{word}"' for word in words)
        found = self._words.execute("SELECT rowid, -rank FROM texts WHERE texts MATCH ? ORDER BY rank, rowid", [match])
        return [(rowid, score) for rowid, score in found]

    @cached_property
    def _words(self) -> sqlite3.Connection:
        index = sqlite3.connect(":memory:")
        index.execute("CREATE VIRTUAL TABLE texts USING fts5(text, tokenize='porter unicode61')")
        index.executemany("INSERT INTO texts (rowid, text) VALUES (?, ?)", enumerate(self._texts))
        return index

    def by_meaning(self, query: str) -> list[tuple[int, float]]:
        """All texts with the cosine of their embedding to the query's, best first. Needs ``encode``."""
        assert self._encode is not None
        vectors = self._encode([*self._texts, query])
        cosines = vectors[:-1] @ vectors[-1]
        return [(int(i), float(cosines[i])) for i in np.argsort(-cosines, kind="stable")]

    def search(self, query: str, limit: int = 10) -> list[tuple[int, float]]:
        """The best ``limit`` positions with their scores: BM25's without an encoder, fused ones with it."""
        words = self.by_words(query)
        if self._encode is None:
            return words[:limit]
        meaning = self.by_meaning(query)
        return reciprocal_rank_fusion([[i for i, _ in words], [i for i, _ in meaning]])[:limit]
