"""The database of a page under test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from page_databases import fresh_postgres


@pytest.fixture
def database_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """What the setting ``database`` is: nothing (SQLite in the page's folder), or a fresh PostgreSQL database."""
    if getattr(request, "param", "sqlite") == "sqlite":
        yield ""
        return
    with fresh_postgres() as url:
        yield url
