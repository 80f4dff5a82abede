"""From a video to the written procedures that it may show: an inverted index over content words (step 1a)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from paperworks.papers.sieve_swap.procedures import Procedure
from paperworks.papers.sieve_swap.words import content_words

Match = Literal["lexical", "title", "global"]


@dataclass(frozen=True)
class Candidates:
    """Procedures that pass, best recall first, and the best recall of all."""

    procedures: np.ndarray
    recall: np.ndarray
    iou: np.ndarray
    best_recall: float
    nearest: int


class ProcedureIndex:
    """Which procedures have which content word.

    Parameters
    ----------
    procedures : the collection.
    match : "lexical" takes the words of title, steps and ingredients; "title" those of the title.
    """

    def __init__(self, procedures: Sequence[Procedure], match: Match = "lexical") -> None:
        self.match = match
        self._vocabulary: dict[str, int] = {}
        sizes = np.zeros(len(procedures), np.int64)
        words: list[np.ndarray] = []
        for number, procedure in enumerate(procedures):
            own = content_words(procedure.title) if match == "title" else procedure.words()
            sizes[number] = len(own)
            ids = [self._vocabulary.setdefault(word, len(self._vocabulary)) for word in sorted(own)]
            words.append(np.array(ids, np.int32))
        flat = np.concatenate(words) if words else np.empty(0, np.int32)
        owner = np.repeat(np.arange(len(procedures), dtype=np.int32), sizes)
        order = np.argsort(flat, kind="stable")
        self._rows = owner[order]
        self._starts = np.searchsorted(flat[order], np.arange(len(self._vocabulary) + 1))
        self.sizes = sizes

    def lookup(
        self, text: str, *, min_iou: float = 0.1, min_recall: float = 0.3, most: int = 50, title: str = ""
    ) -> Candidates:
        """Procedures with ``|A and B| / |A or B| >= min_iou`` and ``|A and B| / |B| >= min_recall``.

        A are the content words of ``text`` (the whole transcript), B those of the procedure. With "title" matching, A
        are the words of the video's title; a video without a title is represented by its transcript, of which a title
        is always a small part, so that only the recall counts.

        Returns
        -------
        Candidates : at most ``most``, by recall, then IoU, then their order.
        """
        by_title = self.match == "title"
        words = content_words(title if by_title and title else text)
        known = [self._vocabulary[word] for word in words if word in self._vocabulary]
        hits = np.zeros(len(self.sizes), np.int64)
        for word in known:  # a procedure has a word once at most
            hits[self._rows[self._starts[word] : self._starts[word + 1]]] += 1
        union = len(words) + self.sizes - hits
        iou = hits / np.maximum(union, 1)
        recall = hits / np.maximum(self.sizes, 1)
        floor = 0.0 if by_title and not title else min_iou
        passing = np.flatnonzero((hits > 0) & (iou >= floor) & (recall >= min_recall))
        order = passing[np.lexsort((passing, -iou[passing], -recall[passing]))][:most]
        nearest = int(np.argmax(recall)) if len(recall) else -1
        return Candidates(order, recall[order], iou[order], float(recall[nearest]) if nearest >= 0 else 0.0, nearest)
