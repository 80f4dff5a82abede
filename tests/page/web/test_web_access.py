"""A page without accounts: others on the machine read papers; what is the owner's asks for the token once."""

from __future__ import annotations

import re

import pytest
from fastapi import FastAPI
from web_helpers import LOCAL, Browser

from paperworks.page.access import access_link, access_token

OWN = ("/account", "/bookmarks", "/following", "/runs", "/runs/" + "0" * 32)
READ = (
    "/",
    "/collections",
    "/?period=week",
    "/about",
    "/tags",
    "/papers/2401.15024",
    "/search?q=x",
    "/feed.atom",
    "/sitemap.xml",
    "/papers/2401.15024/run",
)


@pytest.fixture
def other(local_app: FastAPI) -> Browser:
    """A browser of another user of the machine."""
    return Browser(local_app, LOCAL, owner=False)


def test_anybody_reads(other: Browser) -> None:
    for path in (*READ, "/api/daily_papers", "/api/papers/2401.15024", "/api/papers/search?q=x"):
        answer = other.get(path, follow_redirects=False)
        assert answer.status_code == 200, path
        assert "/sign-up" not in answer.text


def test_nobody_else_sees_or_does_what_is_the_owners(other: Browser, local: Browser) -> None:
    for path in OWN:
        answer = other.get(path, follow_redirects=False)
        assert (answer.status_code, answer.headers["location"].partition("?")[0]) == (303, "/log-in"), path
    token = other.token("/log-in")
    for path in ("/papers/2401.15024/vote", "/papers/2401.15024/run", "/submit", "/digest", "/account/name"):
        answer = other.post(path, data={"csrf": token, "on": "1"}, follow_redirects=False)
        assert (answer.status_code, answer.headers["location"].partition("?")[0]) == (303, "/log-in"), path
    local.submit("/papers/2611.00020/bookmark", "/papers/2611.00020", on="1")
    assert 'aria-pressed="true"' in local.get("/papers/2611.00020").text
    assert 'aria-pressed="true"' not in other.get("/papers/2611.00020").text


def test_the_printed_link_makes_a_browser_the_owners(other: Browser) -> None:
    link = access_link(other.page.settings, LOCAL)
    answer = other.get(link.removeprefix(LOCAL), follow_redirects=False)
    assert answer.status_code == 303
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "samesite=lax" in cookie.lower()
    assert access_token(other.page.key) not in cookie  # the link cannot be made from what a browser sends along
    assert other.get("/account").status_code == 200
    assert other.submit("/papers/2611.00019/vote", "/papers/2611.00019", on="1").status_code == 200


def test_the_token_can_be_typed(local_app: FastAPI) -> None:
    browser = Browser(local_app, LOCAL, owner=False)
    wrong = browser.submit("/log-in", "/log-in", token="guess", next="/bookmarks")
    assert wrong.status_code == 422
    assert "not the token" in wrong.text
    right = browser.submit("/log-in", "/log-in", token=f" {access_token(browser.page.key)} ", next="/bookmarks")
    assert right.url.path == "/bookmarks"
    guessing = Browser(local_app, LOCAL, owner=False)
    answers = {guessing.get(f"/log-in?token={n}", follow_redirects=False).status_code for n in range(30)}
    assert answers == {422}
    assert (
        guessing.get(f"/log-in?token={access_token(guessing.page.key)}").url.path == "/"
    )  # nobody locks the owner out
    away = Browser(local_app, LOCAL, owner=False)
    there = away.get(f"/log-in?token={access_token(away.page.key)}&next=//evil.example", follow_redirects=False)
    assert there.headers["location"] == "/"


def test_a_page_may_ask_for_no_token(local_app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    page = local_app.state.page
    monkeypatch.setattr(page, "settings", page.settings.model_copy(update={"asks_token": False}))
    assert access_link(page.settings, LOCAL) == LOCAL
    assert Browser(local_app, LOCAL, owner=False).get("/account").status_code == 200


def test_links_of_the_frame_lead_to_the_token(other: Browser) -> None:
    assert re.search(r'href="/log-in\?next=[^"]*">Log in', other.get("/").text)
