"""Moderation: what is hidden is nowhere, what is edited stays, what is removed stays away, and all is written down."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi import FastAPI
from sqlalchemy import select
from web_helpers import LOCAL, PUBLIC, Browser, Mailbox, become_member

from paperworks.cli import run_command
from paperworks.errors import InputError
from paperworks.page.community import moderation
from paperworks.page.community.moderation import Moderator
from paperworks.page.database import Comment, Database, Entry, ModerationAction, Report, User, open_database
from paperworks.page.digest import choose_papers
from paperworks.page.feed import IncomingPaper, upsert
from paperworks.page.settings import load_settings

TITLE = "A moderated paper on axolotls"
LISTS = (
    "/?tag=axolotl",
    "/search?q=axolotls",
    "/papers/2510.00001",
    "/papers/2510.00001.md",
    "/api/daily_papers?limit=100",
    "/api/papers/search?q=axolotls",
    "/api/papers/2510.00001",
    "/feed.atom?tag=axolotl",
)


@pytest.fixture
def owner(make_page: Callable[..., FastAPI], tmp_path: Path) -> Browser:
    """The one user of a page of their own, with one more paper."""
    app = make_page(load_settings(folder=tmp_path), Mailbox(), tmp_path / "store")
    browser = Browser(app, LOCAL)
    with browser.page.database.session() as session:
        upsert(session, IncomingPaper(TITLE, "Axolotls.", arxiv="2510.00001", tags=["axolotl"], source="arxiv"))
    browser.page.search.refresh()
    return browser


def entry(database: Database) -> Entry | None:
    with database.reading() as session:
        return session.scalar(select(Entry).where(Entry.arxiv == "2510.00001"))


def places(browser: Browser) -> dict[str, bool]:
    """Where the paper is shown."""
    browser.page.clear_cache()
    found = {path: TITLE in browser.get(path).text for path in LISTS}
    found["sitemap"] = "2510.00001" in browser.get("/sitemap.xml").text
    found["tags"] = "axolotl" in browser.get("/tags").text
    with browser.page.database.reading() as session:
        day = entry(browser.page.database).listed
        found["digest"] = TITLE in [e.title for e in choose_papers(session, ["axolotl"], day, "daily", None)]
    return found


def test_a_hidden_paper_is_nowhere_until_it_is_shown_again(owner: Browser) -> None:
    assert {place for place, shown in places(owner).items() if not shown} == set()
    number = entry(owner.page.database).id
    owner.submit(f"/moderation/{number}/hide", f"/moderation/{number}", reason="spam")
    assert {place for place, shown in places(owner).items() if shown} == set()
    with owner.page.database.session() as session:  # an import does not show it
        upsert(session, IncomingPaper(TITLE, "Longer than before.", arxiv="2510.00001", source="arxiv"))
    assert {place for place, shown in places(owner).items() if shown} == set()
    assert TITLE in owner.get("/moderation").text
    owner.submit(f"/moderation/{number}/unhide", "/moderation")
    assert {place for place, shown in places(owner).items() if not shown} == set()
    with owner.page.database.reading() as session:
        actions = [(a.action, a.reason) for a in moderation.history(session, number)]
    assert actions == [("unhide", ""), ("hide", "spam")]


def test_what_is_edited_stays(owner: Browser) -> None:
    database = owner.page.database
    number = entry(database).id
    fields = {
        "title": "A better title of it",
        "abstract": "Ours.",
        "authors": "A. Bee\nC. Dee",
        "published": "2025-10-01",
        "tags": "salamander",
        "organisation": "",
        "url": "https://arxiv.org/abs/2510.00001",
        "repository": "",
    }
    owner.submit(f"/moderation/{number}", f"/moderation/{number}", reason="typo", **fields)
    with database.session() as session:
        upsert(session, IncomingPaper(TITLE, "Theirs.", arxiv="2510.00001", authors=["X"], tags=["y"], source="arxiv"))
    found = entry(database)
    assert (found.title, found.abstract) == ("A better title of it", "Ours.")
    assert (found.authors, found.author_count) == (["A. Bee", "C. Dee"], 2)
    assert (found.tag_names, str(found.published)) == (["salamander"], "2025-10-01")
    with database.reading() as session:
        (action,) = moderation.history(session, number)
    assert action.changes["title"] == [TITLE, "A better title of it"]
    assert (action.action, action.reason) == ("edit", "typo")
    for field, bad in {"title": "…", "published": "2126-01-01", "url": "javascript:alert(1)"}.items():
        answer = owner.submit(f"/moderation/{number}", f"/moderation/{number}", **(fields | {field: bad}))
        assert answer.status_code == 422
        assert field in answer.text
    assert entry(database).title == "A better title of it"


def test_what_is_removed_does_not_come_back(owner: Browser) -> None:
    database = owner.page.database
    number = entry(database).id
    owner.submit(f"/moderation/{number}/remove", f"/moderation/{number}", reason="not a paper")
    assert entry(database) is None
    for again in (
        IncomingPaper(TITLE, arxiv="2510.00001v2", source="arxiv"),
        IncomingPaper(TITLE.upper(), source="paste"),
    ):
        with pytest.raises(InputError, match="removed"), database.session() as session:
            upsert(session, again)
    with database.session() as session:
        assert upsert(session, IncomingPaper(TITLE, arxiv="2511.00002")) == "added", "the same title, but another paper"
        moderation.restore(session, Moderator(), "2510.00001")
        assert upsert(session, IncomingPaper(TITLE, arxiv="2510.00001")) == "added"
        assert [a.action for a in session.scalars(select(ModerationAction))] == ["remove", "restore"]


@pytest.fixture
def public_page(make_page: Callable[..., FastAPI], tmp_path: Path) -> FastAPI:
    settings = load_settings(
        folder=tmp_path,
        public=True,
        secret_key="a secret of a test, long enough to be one",
        allowed_hosts=("papers.example",),
        base_url=PUBLIC,
        moderators=("Boss@example.org",),
    )
    return make_page(settings, Mailbox(), tmp_path / "store")


def test_only_moderators_moderate_and_readers_report(public_page: FastAPI, password_hash: str) -> None:
    reader, boss = Browser(public_page, PUBLIC), Browser(public_page, PUBLIC)
    become_member(reader, password_hash)
    address = become_member(boss, password_hash)
    database = public_page.state.page.database
    with database.session() as session:
        session.scalars(select(User).where(User.email == address)).one().email = "boss@example.org"
        number = session.scalars(select(Entry.id).where(Entry.arxiv == "2611.00005")).one()
        author = session.scalars(select(User.id).where(User.email != address)).first()
        comment = Comment(entry_id=number, user_id=author, text="Buy my walrus")
        session.add(comment)
    visitor = Browser(public_page, PUBLIC)
    for path in ("/moderation", f"/moderation/{number}"):
        assert reader.get(path).status_code == 404
        assert visitor.get(path, follow_redirects=False).status_code == 303
    assert "Edit, hide or remove" not in reader.get("/papers/2611.00005").text
    for path in (f"/moderation/{number}/hide", f"/moderation/{number}", f"/comments/{comment.id}/remove"):
        assert reader.submit(path, reason="x").status_code == 404
    place = "/papers/2611.00005/report"
    assert reader.submit(place, place, reason="  ").status_code == 422
    assert "Thank you" in reader.submit(place, place, reason="spam <b>", comment=str(comment.id)).text
    assert reader.submit(place, place, reason="x", comment="99999").status_code == 422
    page = boss.get("/moderation").text
    assert "spam &lt;b&gt;" in page
    assert "Buy my walrus" in page
    boss.submit(f"/comments/{comment.id}/remove", "/moderation", reason="spam")
    boss.submit("/reports/1/close", "/moderation")
    assert "No report waits" in boss.get("/moderation").text
    assert "Buy my walrus" not in reader.get("/papers/2611.00005").text
    with database.reading() as session:
        assert session.scalars(select(Report)).one().closed is not None
        actions = list(session.scalars(select(ModerationAction)))
    assert {a.action for a in actions} == {"delete comment", "close report"}
    assert "walrus" not in str([a.changes for a in actions])


def test_the_command_line_moderates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"sqlite:///{tmp_path / 'page.sqlite'}"
    database = open_database(url)
    with database.session() as session:
        upsert(session, IncomingPaper(TITLE, arxiv="2510.00001", source="arxiv"))

    def run(*words: str) -> int:
        return run_command(["feed", *words, "--database", url])

    assert run("hide", "2510.00001", "--reason", "spam") == 0
    assert entry(database).hidden
    assert run("edit", "2510.00001", "--title", "Another title of it", "--tags", "a,b") == 0
    assert (entry(database).title, entry(database).tag_names) == ("Another title of it", ["a", "b"])
    assert run("unhide", "2510.99999") == 2
    assert "paper" in capsys.readouterr().err
    assert run("remove", "https://arxiv.org/abs/2510.00001") == 0
    assert entry(database) is None
    capsys.readouterr()
    assert run("log") == 0
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("hide", "edit (title, tags)", "remove", "by command line", "spam"))
