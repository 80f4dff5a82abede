"""Opening the database: SQLite by default, PostgreSQL by URL; migrated to the newest tables on the way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from alembic import command
from alembic.config import Config as AlembicConfig
from sqlalchemy import CursorResult, Engine, Update, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, OperationalError
from sqlalchemy.orm import Session as OrmSession
from sqlalchemy.orm import sessionmaker

from paperworks.errors import InputError

MIGRATIONS = Path(__file__).parent / "migrations"
BUSY_SECONDS = 30


class Database:
    """An engine and its sessions. One per process; safe to use from any thread."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        # On SQLite a transaction that reads first and writes then can fail at once when another wrote in between;
        # one that takes the write lock at its start waits its turn.
        writing = engine.execution_options(sqlite_begin="BEGIN IMMEDIATE")
        self._sessions = sessionmaker(writing, expire_on_commit=False)
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


def rows_changed(session: OrmSession, statement: Update) -> int:
    """Execute an UPDATE; returns how many rows it changed."""
    return cast("CursorResult[Any]", session.execute(statement)).rowcount


def open_database(url: str, migrate: bool = True) -> Database:
    """Connect to ``url`` and bring its tables to the newest version.

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
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        options["connect_args"] = {"timeout": BUSY_SECONDS, "check_same_thread": False}
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


def _prepare_sqlite(connection: Any, record: Any) -> None:
    connection.isolation_level = None  # transactions are begun below, not by the driver
    cursor = connection.cursor()
    # WAL: readers never wait for the writer. NORMAL: a power cut can lose the last commits but never the file.
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", f"busy_timeout={BUSY_SECONDS * 1000}"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Any) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("sqlite_begin", "BEGIN"))


def _migrate(engine: Engine) -> None:
    config = AlembicConfig()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
