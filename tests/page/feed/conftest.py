"""A database, and local servers that speak the formats of the sources."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from feed_helpers import Clock, Site

from paperworks.page.database import Database, open_database
from paperworks.page.feed.importers import PoliteClient, SourceUrls
from paperworks.page.settings import Settings


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = open_database(f"sqlite:///{tmp_path / 'page.sqlite'}")
    yield opened
    opened.close()


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    yield site
    site.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def client(site: Site, clock: Clock) -> Iterator[PoliteClient]:
    client = PoliteClient(
        "owner@example.org", SourceUrls(arxiv=f"{site.url}/api/query", huggingface=site.url), clock.sleep, clock
    )
    yield client
    client.close()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(folder=tmp_path, contact="owner@example.org")
