"""Search by words (BM25) and by meaning (embeddings), fused by reciprocal rank."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

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
        self._bm25: Any = None

    def by_words(self, query: str) -> list[tuple[int, float]]:
        """Texts that share a (stemmed) word with the query, with their BM25 scores, best first."""
        import bm25s
        import Stemmer

        stemmer = Stemmer.Stemmer("english")
        if self._bm25 is None:
            self._bm25 = bm25s.BM25()
            self._bm25.index(
                bm25s.tokenize(self._texts, stopwords="en", stemmer=stemmer, show_progress=False), show_progress=False
            )
        tokens = bm25s.tokenize([query], stopwords="en", stemmer=stemmer, show_progress=False, return_ids=False)
        known = [[t for t in tokens[0] if t in self._bm25.vocab_dict]]
        if not known[0]:
            return []
        scores = self._bm25.get_scores(known[0])
        order = np.argsort(-scores, kind="stable")
        return [(int(i), float(scores[i])) for i in order if scores[i] > 0]

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
