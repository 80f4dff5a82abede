"""A page's database with the tiny paper in its feed, and a store of runs."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from paperworks.page.database import Database, Entry, User, open_database
from paperworks.page.settings import Settings
from paperworks.runs import Store


@pytest.fixture
def settings(home: Path, database_url: str) -> Settings:
    return Settings(run_seconds=60, database=database_url)


@pytest.fixture
def database(settings: Settings, tiny_paper: Path) -> Database:
    database = open_database(settings.database_url)
    with database.session() as session:
        session.add(Entry(key="arxiv:0001.00001", slug="tiny-paper", title="A tiny paper", listed=date(2020, 1, 2)))
        session.add(User(id=1, name="reader"))
    return database


@pytest.fixture
def store(home: Path) -> Store:
    return Store()
