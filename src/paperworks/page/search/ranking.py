"""From a question to its hits: two rankings, fused by reciprocal rank, and what is shown of each entry."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from paperworks.embedding import reciprocal_rank_fusion
from paperworks.page.database import AMONG_IDS, Entry
from paperworks.page.feed.listing import filters
from paperworks.page.search.postgres import PostgresVectors, PostgresWords
from paperworks.page.search.sqlite import SqliteWords
from paperworks.page.search.text import Highlighter, shown_text
from paperworks.page.search.vectors import FaissVectors
from paperworks.page.tex import to_plain

Mode = Literal["hybrid", "words", "meaning"]
DEPTH = 100
"""So many of each ranking are fused: the same for every page of the results, so that they are pages of one order."""
FUSION_CONSTANT = 10
"""The constant of the fusion: chosen among 5, 10, 20, 30 and 60 on queries that the quality benchmark does not use."""
LEAST_COSINE = 0.15
"""Entries farther than this from a query are not said to be near it in meaning."""
MOST_HITS = 200

_TABLE = Entry.__table__
_BY_ID = select(_TABLE.c.id, _TABLE.c.title, _TABLE.c.summary, _TABLE.c.abstract).where(
    _TABLE.c.id.in_(bindparam("ids", expanding=True))
)
_VISIBLE_BY_ID = _BY_ID.where(AMONG_IDS)


@dataclass(frozen=True)
class Hit:
    """One result. ``snippet_html_safe`` is escaped HTML with ``<mark>``; ``matched_by`` says which rankings have it.

    The score is only for comparison with the others of the same search.
    """

    entry_id: int
    score: float
    snippet_html_safe: str
    matched_by: tuple[str, ...]


@dataclass(frozen=True)
class Question:
    """What is asked, in the terms of ``SearchIndex.search``. Equal questions have the same answer."""

    query: str
    tags: tuple[str, ...]
    works: bool | None
    organisation: str | None
    limit: int
    mode: Mode
    after: tuple[int, int] | None

    @property
    def restricted(self) -> bool:
        """Whether only some entries may be found; otherwise only the hidden ones, which are few, may not."""
        return bool(self.tags) or self.works is not None or self.organisation is not None

    @property
    def by_meaning(self) -> bool:
        """Whether a query's vector is wanted; a phrase is searched as it stands."""
        return self.mode != "words" and '"' not in self.query


@dataclass(frozen=True)
class Ranked:
    """The order of a question's entries with their scores, and which ranking has them."""

    order: list[tuple[int, float]]
    found_by: dict[str, set[int]]
    conditions: Sequence[Any] | None
    """Of the entries that may be shown; None for all that are not hidden."""

    def hits(self, question: Question, texts: dict[int, tuple[str, str]]) -> list[Hit]:
        """The first ones of which there is a title and an abstract."""
        show = Highlighter(question.query).snippet
        return [
            Hit(i, score, show(*texts[i]), tuple(name for name, ids in self.found_by.items() if i in ids))
            for i, score in [pair for pair in self.order if pair[0] in texts][: question.limit]
        ]


def rank(
    session: Session,
    question: Question,
    vector: np.ndarray | None,
    words: SqliteWords | PostgresWords,
    vectors: FaissVectors | PostgresVectors | None,
) -> Ranked:
    """Rank by words, by meaning where there is a ``vector`` [d] of the query, or by both."""
    conditions = filters(question.tags, question.works, question.organisation) if question.restricted else None
    allowed = None
    if conditions is not None:
        allowed = np.fromiter(session.scalars(select(Entry.id).where(*conditions)), np.int64)
    by_words = question.mode != "meaning" or vector is None
    rankings: dict[str, list[int]] = {}
    scores: dict[str, np.ndarray] = {}
    depth = DEPTH if by_words and vector is not None else MOST_HITS
    if by_words:
        ids, scores["words"] = words.search(session, question.query, depth, allowed)
        rankings["words"] = ids.tolist()
    if vector is not None and vectors is not None:
        ids, cosines = vectors.search(session, vector, depth, allowed)
        near = cosines >= LEAST_COSINE
        rankings["meaning"], scores["meaning"] = ids[near].tolist(), cosines[near]
    if len(rankings) > 1:
        order = reciprocal_rank_fusion(list(rankings.values()), FUSION_CONSTANT)
    else:
        ((name, only),) = rankings.items()
        order = list(zip(only, scores[name].tolist(), strict=True))
    if question.after is not None:
        before, last = question.after
        order = order[next((n for n, (i, _) in enumerate(order) if i == last), before) + 1 :]
    return Ranked(order, {name: set(found) for name, found in rankings.items()}, conditions)


def hits_of(session: Session, questions: Sequence[Question], ranked: Sequence[Ranked]) -> list[list[Hit]]:
    """The hits of questions: the titles and abstracts that all of them need are read at once."""
    # Rarely is one of the first hidden: most of the time one read is enough.
    first = [[i for i, _ in r.order[: q.limit + q.limit // 4 + 2]] for q, r in zip(questions, ranked, strict=True)]
    shared: dict[int, tuple[str, str]] = {}
    if ids := {i for own, r in zip(first, ranked, strict=True) if r.conditions is None for i in own}:
        shared = _texts(session, ids, None)
    answers = []
    for question, own, r in zip(questions, first, ranked, strict=True):
        texts = (
            {i: shared[i] for i in own if i in shared} if r.conditions is None else _texts(session, own, r.conditions)
        )
        step = max(len(own), 1)
        for start in range(step, len(r.order), step):
            if len(texts) >= question.limit:
                break
            texts |= _texts(session, [i for i, _ in r.order[start : start + step]], r.conditions)
        answers.append(r.hits(question, texts))
    return answers


def _texts(session: Session, ids: Iterable[int], conditions: Sequence[Any] | None) -> dict[int, tuple[str, str]]:
    """Title and abstract of those of these entries that may be shown."""
    query = _VISIBLE_BY_ID if conditions is None else _BY_ID.where(*conditions)
    rows = session.execute(query, {"ids": list(ids)})
    return {row.id: (to_plain(row.title), shown_text(row.summary, row.abstract)) for row in rows}
