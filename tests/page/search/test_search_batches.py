"""Questions that are answered together have the answers that each has alone."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from sqlalchemy import event, text

from paperworks.page.database import Database
from paperworks.page.feed import IncomingPaper, upsert
from paperworks.page.search import Hit, SearchIndex, open_search

ASKED: list[dict[str, Any]] = [
    {"query": "ice snow"},
    {"query": "ice snow", "limit": 1},
    {"query": "ice snow", "mode": "words"},
    {"query": "ice snow", "mode": "meaning"},
    {"query": "feline ship", "tags": ["cats"]},
    {"query": "feline ship", "organisation": "ETH"},
    {"query": '"seen from above"'},
    {"query": "nothing of the kind anywhere", "mode": "words"},
    {"query": "ship number", "limit": 5},
    {"query": "ship number", "limit": 5, "mode": "words", "after": (1, 10_000)},
    {"query": "ship number", "limit": 200},
]


@pytest.fixture
def search(database: Database, papers: list[int], encoder) -> SearchIndex:
    with database.session() as session:
        for i in range(150):
            upsert(session, IncomingPaper(f"Ship ship ship number {i} of many", "Ship."))
    search = open_search(database, encoder)
    search.refresh()
    with database.session() as session:  # most of the best are hidden: one read is not enough for them
        session.execute(text("UPDATE entries SET hidden = true WHERE title LIKE 'Ship ship%' AND id % 7 > 0"))
    return search


def test_together_as_alone(search: SearchIndex, database: Database, encoder) -> None:
    alone = open_search(database, encoder)
    right = [alone.search(**one) for one in ASKED]
    assert [len(hits) > 0 for hits in right].count(False) <= 2
    assert len(right[8]) == len(right[9]) == 5
    encoder.encoded.clear()
    questions: list[Any] = []
    search._answer = questions.append  # type: ignore[assignment, method-assign]
    for one in ASKED:
        search.search(**one)
    assert search._answers_to(questions) == right
    assert sorted(encoder.encoded) == sorted({q.query for q in questions if q.by_meaning})


def test_titles_are_read_once_for_all(search: SearchIndex, database: Database) -> None:
    questions: list[Any] = []
    search._answer = questions.append  # type: ignore[assignment, method-assign]
    for word in ("ice", "music", "feline", "tree", "automobile"):
        search.search(word, limit=1, mode="meaning")
    seen: list[str] = []

    def keep(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        seen.append(statement)

    event.listen(database.engine, "before_cursor_execute", keep)
    answers = search._answers_to(questions)
    event.remove(database.engine, "before_cursor_execute", keep)
    assert [len(hits) for hits in answers] == [1] * 5
    assert len([s for s in seen if "entries.abstract" in s]) == 1


def test_many_readers_have_the_answers_of_one(search: SearchIndex, database: Database, encoder) -> None:
    alone = open_search(database, encoder)
    words = ["ice", "ship", "music", "forest", "kitten", "routes", "old summers", "car", "play", "number 7"]
    found: dict[str, list[Hit]] = {}
    batches: list[int] = []
    inner = search._answer._answer

    def slowly(questions: list[Any]) -> list[list[Hit]]:
        batches.append(len(questions))
        deadline = time.monotonic() + 10
        while database.is_sqlite and len(batches) == 1 and len(search._answer._waiting) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        return inner(questions)

    search._answer._answer = slowly
    threads = [threading.Thread(target=lambda w=w: found.update({w: search.search(w)})) for w in words]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == {word: alone.search(word) for word in words}
    assert sum(batches) == len(words)
    if database.is_sqlite:
        assert batches[0] == 1
        assert batches[1] >= 3
