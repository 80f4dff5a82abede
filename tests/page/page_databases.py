"""Fresh databases of both kinds for tests."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import make_url

from paperworks.page.database import open_database

both_databases = pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)
"""Runs a test on SQLite, and on PostgreSQL where PAPERWORKS_TEST_POSTGRES names a server."""
on_postgres = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


_migrated: dict[str, str] = {}
"""By server, a database whose copies have the page's tables: to migrate each anew takes half a second."""


@contextmanager
def fresh_postgres(empty: bool = False) -> Iterator[str]:
    """The URL of a new database of the server, with the page's tables or empty; skips the test where there is none."""
    server = os.environ.get("PAPERWORKS_TEST_POSTGRES")
    if not server:
        pytest.skip("PAPERWORKS_TEST_POSTGRES is not set (scripts/temporary_postgres.py sets it)")
    if server not in _migrated:
        name = f"migrated_{secrets.token_hex(6)}"
        _execute(server, f"CREATE DATABASE {name}")
        _migrated[server] = name
        open_database(_url(server, name)).close()
    name = f"test_{secrets.token_hex(6)}"
    _execute(server, f"CREATE DATABASE {name} TEMPLATE {'template1' if empty else _migrated[server]}")
    try:
        yield _url(server, name)
    finally:
        _execute(server, f"DROP DATABASE {name} WITH (FORCE)")


def drop_migrated() -> None:
    """Remove what the fresh databases were copied from."""
    while _migrated:
        server, name = _migrated.popitem()
        _execute(server, f"DROP DATABASE {name} WITH (FORCE)")


def _url(server: str, name: str) -> str:
    return make_url(server).set(database=name).render_as_string(hide_password=False)


def _execute(server: str, statement: str) -> None:
    import psycopg

    with psycopg.connect(make_url(server).set(drivername="postgresql").render_as_string(hide_password=False)) as opened:
        opened.autocommit = True
        opened.execute(statement)
