"""Databases of both kinds, and an encoder whose meaning is known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from page_databases import fresh_postgres
from sqlalchemy import text

from paperworks.page.database import Database, open_database
from paperworks.page.feed import IncomingPaper, upsert
from paperworks.page.search import SearchIndex, open_search

CONCEPTS = {
    "car": 0,
    "automobile": 0,
    "vehicle": 0,
    "cat": 1,
    "feline": 1,
    "kitten": 1,
    "boat": 2,
    "ship": 2,
    "tree": 3,
    "forest": 3,
    "music": 4,
    "song": 4,
}


class ConceptEncoder:
    """Words of one concept have one direction; a word of none has a small direction of its own."""

    name = "concepts"
    dimensions = 48

    def __init__(self) -> None:
        self.encoded: list[str] = []

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        self.encoded += texts
        vectors = np.full((len(texts), self.dimensions), 1e-3, np.float32)
        for row, one in enumerate(texts):
            for word in one.lower().split():
                plain = word.strip('.,:"')
                if plain in CONCEPTS:
                    vectors[row, CONCEPTS[plain]] += 1
                else:
                    vectors[row, 8 + sum(plain.encode()) % 40] += 0.05
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def encoder() -> ConceptEncoder:
    return ConceptEncoder()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A fresh database: SQLite, and PostgreSQL where PAPERWORKS_TEST_POSTGRES names a server."""
    if request.param == "sqlite":
        opened = open_database(f"sqlite:///{tmp_path / 'page.sqlite'}")
        yield opened
        opened.close()
        return
    with fresh_postgres() as url:
        opened = open_database(url)
        yield opened
        opened.close()


PAPERS = [
    IncomingPaper(
        "Racing a car on ice", "The automobile slides. Tyres matter.", tags=["cars", "ice"], organisation="ETH"
    ),
    IncomingPaper("The feline mind", "What a kitten learns in its first weeks of play.", tags=["cats"]),
    IncomingPaper("Ship routing", "Routes of a boat across an ocean of <b>waves</b> & wind.", tags=["boats", "ice"]),
    IncomingPaper(
        "Counting trees", "A forest seen from above, one tree at a time.", tags=["trees"], organisation="ETH"
    ),
    IncomingPaper("Writing a song", "Music from rules. Rules from music.", tags=["music"]),
    IncomingPaper("Ice cores of Antarctica", "Layers of snow tell of old summers.", tags=["ice"]),
]


@pytest.fixture
def papers(database: Database) -> list[int]:
    """Six papers; their ids."""
    with database.session() as session:
        for paper in PAPERS:
            assert upsert(session, paper) == "added"
        return list(session.scalars(text("SELECT id FROM entries ORDER BY id")))


@pytest.fixture
def search(database: Database, papers: list[int], encoder) -> SearchIndex:
    search = open_search(database, encoder)
    assert search.refresh() == len(papers)
    return search
