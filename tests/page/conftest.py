"""The database of a page under test, and what makes a new one quickly."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import pytest
from page_databases import drop_migrated, fresh_postgres
from sqlalchemy import Engine

from paperworks.page.database import connection


@pytest.fixture
def database_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """What the setting ``database`` is: nothing (SQLite in the page's folder), or a fresh PostgreSQL database."""
    if getattr(request, "param", "sqlite") == "sqlite":
        yield ""
        return
    with fresh_postgres() as url:
        yield url


@pytest.fixture(scope="session", autouse=True)
def migrated_once() -> Iterator[None]:
    """The first new SQLite file is migrated, and later ones are copies of it: a page's database is made 300 times."""
    migrate = connection._migrate
    made: list[sqlite3.Connection] = []

    def copy_or_migrate(engine: Engine) -> None:
        if engine.dialect.name != "sqlite":
            migrate(engine)
            return
        with engine.connect() as opened:
            file = opened.connection.driver_connection
            assert isinstance(file, sqlite3.Connection)
            new = not file.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if new and made:
                made[0].backup(file)
        if not (new and made):
            migrate(engine)
        if new and not made:
            made.append(sqlite3.connect(":memory:", check_same_thread=False))
            with engine.connect() as opened:
                file = opened.connection.driver_connection
                assert isinstance(file, sqlite3.Connection)
                file.backup(made[0])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connection, "_migrate", copy_or_migrate)
        yield
    drop_migrated()
