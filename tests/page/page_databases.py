"""Fresh databases of both kinds for tests."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import create_engine, make_url, text

both_databases = pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)
"""Runs a test on SQLite, and on PostgreSQL where PAPERWORKS_TEST_POSTGRES names a server."""
on_postgres = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


@contextmanager
def fresh_postgres() -> Iterator[str]:
    """The URL of a new database of the server; skips the test where there is none."""
    server = os.environ.get("PAPERWORKS_TEST_POSTGRES")
    if not server:
        pytest.skip("PAPERWORKS_TEST_POSTGRES is not set (scripts/temporary_postgres.py sets it)")
    name = f"test_{secrets.token_hex(6)}"
    admin = create_engine(make_url(server).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    try:
        yield make_url(server).set(database=name).render_as_string(hide_password=False)
    finally:
        with admin.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        admin.dispose()
