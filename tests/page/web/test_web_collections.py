"""Collections that readers make and share, and the week's view with what newly works."""

from __future__ import annotations

import re
from datetime import date

import pytest
from fastapi import FastAPI
from sqlalchemy import select
from web_helpers import LOCAL, Browser, become_member

from paperworks.page.community import collections
from paperworks.page.database import Collection, CollectionEntry, Entry, User
from paperworks.page.feed import newly_working, periods, seed_catalogue

PAPER = "/papers/2611.00007"


def new(browser: Browser, title: str, **fields: str) -> str:
    """Make a collection; returns its path."""
    answer = browser.submit("/collections", "/collections", title=title, **fields)
    assert answer.status_code == 200, answer.text
    return answer.url.path


def title_of(browser: Browser, arxiv: str) -> str:
    with browser.page.database.session() as session:
        return session.scalars(select(Entry.title).where(Entry.arxiv == arxiv)).one()


def test_a_collection_is_made_filled_changed_and_removed(member: Browser) -> None:
    assert "You have no collection yet" in member.get("/collections").text
    path = new(member, "  Gardens \n of  2026 ", text="What to read.\n\nFirst of all.")
    assert "<h1>Gardens of 2026</h1>" in member.get(path).text
    member.submit(f"{path}{PAPER}", PAPER, on="1")
    member.submit(f"{path}{PAPER}", PAPER, on="1")
    text = member.get(path).text
    assert text.count('<article class="card') == 1
    assert title_of(member, "2611.00007") in text
    assert "In it" in member.get(PAPER).text
    member.submit(f"{path}/edit", path, title="Beds", text="", shared="1")
    assert "<h1>Beds</h1>" in member.get(path).text
    answer = member.submit(f"{path}{PAPER}", path, on="0")
    assert answer.url.path == path
    assert "Nothing is in it yet" in answer.text
    assert member.submit(f"{path}/remove", path).url.path == "/collections"
    assert member.get(path).status_code == 404


def test_a_collection_begins_beside_a_paper(member: Browser) -> None:
    answer = member.submit("/collections", PAPER, title="Beside", paper="2611.00007")
    assert answer.url.path == PAPER
    assert re.search(r'aria-pressed="true" aria-label="In Beside"', answer.text)
    assert "1 paper" in member.get("/collections").text


def test_only_what_is_shared_is_seen_by_others(
    member: Browser, visitor: Browser, public_app: FastAPI, password_hash: str
) -> None:
    own = new(member, "Only mine")
    shared = new(member, "For all", shared="1")
    for path in (own, shared):
        member.submit(f"{path}{PAPER}", PAPER, on="1")
    other = Browser(public_app, str(member.base_url))
    become_member(other, password_hash)
    for reader in (visitor, other):
        assert reader.get(own).status_code == 404
        text = reader.get(shared).text
        assert "For all" in text
        assert "Change or remove" not in text
        listed = reader.get("/collections").text
        assert "For all" in listed
        assert "Only mine" not in listed
    for action, fields in ((PAPER, {"on": "1"}), ("/edit", {"title": "Mine now"}), ("/remove", {})):
        for path in (own, shared):
            assert other.submit(f"{path}{action}", "/collections", **fields).status_code == 404
    member.submit(f"{shared}/edit", shared, title="For all")
    assert visitor.get(shared).status_code == 404


def test_without_a_log_in_nothing_is_made(visitor: Browser, local_app: FastAPI) -> None:
    answer = visitor.post("/collections", data={"csrf": visitor.token("/log-in"), "title": "x"}, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/log-in?next=%2F")
    assert "Collections" in visitor.get("/collections").text
    stranger = Browser(local_app, LOCAL, owner=False)
    assert "A new collection" not in stranger.get("/collections").text


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"title": " \t "}, "found nothing; expected 1 to 120 characters"),
        ({"title": "x" * 121}, "found 121 characters"),
        ({"title": "kept", "text": "y" * 2001}, "found 2001 characters; expected at most 2000"),
    ],
)
def test_what_cannot_be_used_is_said_beside_what_was_typed(member: Browser, fields: dict[str, str], said: str) -> None:
    answer = member.submit("/collections", "/collections", **fields)
    assert answer.status_code == 422
    assert said in answer.text
    assert f'value="{fields["title"].strip()}"' in answer.text.replace(" \t ", "")
    path = new(member, "Good")
    assert member.submit(f"{path}/edit", path, **fields).status_code == 422
    assert "<h1>Good</h1>" in member.get(path).text


def test_markup_in_a_collection_is_text(member: Browser) -> None:
    path = new(member, "<script>alert(1)</script>", text="<img src=x onerror=alert(1)>", shared="1")
    member.submit(f"{path}{PAPER}", PAPER, on="1")
    for page in (path, "/collections", PAPER):
        text = member.get(page).text
        assert "<script>alert" not in text
        assert "<img src=x" not in text


def test_there_are_limits(member: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collections, "MOST_COLLECTIONS", 2)
    monkeypatch.setattr(collections, "MOST_ENTRIES", 1)
    path = new(member, "First")
    member.submit(f"{path}{PAPER}", PAPER, on="1")
    full = member.submit(f"{path}/papers/2611.00005", PAPER, on="1")
    assert full.status_code == 422
    new(member, "Second")
    assert "2 collections of yours" in member.submit("/collections", "/collections", title="Third").text


def test_collections_go_with_their_account_and_their_papers(member: Browser) -> None:
    path = new(member, "Going")
    member.submit(f"{path}{PAPER}", PAPER, on="1")
    name = path.rpartition("/")[2]
    with member.page.database.session() as session:
        row = session.get(Collection, name)
        assert row is not None
        user = session.get(User, row.user_id)
        session.delete(user)
    with member.page.database.session() as session:
        assert session.get(Collection, name) is None
        assert session.scalars(select(CollectionEntry).where(CollectionEntry.collection_id == name)).all() == []


def test_the_week_shows_what_newly_works(local: Browser) -> None:
    with local.page.database.session() as session:
        works = session.scalars(select(Entry).where(Entry.works.is_(True)).order_by(Entry.id)).all()
        before = {entry.id: entry.works_since for entry in works}
        assert all(before.values())
        works[0].works_since = date(2031, 1, 8)
        title, tag = works[0].title, works[0].tag_names[0]
    try:
        local.page.clear_cache()
        text = local.get("/?period=week").text
        assert "Week of" in text
        assert "Newly working here" in text
        assert title[:20] in text
        assert "Newly working here" in local.get("/", params={"period": "week", "tag": tag}).text
        assert "Newly working here" not in local.get("/?period=week&tag=garden").text
        assert "Newly working here" not in local.get("/?period=month").text
        with local.page.database.session() as session:
            monday = date(2031, 1, 6)
            assert newly_working(session, monday, date(2031, 1, 12)) == [works[0].id]
            assert periods(session)["week"][0].first == monday
    finally:
        with local.page.database.session() as session:
            for entry in session.scalars(select(Entry).where(Entry.id.in_(before))):
                entry.works_since = before[entry.id]
        local.page.clear_cache()


def test_the_day_on_which_a_paper_begins_to_work_is_noted_once(local: Browser) -> None:
    database = local.page.database

    def since(slug: str) -> date | None:
        with database.session() as session:
            return session.scalars(select(Entry.works_since).where(Entry.slug == slug)).one()

    with database.session() as session:
        entry = session.scalars(select(Entry).where(Entry.works.is_(True)).order_by(Entry.id)).first()
        assert entry is not None
        slug, before = entry.slug, entry.works_since
        first = entry.works_since = date(2020, 2, 3)
    assert slug is not None
    seed_catalogue(database)
    assert since(slug) == first
    with database.session() as session:
        session.scalars(select(Entry).where(Entry.slug == slug)).one().works = False
    seed_catalogue(database)
    assert since(slug) != first  # it works again, since today
    with database.session() as session:
        session.scalars(select(Entry).where(Entry.slug == slug)).one().works_since = before
