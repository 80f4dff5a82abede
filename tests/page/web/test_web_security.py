"""What guards the page: hosts, origins, tokens of forms, sizes, headers, cookies, redirects."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import urljoin, urlsplit

import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient
from web_helpers import LOCAL, PASSWORD, PUBLIC, Browser, Elements, Mailbox

from paperworks.page.web.addresses import path_of_referer, safe_path
from paperworks.page.web.security import BODY_BYTES, form_token, host_name, token_is_valid

PAGES = [
    "/",
    "/search?q=garden",
    "/tags",
    "/about",
    "/papers/2401.15024",
    "/papers/2611.88888",
    "/account",
    "/submit",
    "/bookmarks",
    "/following",
    "/nope",
    "/?sort=size",
    "/runs",
    "/digest",
]


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "", "[::1", "localhost@x"]
)
def test_a_name_that_resolves_to_this_machine_does_not_reach_the_page(local: Browser, host: str) -> None:
    for path in ("/", "/api/daily_papers", "/static/style.css", "/nope"):
        answer = local.get(path, headers={"Host": host})
        assert answer.status_code == 400
        assert "Paperworks" not in answer.text
    assert local.post("/account/name", headers={"Host": host}).status_code == 400


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8123", "LOCALHOST:1", "[::1]:8000"])
def test_the_names_of_this_machine_reach_it_on_any_port(local: Browser, host: str) -> None:
    assert local.get("/about", headers={"Host": host}).status_code == 200


def test_a_public_page_answers_to_its_own_names_only(visitor: Browser) -> None:
    assert visitor.get("/about", headers={"Host": "papers.example:443"}).status_code == 200
    assert visitor.get("/about", headers={"Host": "127.0.0.1"}).status_code == 400


@given(st.text(max_size=40))
def test_the_name_of_a_host_never_holds_a_port(host: str) -> None:
    name = host_name(host)
    assert ":" not in name or name.startswith("[")


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:9"},
        {"Origin": "http://["},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_changes_from_other_sites_are_refused_even_with_a_token(local: Browser, headers: dict[str, str]) -> None:
    fields = {"csrf": local.token(), "on": "1"}
    assert local.post("/papers/2401.15024/vote", data=fields, headers=headers).status_code == 403
    assert 'aria-pressed="true"' not in local.get("/papers/2401.15024").text


CHANGES = [
    "/papers/2401.15024/vote",
    "/papers/2401.15024/bookmark",
    "/papers/2401.15024/comments",
    "/tags/garden/follow",
    "/collections",
    "/collections/some/edit",
    "/collections/some/remove",
    "/collections/some/papers/2401.15024",
    "/comments/1",
    "/comments/1/delete",
    "/account/name",
    "/account/password",
    "/account/delete",
    "/log-out",
    "/papers/2401.15024/report",
    "/submit",
    "/papers/2401.15024/run",
    "/digest",
]


@pytest.mark.parametrize("path", CHANGES)
def test_no_change_without_a_token_of_this_visitor(member: Browser, public_app: FastAPI, path: str) -> None:
    other = Browser(public_app, PUBLIC)
    for token in ("", "x", "é", form_token(b"another key", ["", ""]), other.token("/log-in")):
        answer = member.post(path, data={"csrf": token, "on": "1"})
        assert answer.status_code == 403, token
        assert "out of date" in answer.text


def test_every_route_that_changes_something_is_in_the_list_above(public_app: FastAPI) -> None:
    """All but those without a log-in, whose tokens are tested with accounts, and the mail program's unsubscribe."""
    known = {
        p.replace("2401.15024", "{paper_id}")
        .replace("garden", "{tag}")
        .replace("/1", "/{comment_id}")
        .replace("/some", "/{name}")
        for p in CHANGES
    }
    free = {"/sign-up", "/sign-up/{token}", "/log-in", "/forgotten", "/forgotten/{token}"}
    others = {
        "/digest/confirm/{token}",
        "/digest/unsubscribe/{token}",
        "/runs/{job_id}/cancel",
        "/runs/{job_id}/delete",
    }
    moderators = {
        "/moderation/{entry_id}",
        "/moderation/{entry_id}/{act}",
        "/reports/{report_id}/close",
        "/comments/{comment_id}/remove",
    }
    found = {route.path_format for route in _routes(public_app.routes) if "POST" in route.methods}
    assert found == known | free | others | moderators


def _routes(routes: list) -> Iterator:  # type: ignore[type-arg]
    for route in routes:
        if hasattr(route, "path_format"):
            yield route
        inner = getattr(route, "routes", None) or getattr(getattr(route, "original_router", None), "routes", [])
        yield from _routes(inner)


def test_a_token_is_bound_to_the_session(member: Browser) -> None:
    before = member.token()
    member.submit("/log-out")
    answer = member.post("/log-in", data={"csrf": before, "email": "a@b.example", "password": PASSWORD})
    assert answer.status_code == 403


@given(st.binary(min_size=1, max_size=40), st.text(max_size=10), st.text(max_size=10))
def test_tokens_are_of_one_key_and_one_visitor_and_never_the_same(key: bytes, visitor: str, session: str) -> None:
    visitor, session = visitor.replace("\0", ""), session.replace("\0", "")
    one, two = form_token(key, [visitor, session]), form_token(key, [visitor, session])
    assert one != two
    assert token_is_valid(key, [visitor, session], one)
    assert token_is_valid(key, [visitor, session], two)
    assert not token_is_valid(key + b"1", [visitor, session], one)
    assert not token_is_valid(key, [visitor + "1", session], one)
    assert not token_is_valid(key, [visitor, session + "1"], one)


@given(st.text(max_size=100))
def test_what_is_no_token_is_not_valid(text: str) -> None:
    assert not token_is_valid(b"key", ["", ""], text)


def test_large_bodies_are_refused_declared_or_not(local: Browser) -> None:
    token = local.token()
    path = "/papers/2401.15024/comments"
    answer = local.post(path, data={"csrf": token, "text": "x" * BODY_BYTES})
    assert answer.status_code == 413
    assert "too large" in answer.text

    def chunks() -> Iterator[bytes]:
        yield f"csrf={token}&text=".encode()
        for _ in range(BODY_BYTES // 1000 + 2):
            yield b"x" * 1000

    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    assert local.post(path, content=chunks(), headers=kind).status_code == 413
    assert local.post(path, content=b"x", headers=kind | {"Content-Length": "-1"}).status_code in (400, 413)


@pytest.mark.parametrize("path", [*PAGES, "/static/style.css", "/api/daily_papers", "/feed.atom", "/robots.txt"])
def test_every_answer_has_the_headers(local: Browser, visitor: Browser, path: str) -> None:
    for browser in (local, visitor):
        headers = browser.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert "http:" not in policy
        assert "*" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"
        assert headers["x-frame-options"] == "DENY"
        assert ("strict-transport-security" in headers) == (browser is visitor)
        assert "server" not in headers


@pytest.mark.parametrize("path", PAGES)
def test_no_page_needs_what_the_policy_forbids(local: Browser, path: str) -> None:
    page = Elements(local.get(path).text)
    for tag, attributes in page.found:
        assert "style" not in attributes
        assert not [name for name in attributes if name.startswith("on") and name != "on"]
        assert tag != "style"
        assert not (attributes.get("href") or "").startswith("javascript:")
    assert all(a.get("src", "").startswith("/static/") for a in page.named("script"))  # type: ignore[union-attr]
    for tag, name in (("link", "href"), ("img", "src")):
        loaded = [a for a in page.named(tag) if tag == "img" or a.get("rel") in ("stylesheet", "icon", "preload")]
        own = re.compile(r"/(?!/)|data:")  # addresses of the page itself, no other host
        assert all(own.match(a[name] or "") for a in loaded)


def test_something_that_broke_is_a_page_that_tells_nothing(local_app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = TestClient(local_app, base_url=LOCAL, raise_server_exceptions=False)

    def broken(*args: object, **kwargs: object) -> None:
        raise RuntimeError("a secret detail")

    monkeypatch.setattr(local_app.state.page.search, "search", broken)
    answer = reader.get("/search?q=garden")
    assert answer.status_code == 500
    assert "Something broke" in answer.text
    assert "secret detail" not in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    answer = reader.get("/api/papers/search?q=garden")
    assert answer.status_code == 500
    assert "secret detail" not in answer.text
    assert set(answer.json()) == {"error"}


def test_cookies_are_out_of_the_reach_of_scripts_other_sites_and_plain_http(visitor: Browser, mailbox: Mailbox) -> None:
    visitor.sign_up(mailbox)
    made = []
    for answer in (visitor.get("/account"), *visitor.get("/account").history):
        made += answer.headers.get_list("set-cookie")
    email = visitor.sign_up(mailbox, name="Somebody Else Entirely")
    visitor.submit("/log-out")
    visitor.cookies.clear()
    token = visitor.token("/log-in")
    answer = visitor.post("/log-in", data={"csrf": token, "email": email, "password": PASSWORD}, follow_redirects=False)
    made += answer.headers.get_list("set-cookie")
    made += visitor.get("/log-in").headers.get_list("set-cookie")
    assert made
    for cookie in made:
        assert cookie.startswith("__Host-paperworks-")
        assert "HttpOnly" in cookie
        assert "Secure" in cookie
        assert "SameSite=lax" in cookie
        assert "Path=/" in cookie
        assert "Domain" not in cookie


LEADING_AWAY = [
    "https://evil.example",
    "//evil.example",
    "/\\evil.example",
    "\\\\evil.example",
    "javascript:alert(1)",
    "///evil.example",
    "/\t/evil.example",
    "/\n//evil.example",
    " //evil.example",
    "http:evil.example",
]


@pytest.mark.parametrize("place", LEADING_AWAY)
def test_no_redirect_leads_to_another_site(member: Browser, place: str) -> None:
    answer = member.get("/log-in", params={"next": place}, follow_redirects=False)
    assert answer.headers["location"] == "/"
    answer = member.post(
        "/papers/2401.15024/vote",
        data={"csrf": member.token(), "on": "1"},
        headers={"Referer": place},
        follow_redirects=False,
    )
    assert answer.headers["location"] == "/"


@given(st.text(alphabet=st.sampled_from("/\\:@.aé\t\n\r #?%0"), max_size=12) | st.text(max_size=20))
def test_safe_paths_stay_on_the_page(text: str) -> None:
    for path in (
        safe_path(text),
        path_of_referer(text, "papers.example"),
        path_of_referer(f"https://papers.example{text}", "papers.example"),
    ):
        assert path.startswith("/")
        assert urlsplit(urljoin("https://papers.example/x", path)).netloc == "papers.example"
        assert not re.search(r"[\s\\\x00]", path)


def test_robots_stay_out_of_ones_own_machine_and_of_accounts(local: Browser, visitor: Browser) -> None:
    assert local.get("/robots.txt").text == "User-agent: *\nDisallow: /\n"
    public = visitor.get("/robots.txt").text
    assert "Disallow: /account" in public
    assert f"Sitemap: {PUBLIC}/sitemap.xml" in public
    assert "Disallow: /\n" not in public
