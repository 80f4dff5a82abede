"""Opening the database: SQLite by default, PostgreSQL by URL; migrated to the newest tables on the way."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from sqlalchemy import Connection, CursorResult, Engine, Update, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session as OrmSession
from sqlalchemy.orm import sessionmaker

from paperworks.errors import InputError
from paperworks.page.database.changes import count_changes

MIGRATIONS = Path(__file__).parent / "migrations"
BUSY_SECONDS = 30.0
"""How long a process that works in the background waits for the write lock of SQLite."""
WEB_BUSY_SECONDS = 5.0
"""How long a request waits for it: a thread that waits answers no other reader."""
RETRY_SECONDS = 5
"""When a reader may try again after the database could not be used."""
_SQLITE_AWAY = frozenset(
    (
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_PROTOCOL,
    )
)
_POSTGRES_AWAY = ("08", "40", "53", "57", "58")
"""Classes of SQLSTATE: no connection, undone by a conflict, no resources, operator's intervention, system error."""


class Database:
    """An engine and its sessions. One per process; safe to use from any thread."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        # On SQLite a transaction that reads first and writes then can fail at once when another wrote in between;
        # one that takes the write lock at its start waits its turn.
        writing = engine.execution_options(sqlite_begin="BEGIN IMMEDIATE")
        self._sessions = sessionmaker(writing, expire_on_commit=False)
        count_changes(self._sessions)
        self._reading = sessionmaker(engine, expire_on_commit=False)

    @property
    def is_sqlite(self) -> bool:
        """Whether the database is an SQLite file (else PostgreSQL)."""
        return self.engine.dialect.name == "sqlite"

    @contextmanager
    def session(self, writing: bool = True) -> Iterator[OrmSession]:
        """A session in a transaction: committed at the end of the block, rolled back by an exception.

        On SQLite it holds the write lock from its start. ``writing=False`` is ``reading``: for a block that only reads.
        """
        with (self._sessions if writing else self._reading)() as session, session.begin():
            yield session

    @contextmanager
    def reading(self) -> Iterator[OrmSession]:
        """A session that only reads: one consistent state, which waits for no writer and makes none wait."""
        with self.session(writing=False) as session:
            yield session

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def is_unavailable(error: BaseException) -> bool:
    """Whether the database could not do its work for now: locked, full, out of connections, or away.

    The same work may succeed later. False for errors of the statement or of the data.
    """
    if isinstance(error, PoolTimeout):
        return True
    if not isinstance(error, DBAPIError):
        return False
    if error.connection_invalidated:
        return True
    if isinstance(error.orig, sqlite3.Error):
        return (getattr(error.orig, "sqlite_errorcode", 0) & 0xFF) in _SQLITE_AWAY  # the rest of it says more exactly
    if not isinstance(error, OperationalError):
        return False
    state = getattr(error.orig, "sqlstate", None)
    return state is None or state.startswith(_POSTGRES_AWAY)


def rows_changed(session: OrmSession, statement: Update) -> int:
    """Execute an UPDATE; returns how many rows it changed."""
    return cast("CursorResult[Any]", session.execute(statement)).rowcount


def open_database(url: str, migrate: bool = True, busy_seconds: float = BUSY_SECONDS) -> Database:
    """Connect to ``url`` and bring its tables to the newest version.

    ``busy_seconds`` is how long a transaction waits for the write lock of SQLite. A new SQLite file can be read by its
    owner only.

    Raises InputError for a URL that is neither SQLite's nor PostgreSQL's, and for a server that cannot be reached.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise InputError(
            "database", "text that is not a URL", "sqlite:///FILE or postgresql://USER@HOST/NAME"
        ) from None
    backend = parsed.get_backend_name()
    if backend == "postgresql" and "+" not in parsed.drivername:
        parsed = parsed.set(drivername="postgresql+psycopg")
    elif backend not in ("sqlite", "postgresql"):
        raise InputError("database", backend, "sqlite:///FILE or postgresql://USER@HOST/NAME")
    # The server answers 40 requests at once, each with up to two sessions: with fewer connections than that, requests
    # that hold one and wait for another would wait for each other.
    options: dict[str, Any] = {"pool_pre_ping": backend != "sqlite", "pool_size": 20, "max_overflow": 70}
    if backend == "sqlite":
        if parsed.database and parsed.database != ":memory:":
            try:
                _make_private(Path(parsed.database))
            except OSError as error:
                found = f"{parsed.database}: {error.strerror}"
                raise InputError("database", found, "a file that can be made and written") from None
        options["connect_args"] = {"timeout": busy_seconds, "check_same_thread": False}
    engine = create_engine(parsed, **options)
    if backend == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    try:
        if migrate:
            _migrate(engine)
        else:
            engine.connect().close()
    except OperationalError as error:
        engine.dispose()
        where = parsed.render_as_string(hide_password=True)
        raise InputError("database", f"{where}: {error.orig}", "a database that can be reached") from None
    return Database(engine)


def _make_private(file: Path) -> None:
    """Make an SQLite file, and the folders above it, for their owner only; SQLite's other files take over its mode."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))


def _prepare_sqlite(connection: Any, record: Any) -> None:
    connection.isolation_level = None  # transactions are begun below, not by the driver
    cursor = connection.cursor()
    # WAL: readers never wait for the writer. NORMAL: a power cut can lose the last commits but never the file.
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Any) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("sqlite_begin", "BEGIN"))


def _migrate(engine: Engine) -> None:
    with engine.connect() as connection:
        if _version(connection) == newest_version():
            return
    # Only a new version of the page needs what alembic takes a third of a second to import and to read.
    from alembic import command
    from alembic.config import Config as AlembicConfig

    config = AlembicConfig()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _version(connection: Connection) -> str | None:
    """The version that alembic has written down, or None for a database without tables."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def newest_version() -> str:
    """The version that the migrations here lead to: their files are named by it."""
    return max(file.name.partition("_")[0] for file in (MIGRATIONS / "versions").glob("[0-9]*_*.py"))
