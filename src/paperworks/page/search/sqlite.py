"""Words on SQLite: an FTS5 table in the database, ranked by BM25 in memory.

FTS5 keeps the words transactionally with the entries, and finds phrases. Its own ranking takes microseconds per
document that has one of the words, which many readers at once cannot wait for; so the postings are read from FTS5's
vocabulary into ``Postings``, which gives the same scores. Entries that changed since they were read are in a second,
small ``Postings`` beside the large one; the words of both come out of FTS5's tokenizer.
"""

from __future__ import annotations

import re
import sqlite3
import threading
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from sqlalchemy import text
from sqlalchemy.orm import Session

from paperworks.embedding.postings import Postings, inverse_frequency
from paperworks.page.search.text import MOST_TERMS, EntryText

TITLE_WEIGHT = 2.0
TOKENIZER = "porter unicode61 remove_diacritics 2"
_COLUMNS = f"title, abstract, rest, tokenize = '{TOKENIZER}'"
_WEIGHTS = {"title": TITLE_WEIGHT}
_PHRASE = re.compile(r'"([^"]+)"')


class SqliteWords:
    """The words of the entries of an SQLite database."""

    def __init__(self) -> None:
        self._base: Postings | None = None
        self._delta: Postings | None = None
        self._current: np.ndarray | None = None  # rows that are as they were loaded; None for all
        self._terms = _Terms()

    def make(self, session: Session) -> None:
        """Create the FTS5 table and its vocabulary where they are missing."""
        session.execute(text(f"CREATE VIRTUAL TABLE IF NOT EXISTS search_words USING fts5({_COLUMNS})"))
        session.execute(
            text("CREATE VIRTUAL TABLE IF NOT EXISTS search_vocabulary USING fts5vocab(search_words, 'instance')")
        )

    def replace(self, session: Session, texts: dict[int, EntryText]) -> None:
        """Index entries anew."""
        self.remove(session, list(texts))
        if texts:
            session.execute(
                text("INSERT INTO search_words(rowid, title, abstract, rest) VALUES (:id, :title, :abstract, :rest)"),
                [{"id": i, **t._asdict()} for i, t in texts.items()],
            )

    def remove(self, session: Session, ids: Sequence[int]) -> None:
        """Take entries out."""
        if ids:
            session.execute(text("DELETE FROM search_words WHERE rowid = :id"), [{"id": i} for i in ids])

    def load(self, session: Session, file: Path | None) -> None:
        """Read all postings: from the file if it is there and whole, else from the database."""
        if file is not None and file.is_file():
            try:
                self._set(Postings.load(file))
                return
            except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
                pass  # a damaged file: the database has it all
        rows = session.connection().exec_driver_sql("SELECT term, doc, col FROM search_vocabulary")
        self._set(Postings.build((term, doc, _WEIGHTS.get(col, 1.0)) for term, doc, col in rows))

    def save(self, file: Path) -> None:
        """Write the postings that ``load`` read."""
        assert self._base is not None
        self._base.save(file)

    def set_changes(self, session: Session, ids: Sequence[int]) -> None:
        """Rank these entries by what they say now, not by what was loaded."""
        assert self._base is not None
        current = ~np.isin(self._base.ids, np.asarray(ids, np.int64)) if ids else None
        delta = None
        if ids:
            rows: list[tuple[int, str, str, str]] = []
            for start in range(0, len(ids), 500):
                marks = ",".join(str(int(i)) for i in ids[start : start + 500])
                found = session.execute(
                    text(f"SELECT rowid, title, abstract, rest FROM search_words WHERE rowid IN ({marks})")
                )
                rows += [tuple(row) for row in found]  # type: ignore[misc]
            delta = Postings.build(_occurrences(rows), self._base.mean_length)
        self._current, self._delta = current, delta

    def search(
        self, session: Session, query: str, limit: int, allowed: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The best ids and their BM25 scores, of ``allowed`` ids if given. A phrase in quotes must be there."""
        base, delta, current = self._base, self._delta, self._current
        assert base is not None
        terms = self._terms(query)
        phrases = _PHRASE.findall(query)
        if phrases:
            having = self._with_phrases(session, phrases)
            allowed = having if allowed is None else np.intersect1d(allowed, having)
        rows = len(base) + (len(delta) if delta is not None else 0)
        idf = {
            term: inverse_frequency(rows, base.frequency(term) + (delta.frequency(term) if delta is not None else 0))
            for term in terms
        }
        mask = current
        if allowed is not None:
            mask = np.isin(base.ids, allowed) if current is None else current & np.isin(base.ids, allowed)
        ids, scores = base.top(idf, limit, mask)
        if delta is not None:
            more, values = delta.top(idf, limit, None if allowed is None else np.isin(delta.ids, allowed))
            ids, scores = np.concatenate([ids, more]), np.concatenate([scores, values])
            order = np.lexsort((ids, -scores))[:limit]
            ids, scores = ids[order], scores[order]
        return ids, scores

    def _with_phrases(self, session: Session, phrases: Sequence[str]) -> np.ndarray:
        wanted = " AND ".join('"' + " ".join(re.findall(r"\w+", p)) + '"' for p in phrases if re.search(r"\w", p))
        if not wanted:
            return np.empty(0, np.int64)
        found = session.execute(text("SELECT rowid FROM search_words WHERE search_words MATCH :q"), {"q": wanted})
        return np.fromiter((row[0] for row in found), np.int64)

    def _set(self, base: Postings) -> None:
        self._base, self._delta, self._current = base, None, None


def _occurrences(rows: Iterable[tuple[int, str, str, str]]) -> Iterator[tuple[str, int, float]]:
    """What FTS5 makes of texts, in an index of their own in memory."""
    connection = sqlite3.connect(":memory:")
    try:
        connection.execute(f"CREATE VIRTUAL TABLE words USING fts5({_COLUMNS})")
        connection.execute("CREATE VIRTUAL TABLE vocabulary USING fts5vocab(words, 'instance')")
        connection.executemany("INSERT INTO words(rowid, title, abstract, rest) VALUES (?, ?, ?, ?)", rows)
        for term, document, column in connection.execute("SELECT term, doc, col FROM vocabulary"):
            yield term, document, _WEIGHTS.get(column, 1.0)
    finally:
        connection.close()


class _Terms:
    """The terms of a query as FTS5's tokenizer makes them; each thread has a tokenizer of its own."""

    def __init__(self) -> None:
        self._own = threading.local()

    def __call__(self, query: str) -> list[str]:
        connection = getattr(self._own, "connection", None)
        if connection is None:
            connection = self._own.connection = sqlite3.connect(":memory:", isolation_level=None)
            connection.execute(f"CREATE VIRTUAL TABLE words USING fts5(text, tokenize = '{TOKENIZER}')")
            connection.execute("CREATE VIRTUAL TABLE vocabulary USING fts5vocab(words, 'row')")
        connection.execute("BEGIN")
        connection.execute("INSERT INTO words(rowid, text) VALUES (1, ?)", (query,))
        terms = [row[0] for row in connection.execute("SELECT term FROM vocabulary")]
        connection.execute("ROLLBACK")
        return terms[:MOST_TERMS]
