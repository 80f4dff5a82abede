"""What every page has, with an account and without; static files, about, errors and the API."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path

import pytest
from web_helpers import Browser, Elements

from paperworks.page.feed import trend
from paperworks.page.mail import Mailer

OPEN = ["/", "/search", "/search?q=garden", "/tags", "/results", "/about", "/papers/2401.15024", "/papers/2611.00001"]
OWN = ["/bookmarks", "/following", "/account", "/submit"]


@pytest.mark.parametrize("path", OPEN + OWN)
def test_every_page_is_served_on_ones_own_machine(local: Browser, path: str) -> None:
    answer = local.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    page = Elements(answer.text)
    assert [a["lang"] for a in page.named("html")] == ["en"]
    assert len(page.named("h1")) == 1
    assert len(page.named("main")) == 1
    ids = [a["id"] for _, a in page.found if "id" in a]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("path", OPEN)
def test_a_public_page_is_read_without_an_account_and_without_cookies(visitor: Browser, path: str) -> None:
    answer = visitor.get(path)
    assert answer.status_code == 200
    assert "set-cookie" not in answer.headers
    assert "/log-in" in answer.text


@pytest.mark.parametrize("path", OWN)
def test_own_pages_lead_to_the_log_in_and_back(visitor: Browser, path: str) -> None:
    answer = visitor.get(path)
    assert str(answer.url).endswith(f"/log-in?next=%2F{path[1:]}")
    assert f'name="next" value="{path}"' in answer.text


@pytest.mark.parametrize("path", OPEN + OWN)
def test_own_pages_are_served_to_who_is_logged_in(member: Browser, path: str) -> None:
    assert member.get(path).status_code == 200


@pytest.mark.parametrize("path", ["/papers/2611.99999", "/papers/0000.00000", "/papers/p0", "/papers/p999999", "/no"])
def test_what_is_not_there_or_hidden_is_a_page_that_says_so(local: Browser, path: str) -> None:
    answer = local.get(path)
    assert answer.status_code == 404
    assert "Nothing is here" in answer.text
    assert 'class="brand"' in answer.text


def test_about_states_the_formula_that_the_code_uses(local: Browser) -> None:
    html = local.get("/about").text
    found = re.search(r"log2\(1 \+ upvotes \+ (\d+) × comments \+ (\d+) × runs\) − age in hours / (\d+)", html)
    assert found is not None
    comments, runs, hours = map(int, found.groups())
    assert trend.trend_score(7, 5, 3, 36.0) == pytest.approx(
        trend.trend_score(7 + comments * 5 + runs * 3, 0, 0, 0.0) - 36.0 / hours
    )


def test_tags_are_listed_with_their_numbers(local: Browser) -> None:
    assert re.search(r'<a href="/\?tag=garden">garden</a> <span class="quiet-text">45</span>', local.get("/tags").text)


def test_static_files_are_kept_for_good_under_lasting_names(local: Browser) -> None:
    html = local.get("/").text
    for path in re.findall(r'"(/static/[^"]+)"', html):
        answer = local.get(path)
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
        assert local.get(path, headers={"If-None-Match": answer.headers["etag"]}).status_code == 304
    style = re.search(r'"(/static/style\.[^"]+\.css)"', html)
    assert style is not None
    assert local.get(style[1]).headers["content-encoding"] == "gzip"
    for font in re.findall(r'url\("([^"]+)"\)', local.get(style[1]).text):
        assert local.get(font).headers["content-type"] == "font/woff2"
    assert "immutable" not in local.get("/static/style.css").headers["cache-control"]
    for path in ("/static/nothing.css", "/static/..%2fapp.py", "/static/../app.py"):
        assert local.get(path).status_code == 404


def test_vendored_scripts_and_fonts_have_their_licence_beside_them() -> None:
    import paperworks.page.web.assets as assets

    names = {p.name for p in assets.FOLDER.iterdir()}
    assert {"htmx.LICENSE.txt", "inter.LICENSE.txt", "source-serif.LICENSE.txt"} <= names
    assert (Path(__file__).parent / "vendor" / "axe.LICENSE.txt").is_file()


def test_head_is_answered_like_get_without_the_body(local: Browser) -> None:
    answer = local.head("/papers/2401.15024")
    assert answer.status_code == 200
    assert answer.content == b""
    assert answer.headers["content-type"].startswith("text/html")


def test_the_api_is_documented(local: Browser) -> None:
    html = unescape(local.get("/api").text)
    schema = local.get("/openapi.json").json()
    for path, methods in schema["paths"].items():
        assert f"<code>{path}</code>" in html
        for parameter in methods["get"].get("parameters", ()):
            assert f"<code>{parameter['name']}</code>" in html
    for example in re.findall(r'For example <a href="([^"]+)"', html):
        assert local.get(example).status_code == 200, example


def test_a_page_without_mail_says_in_words_what_is_missing(local: Browser) -> None:
    mailer = local.page.mailer
    try:
        local.page.mailer = Mailer(local.page.settings)
        html = local.get("/digest").text
    finally:
        local.page.mailer = mailer
    assert 'class="alert"' not in html
    assert "mail provider" in html
    assert 'name="email"' not in html
