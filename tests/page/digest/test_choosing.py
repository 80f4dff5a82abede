"""Which papers a digest shows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import numpy as np
import pytest
from digest_helpers import TODAY

from paperworks.page.database import Database, Entry
from paperworks.page.digest import choose_papers


def subjects(count: int):
    """Vectors in which an entry's subject is its id modulo ``count``."""

    def vectors(ids: Sequence[int]) -> np.ndarray:
        noise = np.random.default_rng(0).normal(size=(len(ids), count)) * 0.01
        found = np.eye(count)[[i % count for i in ids]] + noise
        return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)

    return vectors


def choose(database: Database, **options) -> list[Entry]:
    with database.reading() as session:
        return choose_papers(session, options.pop("tags", ()), TODAY, options.pop("frequency", "daily"), **options)


def test_without_vectors_the_most_trending_of_the_day(database: Database) -> None:
    assert [e.title[:7] for e in choose(database, vectors=None)] == [f"Paper {n}" for n in range(5)]


def test_one_paper_of_each_subject_and_the_most_trending_of_it(database: Database) -> None:
    with database.session() as session:
        for n, entry in enumerate(session.query(Entry).order_by(Entry.trend.desc())):
            entry.trend = 1000.0 - n
    chosen = choose(database, vectors=subjects(5), frequency="weekly")
    assert len({e.id % 5 for e in chosen}) == 5
    best = {s: max(e.trend for e in all_entries(database) if e.id % 5 == s) for s in range(5)}
    assert {e.id % 5: e.trend for e in chosen} == best
    assert [e.trend for e in chosen] == sorted(best.values(), reverse=True)


def all_entries(database: Database) -> list[Entry]:
    with database.reading() as session:
        return list(session.query(Entry))


def test_a_digest_asked_for_twice_is_the_same(database: Database) -> None:
    first, again = (choose(database, vectors=subjects(7), frequency="weekly") for _ in range(2))
    assert [e.id for e in first] == [e.id for e in again]


def test_tags_period_and_what_was_mailed_before(database: Database) -> None:
    assert {e.tag_names[0] for e in choose(database, vectors=None, tags=["tag1"])} == {"tag1"}
    today = choose(database, vectors=None)
    assert all(e.listed == TODAY for e in today)
    rest = choose(database, vectors=None, seen=[e.id for e in today])
    assert not {e.id for e in rest} & {e.id for e in today}
    assert len(choose(database, vectors=None, tags=["tag1"], count=9)) == 9  # the month fills up what the day lacks
    assert choose(database, vectors=None, tags=["none"]) == []


def test_a_fresh_page_has_a_digest(database: Database) -> None:
    """The papers of the catalogue are years old: no period of a digest holds them."""
    with database.session() as session:
        for entry in session.query(Entry):
            entry.listed = TODAY - timedelta(days=900 + entry.id)
            entry.works = entry.id % 2 == 0
    chosen = choose(database, vectors=None)
    assert [(e.works, e.trend) for e in chosen] == [(True, 99.0 - 2 * n) for n in range(5)]
    rest = choose(database, vectors=None, seen=[e.id for e in chosen])
    assert not {e.id for e in rest} & {e.id for e in chosen}
    with database.session() as session:
        session.get(Entry, chosen[0].id).withdrawn = True
        session.get(Entry, chosen[1].id).hidden = True
    assert not {e.id for e in choose(database, vectors=None)} & {e.id for e in chosen[:2]}


@pytest.mark.parametrize("count", [1, 3, 8])
def test_equal_vectors_still_give_the_count(database: Database, count: int) -> None:
    chosen = choose(database, vectors=lambda ids: np.ones((len(ids), 4), np.float32) / 2, count=count)
    assert [e.title[:7] for e in chosen] == [f"Paper {n}" for n in range(count)]
