"""The views on PostgreSQL: everything that reads and writes, on a page of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fastapi import FastAPI
from page_databases import on_postgres
from web_helpers import LOCAL, PUBLIC, Browser, Mailbox, become_member

from paperworks.page.settings import load_settings

pytestmark = on_postgres
PAPER = "/papers/2611.00020"


def test_a_page_of_ones_own(
    database_url: str, tmp_path: Path, mailbox: Mailbox, make_page: Callable[..., FastAPI]
) -> None:
    settings = load_settings(folder=tmp_path / "page", database=database_url)
    reader = Browser(make_page(settings, mailbox, tmp_path / "store"), LOCAL)
    for path in (
        "/",
        "/?period=week",
        "/?period=month&sort=claims",
        "/?sort=date&tag=garden&works=0",
        "/tags",
        "/about",
        "/?organisation=Garden+Institute",
        PAPER,
        f"{PAPER}.md",
        "/papers/2401.15024",
        "/search?q=gardens",
        "/search?q=gardens&mode=words&tag=garden",
        "/search?q=%22gardens%22",
        "/feed.atom",
        "/sitemap.xml",
        "/runs",
        "/bookmarks",
        "/following",
        "/digest",
        "/submit",
        "/account",
        "/api/daily_papers",
        "/api/daily_papers?sort=trending&p=1&limit=20",
        "/api/papers/search?q=gardens",
        "/api/papers/2611.00020",
    ):
        assert reader.get(path).status_code == 200, path
    for path in ("/papers/2611.99999", "/papers/nothing", "/nowhere"):
        assert reader.get(path).status_code == 404
    first = reader.get("/search?q=imported+paper").text
    assert first.count('<article class="card') == 20
    assert "<script>alert" not in reader.get("/?sort=date&period=all&tag=%22x%22+%3Cy%3E").text


def test_taking_part(database_url: str, tmp_path: Path, mailbox: Mailbox, make_page: Callable[..., FastAPI]) -> None:
    settings = load_settings(
        folder=tmp_path / "page",
        database=database_url,
        public=True,
        allowed_hosts=("papers.example",),
        secret_key="a secret of a test, long enough to be one",
        base_url=PUBLIC,
    )
    app = make_page(settings, mailbox, tmp_path / "store")
    reader, other = Browser(app, PUBLIC), Browser(app, PUBLIC)
    reader.sign_up(mailbox)
    become_member(other, "no hash: never asked for")
    votes = lambda browser: 'aria-pressed="true"' in browser.get(PAPER).text  # noqa: E731
    for browser in (reader, other):
        assert browser.submit(f"{PAPER}/vote", PAPER, on="1").status_code == 200
        assert browser.submit(f"{PAPER}/vote", PAPER, on="1").status_code == 200  # twice is once
    assert votes(reader)
    assert reader.get("/api/papers/2611.00020").json()["upvotes"] == 20 + 2
    assert other.submit(f"{PAPER}/vote", PAPER, on="0").status_code == 200
    assert not votes(other)
    assert reader.get("/api/papers/2611.00020").json()["upvotes"] == 20 + 1
    reader.submit(f"{PAPER}/bookmark", PAPER, on="1")
    assert reader.get("/bookmarks").text.count('<article class="card') == 1
    assert other.get("/bookmarks").text.count('<article class="card') == 0
    reader.submit("/tags/garden/follow", "/tags", on="1")
    assert "Imported paper number 20" in reader.get("/following").text
    said = reader.submit(f"{PAPER}/comments", PAPER, text="Works on **PostgreSQL**")
    assert "<strong>PostgreSQL</strong>" in said.text
    assert other.submit("/comments/1/delete", PAPER).status_code == 404
    assert reader.submit("/comments/1/delete", PAPER).status_code == 200
    assert "PostgreSQL" not in reader.get(PAPER).text
    reader.submit("/log-out", "/account")
    assert reader.get("/bookmarks").url.path == "/log-in"
