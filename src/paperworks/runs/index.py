"""An index of finished runs in SQLite: what a listing shows, without opening every report.

It holds nothing that the runs' folders do not. Where it cannot be read or written (a read-only or a full disk), the
folders are read instead.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

Row = tuple[str, str, str, float | None, str, dict[str, Any]]
"""Id, slug, start, seconds, headline and metrics of a run."""


class RunIndex:
    """The index at ``path``. No method raises for what is wrong with the file: the folders are the truth."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def rows(self) -> list[Row]:
        """All rows; none where the index cannot be read."""
        with self._connection() as index:
            if index is None:
                return []
            found = index.execute("SELECT id, slug, started, seconds, headline, metrics FROM runs").fetchall()
            return [
                (i, slug, started, seconds, text, json.loads(metrics))
                for i, slug, started, seconds, text, metrics in found
            ]
        return []

    def update(self, add: Iterable[Row] = (), remove: Iterable[str] = ()) -> None:
        """Add or replace rows, and remove others, in one transaction; nothing happens where it cannot be written."""
        with self._connection() as index:
            if index is None:
                return
            with index:
                index.executemany("DELETE FROM runs WHERE id = ?", [(run_id,) for run_id in remove])
                index.executemany(
                    "INSERT OR REPLACE INTO runs VALUES (?, ?, ?, ?, ?, ?)",
                    [(*row[:5], json.dumps(dict(row[5]))) for row in add],
                )

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection | None]:
        connection = self._open()
        if connection is None:
            yield None
            return
        with closing(connection), suppress(sqlite3.Error):
            yield connection

    def _open(self) -> sqlite3.Connection | None:
        try:
            return _open(self.path)
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorname not in ("SQLITE_NOTADB", "SQLITE_CORRUPT"):
                return None  # busy, read-only or full: the file may be whole
        with suppress(OSError, sqlite3.Error):
            os.replace(self.path, self.path.with_name(f"index.broken-{int(time.time())}.sqlite"))
            return _open(self.path)
        return None


def _open(path: Path) -> sqlite3.Connection:
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path, timeout=30)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS runs (id TEXT PRIMARY KEY, slug TEXT NOT NULL, started TEXT NOT NULL, "
            "seconds REAL, headline TEXT NOT NULL, metrics TEXT NOT NULL)"
        )
    except sqlite3.Error:
        connection.close()
        raise
    return connection
