"""Rate limits and reactions at the database: exact counts, also from many threads at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

import pytest
from sqlalchemy import select

from paperworks.page.community.limits import Limit, hit
from paperworks.page.community.reactions import reactions_of, set_bookmark, set_vote, withdraw_votes
from paperworks.page.database import Database, Entry, RateCount, User, Vote, open_database

THREE = Limit("three", 3, 100, "tries")


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Database:
    folder: Path = tmp_path_factory.mktemp("community")
    database = open_database(f"sqlite:///{folder / 'page.sqlite'}")
    with database.session() as session:
        for n in range(1, 9):
            session.add(User(id=n, email=f"{n}@example.org", name=f"User {n}"))
        for n in range(1, 4):
            session.add(Entry(id=n, key=f"k{n}", title=f"Paper {n}", listed=date(2026, 1, n)))
    return database


def test_a_limit_counts_to_its_number_and_begins_anew(database: Database) -> None:
    with database.session() as session:
        waits = [hit(session, b"key", THREE, "ada", moment=1000.0 + n) for n in range(5)]
        assert waits == [None, None, None, 97, 96]
        assert hit(session, b"key", THREE, "grace", moment=1001.0) is None
        assert hit(session, b"key", Limit("other", 3, 100, "x"), "ada", moment=1001.0) is None
        assert hit(session, b"key", THREE, "ada", moment=1100.0) is None


def test_who_is_counted_is_not_written_down(database: Database) -> None:
    with database.session() as session:
        hit(session, b"key", THREE, "ada@example.org")
        rows = session.scalars(select(RateCount)).all()
    assert not [row.key for row in rows if "ada" in row.key]
    assert max(len(row.key) for row in rows) <= 120


def test_many_at_once_do_not_pass_a_limit(database: Database) -> None:
    limit = Limit("rush", 7, 10_000, "tries")

    def once(n: int) -> bool:
        with database.session() as session:
            return hit(session, b"key", limit, "everybody", moment=5000.0) is None

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(once, range(30))) == 7


def test_votes_are_counted_as_their_rows_are(database: Database) -> None:
    def vote(user_id: int) -> None:
        for on in (True, True, False, True) if user_id % 2 else (True, False, False):
            with database.session() as session:
                set_vote(session, 1, user_id, on)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(vote, range(1, 9)))
    with database.reading() as session:
        assert session.get_one(Entry, 1).upvotes == 4
        assert set(session.scalars(select(Vote.user_id).where(Vote.entry_id == 1))) == {1, 3, 5, 7}
    with database.session() as session:
        set_vote(session, 2, 1, True)
        trend = session.get_one(Entry, 2).trend
        withdraw_votes(session, 1)
        session.expire_all()
        assert session.get_one(Entry, 1).upvotes == 3
        assert session.get_one(Entry, 2).upvotes == 0
        assert session.get_one(Entry, 2).trend < trend


def test_reactions_are_told_of_the_listed_entries_only(database: Database) -> None:
    with database.session() as session:
        set_vote(session, 3, 2, True)
        set_bookmark(session, 2, 2, True)
        assert reactions_of(session, 2, [2, 3]) == ({3}, {2})
        assert reactions_of(session, 2, [1]) == (set(), set())
        assert reactions_of(session, 4, [2, 3]) == (set(), set())
        set_bookmark(session, 2, 2, False)
        assert reactions_of(session, 2, [2, 3]) == ({3}, set())
