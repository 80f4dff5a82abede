"""One paper, one entry: whatever the sources, their order and how often they are imported."""

from __future__ import annotations

import math
from datetime import date, timedelta
from itertools import permutations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, func, select

from paperworks import catalog
from paperworks.errors import InputError
from paperworks.page.database import Bookmark, Comment, Database, Entry, EntryKey, User, Vote, now
from paperworks.page.feed import (
    FeedQuery,
    IncomingPaper,
    list_entries,
    organisations,
    periods,
    refresh_trends,
    seed_catalogue,
    tag_counts,
    trend_score,
    upsert,
)
from paperworks.page.feed.keys import arxiv_id, normal_doi, normal_title
from paperworks.page.feed.listing import period_of
from paperworks.page.feed.trend import REFERENCE, entry_trend

TITLE = "Attention with Fewer Words: a Study"
SOURCES = [
    IncomingPaper(
        TITLE,
        "From arXiv.",
        arxiv="2401.00001v2",
        authors=["A. Bee", "C. Dee"],
        tags=["cs.LG"],
        published=date(2024, 1, 1),
        source="arxiv",
    ),
    IncomingPaper(
        TITLE.upper(), "From the hub.", arxiv="2401.00001", upvotes=12, comments=2, listed=date(2024, 1, 5), source="hf"
    ),
    IncomingPaper("Attention with fewer words – a study", "From a paste.", author_count=2, comments=3, source="paste"),
    IncomingPaper(TITLE, url="https://arxiv.org/abs/2401.00001v1", doi="10.1000/XYZ", source="feed:x"),
]


def content(database: Database) -> list[tuple]:
    with database.reading() as session:
        return [
            (
                e.title,
                e.abstract,
                e.arxiv,
                tuple(e.authors),
                e.author_count,
                e.published,
                e.listed,
                e.source,
                tuple(e.tag_names),
                e.upvotes_elsewhere,
                e.comments_elsewhere,
                e.url,
            )
            for e in session.scalars(select(Entry))
        ]


def test_the_order_of_sources_does_not_matter(database: Database) -> None:
    seen = set()
    for order in permutations(SOURCES):
        with database.session() as session:
            session.execute(delete(Entry))
        with database.session() as session:
            changes = [upsert(session, paper) for paper in order]
            assert changes[0] == "added"
            assert [upsert(session, paper) for paper in order] == ["unchanged"] * len(order)
        (entry,) = content(database)
        seen.add(entry)
        with database.reading() as session:
            keys = set(session.scalars(select(EntryKey.key)))
        assert keys == {"arxiv:2401.00001", "doi:10.1000/xyz", f"title:{normal_title(TITLE)}"}
    assert len(seen) == 1
    assert next(iter(seen))[:6] == (
        TITLE,
        "From arXiv.",
        "2401.00001",
        ("A. Bee", "C. Dee"),
        2,
        date(2024, 1, 1),
    )


def test_same_title_other_arxiv_id_is_another_paper(database: Database) -> None:
    with database.session() as session:
        assert upsert(session, IncomingPaper(TITLE, arxiv="2401.00001")) == "added"
        assert upsert(session, IncomingPaper(TITLE, arxiv="2402.00002")) == "added"
        assert upsert(session, IncomingPaper(TITLE, arxiv="2402.00002")) == "unchanged"


def test_short_titles_name_a_paper_only_alone(database: Database) -> None:
    with database.session() as session:
        assert upsert(session, IncomingPaper("Foreword", url="https://a.example/1")) == "added"
        assert upsert(session, IncomingPaper("Foreword", url="https://b.example/2")) == "added"
        assert upsert(session, IncomingPaper("Preface")) == "added"
        assert upsert(session, IncomingPaper("Preface")) == "unchanged"


def test_entries_that_turn_out_to_be_one_are_merged(database: Database) -> None:
    with database.session() as session:
        upsert(session, IncomingPaper("An early title of the paper", "Long.", arxiv="2401.00001", source="arxiv"))
        upsert(session, IncomingPaper("The later title of the paper", comments=4, tags=["x"], source="paste"))
        users = [User(name=f"u{i}") for i in range(3)]
        session.add_all(users)
        session.flush()
        session.add_all([Vote(entry_id=1, user_id=users[0].id), Vote(entry_id=2, user_id=users[0].id)])
        session.add_all([Vote(entry_id=2, user_id=users[1].id), Bookmark(entry_id=2, user_id=users[2].id)])
        session.add(Comment(entry_id=2, user_id=users[0].id, text="well"))
        session.flush()
        later = IncomingPaper("The later title of the paper", "Longer.", arxiv="2401.00001v2", source="arxiv")
        assert upsert(session, later) == "updated"
    with database.reading() as session:
        (entry,) = session.scalars(select(Entry))
        assert (entry.id, entry.upvotes, entry.comments, entry.comments_elsewhere) == (1, 2, 1, 4)
        assert (entry.title, entry.tag_names) == ("The later title of the paper", ["x"])
        assert session.scalar(select(func.count()).select_from(Bookmark)) == 1
        assert set(session.scalars(select(EntryKey.entry_id))) == {1}


@pytest.mark.parametrize(
    ("paper", "field"),
    [
        (IncomingPaper(" \n "), "title"),
        (IncomingPaper("…!"), "title"),
        (IncomingPaper(TITLE, arxiv="hello"), "arxiv"),
        (IncomingPaper(TITLE, doi="11.1/x"), "doi"),
        (IncomingPaper(TITLE, upvotes=-1), "upvotes"),
        (IncomingPaper(TITLE, published=date(1000, 1, 1)), "published"),
    ],
)
def test_papers_that_cannot_be_used(database: Database, paper: IncomingPaper, field: str) -> None:
    with database.session() as session, pytest.raises(InputError) as raised:
        upsert(session, paper)
    assert raised.value.field == field


def test_addresses_that_a_page_must_not_link_to(database: Database) -> None:
    with database.session() as session:
        upsert(session, IncomingPaper(TITLE, url="javascript:alert(1)", repository="file:///etc/passwd"))
        entry = session.scalars(select(Entry)).one()
        assert (entry.url, entry.repository) == ("", "")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    title=st.text(min_size=1, max_size=600),
    abstract=st.text(max_size=100),
    tags=st.lists(st.text(max_size=70), max_size=4),
    authors=st.lists(st.text(max_size=20), max_size=3),
)
def test_any_text_is_stored_once_or_refused(database: Database, title, abstract, tags, authors) -> None:
    paper = IncomingPaper(title, abstract, tags=tags, authors=authors, source="jsonl")
    with database.session() as session:
        try:
            first = upsert(session, paper)
        except InputError:
            return
        assert first in ("added", "updated", "unchanged")
        assert upsert(session, paper) == "unchanged"


@pytest.mark.parametrize(
    "text",
    [
        "2401.15024",
        "2401.15024v3",
        "arXiv:2401.15024",
        "https://arxiv.org/abs/2401.15024v2",
        "arxiv.org/pdf/2401.15024.pdf",
        "https://huggingface.co/papers/2401.15024",
        "https://www.alphaxiv.org/abs/2401.15024v1",
        "alphaxiv.org/overview/2401.15024",
        "https://www.alphaxiv.org/pdf/2401.15024",
        "https://www.alphaxiv.org/zh/overview/2401.15024v2",
        "https://export.arxiv.org/abs/2401.15024",
        "https://cn.arxiv.org/pdf/2401.15024v1.pdf",
        "http://xxx.lanl.gov/abs/2401.15024",
        "https://ar5iv.labs.arxiv.org/html/2401.15024",
        "https://ar5iv.org/abs/2401.15024",
        "https://arxiv.org/html/2401.15024v2",
        "https://arxiv.org/e-print/2401.15024",
        "https://arxiv.org/abs/2401.15024/",
        "https://hf.co/papers/2401.15024",
        "https://scirate.com/arxiv/2401.15024",
        "https://papers.cool/arxiv/2401.15024",
        "10.48550/arXiv.2401.15024",
        "https://doi.org/10.48550/arXiv.2401.15024",
    ],
)
def test_arxiv_ids(text: str) -> None:
    assert arxiv_id(text) == "2401.15024"


def test_what_is_no_arxiv_id() -> None:
    assert arxiv_id("math.GT/0309136v1") == "math.GT/0309136"
    for text in ("", "2401.1", "24011.15024", "https://example.org/abs/2401.15024", "2401.15024; rm", "../2401.15024"):
        assert arxiv_id(text) is None
    assert normal_doi("https://doi.org/10.1000/ABC") == "10.1000/abc"


def test_the_catalogue_is_there(database: Database) -> None:
    papers = catalog.papers()
    assert seed_catalogue(database).added == len(papers)
    again = seed_catalogue(database)
    assert (again.added, again.updated, again.unchanged) == (0, 0, len(papers))
    with database.session() as session:
        entries = {e.slug: e for e in session.scalars(select(Entry))}
        for paper in papers:
            entry = entries[paper.slug]
            assert (entry.works, entry.claims_held, entry.claims_total) == (
                paper.works,
                paper.claims_held,
                len(paper.claims),
            )
            assert entry.tag_names == sorted(paper.tags)
        changed = entries[papers[0].slug]
        changed.claims_held = 99
        changed.works = not changed.works
    assert seed_catalogue(database).updated == 1
    with database.session() as session:  # a weaker source adds what is missing and replaces nothing
        title = papers[0].title
        upsert(session, IncomingPaper(title.upper(), "x", upvotes=7, source="paste"))
        entry = session.scalars(select(Entry).where(Entry.slug == papers[0].slug)).one()
        assert (entry.title, entry.upvotes_elsewhere) == (title, 7)
    assert seed_catalogue(database).updated == 0


counts = st.integers(0, 10_000)


@given(counts, counts, counts, st.floats(-1e5, 1e5))
def test_trend_formula(upvotes: int, comments: int, runs: int, age: float) -> None:
    score = trend_score(upvotes, comments, runs, age)
    assert score == pytest.approx(math.log2(1 + upvotes + 2 * comments + 3 * runs) - age / 72)
    for more in ((1, 0, 0), (0, 1, 0), (0, 0, 1)):
        assert trend_score(upvotes + more[0], comments + more[1], runs + more[2], age) > score
    assert trend_score(upvotes, comments, runs, age + 1) < score
    doubled = trend_score(2 * upvotes + 1, 2 * comments, 2 * runs, age + 72)
    assert doubled == pytest.approx(score)  # twice the interest makes up for three days


def test_stored_trends(database: Database) -> None:
    with database.session() as session:
        upsert(session, IncomingPaper(TITLE, listed=REFERENCE + timedelta(days=3), upvotes=7))
        entry = session.scalars(select(Entry)).one()
        assert entry.trend == pytest.approx(trend_score(7, 0, 0, -72))
        entry.runs = 2
        assert refresh_trends(session, now()) == 1
        assert entry.trend == pytest.approx(trend_score(7, 0, 2, -72))
        assert refresh_trends(session, now()) == 0
        entry.listed = date(2999, 1, 1)
        assert entry_trend(entry, now()) < trend_score(7, 0, 2, -24 * 10_000)


@pytest.fixture
def filled(database: Database) -> Database:
    with database.session() as session:
        for i in range(47):
            upsert(
                session,
                IncomingPaper(
                    f"A paper that has the number {i}",
                    listed=date(2026, 10, 20) + timedelta(days=i // 2),
                    upvotes=i % 5,
                    tags=["even" if i % 2 == 0 else "odd", "all"],
                    organisation="ETH" if i % 3 == 0 else None,
                ),
            )
        for entry in session.scalars(select(Entry)):
            entry.claims_held = entry.id % 4
            entry.works = entry.id % 7 == 0
            entry.hidden = entry.id == 40
    return database


@pytest.mark.parametrize("sort", ["trend", "date", "claims"])
@pytest.mark.parametrize("limit", [1, 7, 46, 100])
def test_pages_are_the_whole_list(filled: Database, sort, limit: int) -> None:
    key = {"trend": "trend", "date": "listed", "claims": "claims_held"}[sort]
    with filled.reading() as session:
        expected = sorted(
            session.scalars(select(Entry).where(Entry.hidden.is_(False))),
            key=lambda e: (getattr(e, key), e.id),
            reverse=True,
        )
        found, cursor = [], None
        while True:
            page = list_entries(session, FeedQuery(sort=sort, limit=limit, cursor=cursor))
            assert page.total == 46
            found += page.entries
            cursor = page.next_cursor
            if cursor is None:
                break
            assert len(page.entries) == limit
    assert [e.id for e in found] == [e.id for e in expected]


def test_a_new_entry_between_pages_repeats_nothing(filled: Database) -> None:
    with filled.session() as session:
        first = list_entries(session, FeedQuery(sort="date", limit=10))
        upsert(session, IncomingPaper("The very newest of all papers", listed=date(2027, 1, 1)))
        second = list_entries(session, FeedQuery(sort="date", limit=10, cursor=first.next_cursor))
        assert not {e.id for e in first.entries} & {e.id for e in second.entries}
        assert first.entries[-1].listed >= second.entries[0].listed


def test_filters_and_periods(filled: Database) -> None:
    with filled.reading() as session:
        visible = list(session.scalars(select(Entry).where(Entry.hidden.is_(False))))

        def ids(**query) -> set[int]:
            return {e.id for e in list_entries(session, FeedQuery(limit=200, **query)).entries}

        assert ids(tags=("even", "all")) == {e.id for e in visible if "even" in e.tag_names}
        assert ids(tags=("even", "odd")) == set()
        assert ids(works=True) == {e.id for e in visible if e.works}
        assert ids(organisation="ETH") == {e.id for e in visible if e.organisation == "ETH"}
        newest = max(e.listed for e in visible)
        for period in ("day", "week", "month"):
            first, last = period_of(newest, period)
            assert ids(period=period) == {e.id for e in visible if first <= e.listed <= last}
            spans = periods(session)[period]
            assert sum(s.count for s in spans) == len(visible)
            for span in spans:
                assert len(ids(period=period, start=span.first)) == span.count
        assert dict(tag_counts(session))["all"] == len(visible)
        assert organisations(session) == [("ETH", sum(e.organisation == "ETH" for e in visible))]


@given(st.dates(date(1, 1, 8), date(9999, 12, 24)))
def test_period_of(day: date) -> None:
    first, last = period_of(day, "week")
    assert first <= day <= last
    assert (first.weekday(), (last - first).days) == (0, 6)
    first, last = period_of(day, "month")
    assert (first.month, first.day, last.month) == (day.month, 1, day.month)
    assert (last + timedelta(days=1)).day == 1


@given(st.text(max_size=80) | st.sampled_from(["W10", "bnVsbA", "WyJ0cmVuZCIsIE5hTiwgMV0", "WyJ0cmVuZCIsIDEsIHRydWVd"]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_other_cursors_are_refused(database: Database, cursor: str) -> None:
    with database.reading() as session, pytest.raises(InputError, match="cursor"):
        list_entries(session, FeedQuery(cursor=cursor))


def test_other_queries_are_refused() -> None:
    for field, value in (("period", "year"), ("sort", "name"), ("limit", 0), ("limit", 201)):
        with pytest.raises(InputError, match=field):
            FeedQuery(**{field: value})


def test_the_abstract_of_a_paper_of_the_catalogue_stands_beside_our_summary(database: Database) -> None:
    seed_catalogue(database)
    paper = next(p for p in catalog.papers() if p.arxiv and p.summary)
    paste = IncomingPaper(paper.title, "A line from a page.", comments=6, listed=date(2024, 1, 27), source="paste")
    arxiv = IncomingPaper("Title of arXiv's", "The authors' abstract.", arxiv=paper.arxiv, source="arxiv")
    for incoming in (paste, arxiv, paste):
        with database.session() as session:
            upsert(session, incoming)
        with database.reading() as session:
            entry = session.scalars(select(Entry).where(Entry.slug == paper.slug)).one()
            assert (entry.title, entry.summary) == (paper.title, paper.summary)
    assert (entry.abstract, entry.comments_elsewhere, entry.listed) == ("The authors' abstract.", 6, date(2024, 1, 27))
    assert (seed_catalogue(database).updated, entry.text) == (0, paper.summary)
