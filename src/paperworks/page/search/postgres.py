"""Words and vectors on PostgreSQL: a tsvector with a GIN index, and pgvector with an HNSW index.

Words are ranked by ``ts_rank_cd``. Documents with all words of the query come first; where these are too few, those
with any of them follow, of which at most ``MOST_RANKED`` are looked at: ranking reads every document that it ranks.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from paperworks.page.search.text import EntryText

MOST_RANKED = 2000
EXACT_BELOW = 20_000
SEARCH_WIDTH = 200
"""hnsw.ef_search: so many candidates are kept during a search."""
RANK_NORMALISATION = 1  # divide by 1 + log(length)
_PHRASE = re.compile(r'"([^"]+)"')
# A tsvector holds at most 1 MiB of words.
_DOCUMENT = """setweight(to_tsvector('english', :title), 'A')
    || setweight(to_tsvector('english', :abstract), 'B') || setweight(to_tsvector('english', :rest), 'C')"""


class PostgresWords:
    """The words of the entries of a PostgreSQL database. Nothing is kept in memory."""

    def make(self, session: Session) -> None:
        """Create the table and its index where they are missing."""
        session.execute(
            text("CREATE TABLE IF NOT EXISTS search_words (entry_id integer PRIMARY KEY, words tsvector NOT NULL)")
        )
        session.execute(text("CREATE INDEX IF NOT EXISTS search_words_gin ON search_words USING gin (words)"))

    def replace(self, session: Session, texts: dict[int, EntryText]) -> None:
        """Index entries anew."""
        if texts:
            session.execute(
                text(
                    f"INSERT INTO search_words (entry_id, words) VALUES (:id, {_DOCUMENT}) "
                    "ON CONFLICT (entry_id) DO UPDATE SET words = excluded.words"
                ),
                [{"id": i, **t._asdict()} for i, t in texts.items()],
            )

    def remove(self, session: Session, ids: Sequence[int]) -> None:
        """Take entries out."""
        if ids:
            session.execute(text("DELETE FROM search_words WHERE entry_id = ANY(:ids)"), {"ids": [int(i) for i in ids]})

    def load(self, session: Session, file: Path | None) -> None:
        """Nothing: the database has it."""

    def save(self, file: Path) -> None:
        """Nothing: the database has it."""

    def set_changes(self, session: Session, ids: Sequence[int]) -> None:
        """Nothing: the database has them."""

    def search(
        self, session: Session, query: str, limit: int, allowed: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The best ids and their ranks, of ``allowed`` ids if given. A phrase in quotes must be there."""
        values: dict[str, object] = {"q": query.replace('"', " "), "limit": limit, "most": MOST_RANKED}
        phrases = [p for p in _PHRASE.findall(query) if re.search(r"\w", p)]
        required = "".join(f" AND words @@ phraseto_tsquery('english', :p{i})" for i in range(len(phrases)))
        values |= {f"p{i}": phrase for i, phrase in enumerate(phrases)}
        if allowed is not None:
            required += " AND entry_id = ANY(:allowed)"
            values["allowed"] = [int(i) for i in allowed]
        every = "plainto_tsquery('english', :q)"
        found: dict[int, float] = {}
        # Documents with all words rank above all others: ts_rank_cd does not know how rare a word is.
        for bonus, wanted in ((1.0, every), (0.0, f"replace({every}::text, '&', '|')::tsquery")):
            rows = session.execute(
                text(
                    f"WITH found AS MATERIALIZED (SELECT entry_id, words FROM search_words "
                    f"WHERE words @@ {wanted}{required} LIMIT :most) "
                    f"SELECT entry_id, ts_rank_cd(words, {wanted}, {RANK_NORMALISATION}) AS score FROM found "
                    f"ORDER BY score DESC, entry_id LIMIT :limit"
                ),
                values,
            )
            for identity, score in rows:
                found.setdefault(identity, bonus + float(score))
            if len(found) >= limit:
                break
        ids = np.fromiter(found, np.int64, len(found))
        scores = np.fromiter(found.values(), np.float32, len(found))
        order = np.argsort(-scores, kind="stable")[:limit]
        return ids[order], scores[order]


class PostgresVectors:
    """The vectors of the entries, in a table of pgvector."""

    def __init__(self, width: int) -> None:
        self._width = width

    @staticmethod
    def available(session: Session) -> bool:
        """Whether the server has pgvector and lets us use it."""
        if session.execute(text("SELECT 1 FROM pg_extension WHERE extname = 'vector'")).first():
            return True
        if not session.execute(text("SELECT 1 FROM pg_available_extensions WHERE name = 'vector'")).first():
            return False
        try:
            with session.begin_nested():
                session.execute(text("CREATE EXTENSION IF NOT EXISTS vector"))
        except DBAPIError:  # only the database's owner may
            return False
        return True

    def make(self, session: Session) -> None:
        """Create the table and its index where they are missing."""
        session.execute(
            text(
                "CREATE TABLE IF NOT EXISTS search_meaning "
                f"(entry_id integer PRIMARY KEY, meaning vector({self._width}) NOT NULL)"
            )
        )
        session.execute(
            text(
                "CREATE INDEX IF NOT EXISTS search_meaning_hnsw "
                "ON search_meaning USING hnsw (meaning vector_cosine_ops)"
            )
        )

    def replace(self, session: Session, vectors: dict[int, np.ndarray]) -> None:
        """Index vectors anew."""
        if vectors:
            session.execute(
                text(
                    "INSERT INTO search_meaning (entry_id, meaning) VALUES (:id, CAST(:vector AS vector)) "
                    "ON CONFLICT (entry_id) DO UPDATE SET meaning = excluded.meaning"
                ),
                [{"id": i, "vector": _literal(v)} for i, v in vectors.items()],
            )

    def remove(self, session: Session, ids: Sequence[int]) -> None:
        """Take entries out."""
        if ids:
            session.execute(
                text("DELETE FROM search_meaning WHERE entry_id = ANY(:ids)"), {"ids": [int(i) for i in ids]}
            )

    def load(self, session: Session, file: Path | None) -> None:
        """Nothing: the database has it."""

    def save(self, file: Path) -> None:
        """Nothing: the database has it."""

    def set_changes(self, session: Session, ids: Sequence[int]) -> None:
        """Nothing: the database has them."""

    def search(
        self, session: Session, vector: np.ndarray, limit: int, allowed: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The nearest ids and their cosines, of ``allowed`` ids if given."""
        values: dict[str, object] = {"vector": _literal(vector), "limit": limit}
        common, source = "", "search_meaning"
        if allowed is not None:
            values["allowed"] = [int(i) for i in allowed]
            # All of few are compared: the index would be asked for the nearest of all, and few of them be allowed.
            kept = "MATERIALIZED" if len(allowed) <= EXACT_BELOW else "NOT MATERIALIZED"
            common = (
                f"WITH allowed_meaning AS {kept} "
                "(SELECT entry_id, meaning FROM search_meaning WHERE entry_id = ANY(:allowed)) "
            )
            source = "allowed_meaning"
        session.execute(text(f"SET LOCAL hnsw.ef_search = {max(SEARCH_WIDTH, min(limit, 1000))}"))
        nearest = f"{common}SELECT entry_id, meaning <=> CAST(:vector AS vector) AS distance FROM {source}"
        rows = session.execute(text(f"{nearest} ORDER BY distance LIMIT :limit"), values).all()
        return (
            np.array([r.entry_id for r in rows], np.int64),
            np.array([1.0 - r.distance for r in rows], np.float32),
        )


def _literal(vector: np.ndarray) -> str:
    return "[" + ",".join(f"{x:.7g}" for x in vector) + "]"
