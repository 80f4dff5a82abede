"""Vectors beside the database, in a faiss index: on SQLite, and on a PostgreSQL without pgvector."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from paperworks.embedding.vectors import VectorIndex
from paperworks.page.database import EntryVector

PER_READ = 500


class FaissVectors:
    """All vectors of the table ``entry_vectors``, in memory."""

    def __init__(self, model: str, width: int) -> None:
        self._model = model
        self._width = width
        self._index: VectorIndex | None = None

    def make(self, session: Session) -> None:
        """Nothing is needed in the database."""

    def replace(self, session: Session, vectors: dict[int, np.ndarray]) -> None:
        """Nothing: ``set_changes`` reads them."""

    def remove(self, session: Session, ids: Sequence[int]) -> None:
        """Nothing: what is not an entry is never shown."""

    def load(self, session: Session, file: Path | None) -> None:
        """Read all vectors: from the file if it is there and whole, else from the database."""
        if file is not None and file.is_file():
            try:
                self._index = VectorIndex.load(file)
                return
            except RuntimeError:
                pass  # a damaged file: the database has it all
        counted = select(func.count()).select_from(EntryVector).where(EntryVector.model == self._model)
        total, read = session.scalar(counted) or 0, 0
        ids = np.empty(total, np.int64)
        vectors = np.empty((total, self._width), np.float32)
        rows = session.execute(
            select(EntryVector.entry_id, EntryVector.vector)
            .where(EntryVector.model == self._model)
            .order_by(EntryVector.entry_id)
            .execution_options(yield_per=PER_READ)
        )
        for read, (identity, blob) in enumerate(islice(rows, total), 1):  # what came since then is a change to follow
            ids[read - 1] = identity
            vectors[read - 1] = np.frombuffer(blob, "<f4")
        self._index = VectorIndex(ids[:read], vectors[:read])

    def save(self, file: Path) -> None:
        """Write the index that ``load`` read."""
        assert self._index is not None
        self._index.save(file)

    def set_changes(self, session: Session, ids: Sequence[int]) -> None:
        """Take these entries' vectors as they are now."""
        assert self._index is not None
        found = read_vectors(session, ids, self._model)
        self._index.remove(np.asarray(ids, np.int64))
        if found:
            self._index.replace(np.asarray(list(found), np.int64), np.stack(list(found.values())))

    def search(
        self, session: Session, vector: np.ndarray, limit: int, allowed: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The nearest ids and their cosines, of ``allowed`` ids if given."""
        assert self._index is not None
        return self._index.nearest(vector, limit, allowed)


def read_vectors(session: Session, ids: Sequence[int], model: str) -> dict[int, np.ndarray]:
    """The stored vectors of these entries."""
    found: dict[int, np.ndarray] = {}
    for start in range(0, len(ids), PER_READ):
        rows = session.execute(
            select(EntryVector.entry_id, EntryVector.vector).where(
                EntryVector.entry_id.in_([int(i) for i in ids[start : start + PER_READ]]), EntryVector.model == model
            )
        )
        found |= {identity: np.frombuffer(blob, "<f4").astype(np.float32) for identity, blob in rows}
    return found
