"""The feed and search: what is listed, by filters and periods, page by page."""

from __future__ import annotations

import html
import re

import pytest
from sqlalchemy import event, select
from web_helpers import Browser, all_titles, next_page, titles

from paperworks.page.database import Entry
from paperworks.page.web.filters import PER_PAGE


def test_a_feed_page_is_small_and_is_sent_compressed(local: Browser) -> None:
    answer = local.get("/")
    assert len(titles(answer.text)) == PER_PAGE
    assert len(answer.content) < 100_000
    assert answer.headers["content-encoding"] == "gzip"


def test_the_pages_of_the_feed_hold_every_paper_once(local: Browser) -> None:
    with local.page.database.reading() as session:
        everything = list(session.scalars(select(Entry.title).where(Entry.hidden.is_(False))))
    seen = all_titles(local, "/?sort=date")
    assert len(seen) == len(set(seen)) == len(everything)


def test_htmx_gets_only_what_it_puts_into_the_page(local: Browser) -> None:
    whole = local.get("/")
    part = local.get("/", headers={"HX-Request": "true"})
    assert "<html" in whole.text
    assert "<html" not in part.text
    assert part.text.lstrip().startswith('<div id="feed"')
    assert "HX-Request" in part.headers["vary"]
    following = next_page(whole.text)
    assert following is not None
    more = local.get(following, headers={"HX-Request": "true"}).text
    assert titles(more) == titles(local.get(following).text)
    assert "<h1" not in more
    restored = local.get("/", headers={"HX-Request": "true", "HX-History-Restore-Request": "true"})
    assert "<html" in restored.text


@pytest.mark.parametrize(
    ("path", "condition"),
    [
        ("/?works=1", Entry.works.is_(True)),
        ("/?tag=garden&tag=bed-1", Entry.key.in_([f"test:{n}" for n in range(1, 45, 5)])),
        ("/?organisation=Garden+Institute&tag=bed-0", Entry.key.in_([f"test:{n}" for n in (5, 15, 25, 35)])),
        ("/?period=day&start=2026-11-20", Entry.key.in_(["test:0", "test:1", "test:2"])),
        ("/?period=month&start=2026-10-05", Entry.key == "test:markup"),
    ],
)
def test_filters_and_periods(local: Browser, path: str, condition: object) -> None:
    with local.page.database.reading() as session:
        wanted = set(session.scalars(select(Entry.title).where(condition)))  # type: ignore[arg-type]
    assert wanted
    assert sorted(all_titles(local, path)) == sorted(wanted)


def test_the_steps_between_days_lead_to_days_with_papers(local: Browser) -> None:
    html = local.get("/?period=day&start=2026-11-19").text
    assert "period=day&amp;start=2026-11-18" in html
    assert "period=day&amp;start=2026-11-20" in html


@pytest.mark.parametrize(
    "query",
    ["period=year", "sort=size", "start=yesterday", "works=maybe", "cursor=abc", "tag=" + "x" * 99],
)
def test_a_filter_that_does_not_fit_is_named(local: Browser, query: str) -> None:
    answer = local.get(f"/?{query}")
    assert answer.status_code == 422
    assert f"{query.partition('=')[0]}: found" in answer.text


@pytest.mark.parametrize("query", ["period=week&start=9999-12-31", "start=0001-01-01&period=month", "organisation=%00"])
def test_what_can_be_asked_is_answered(local: Browser, query: str) -> None:
    assert local.get(f"/?{query}").status_code == 200


def test_the_number_of_queries_does_not_grow_with_the_list(local: Browser) -> None:
    counted: list[str] = []
    engine = local.page.database.engine

    def count(connection: object, cursor: object, statement: str, *rest: object) -> None:
        counted.append(statement)

    local.get("/")  # what is kept for a while is computed now
    event.listen(engine, "before_cursor_execute", count)
    try:
        sizes = []
        for path in ("/?tag=bed-1", "/?sort=date"):
            counted.clear()
            local.get(path)
            sizes.append(len([s for s in counted if s.startswith("SELECT")]))
    finally:
        event.remove(engine, "before_cursor_execute", count)
    assert sizes[0] == sizes[1] <= 6


def test_what_works_comes_first_unless_the_reader_sorts_otherwise(local: Browser) -> None:
    with local.page.database.reading() as session:
        entries = list(session.scalars(select(Entry).where(Entry.hidden.is_(False))))
    by_trend = sorted(entries, key=lambda e: (e.trend, e.id), reverse=True)
    works_first = [e.title for e in sorted(by_trend, key=lambda e: not e.works)]
    for path, order in (("/", works_first), ("/?sort=trend", [e.title for e in by_trend])):
        shown = titles(local.get(path).text)
        assert shown == [title for title in order if title in set(shown)]
        assert shown[:3] == [t for t in order if "$" not in t][:3]
    card = local.get("/").text.partition('<article class="card')[2].partition("</article>")[0]
    assert ">0<" not in card, "no zeros where nothing was counted"


def test_hidden_papers_are_in_no_list(local: Browser) -> None:
    for path in ("/?sort=date", "/?period=day&start=2026-11-20", "/search?q=hidden+paper", "/feed.atom?sort=date"):
        assert "A hidden paper" not in local.get(path).text
    assert "2611.99999" not in local.get("/sitemap.xml").text


def test_search_marks_the_words_and_takes_filters(local: Browser) -> None:
    html = local.get("/search?q=gardens").text
    assert "<mark>gardens</mark>" in html
    assert all("Imported paper" in t for t in titles(html))
    assert "Imported" not in local.get("/search?q=gardens&works=1").text
    part = local.get("/search?q=gardens&mode=words", headers={"HX-Request": "true"}).text
    assert "<html" not in part
    assert "<mark>" in part
    assert "Nothing fits" in local.get("/search?q=zzzzqqq&mode=words").text
    assert local.get("/search?q=x&mode=guess").status_code == 422
    assert local.get("/search", params={"q": "\x00'\";--%<b>" + "x" * 5000}).status_code == 200


def test_a_search_goes_on_page_by_page(local: Browser) -> None:
    path, titles = "/search?q=imported+paper&tag=garden", []
    for _ in range(9):
        text = local.get(path).text
        titles += re.findall(r'class="card-title"><a href="([^"]+)"', text)
        found = re.search(r'href="(/search\?[^"]*cursor=[^"]*)"', text)
        if found is None:
            assert "That is all." in text
            break
        path = html.unescape(found[1])
        assert "tag=garden" in path
        assert "q=imported" in path
    assert len(titles) == len(set(titles)) == 45
    part = local.get(path, headers={"HX-Request": "true"}).text
    assert "<html" not in part
    assert "for “" not in part  # only what follows, for the place of the button


@pytest.mark.parametrize(
    "cursor", ["abc", "W10", "WzEsMl0x", "WzEsIngiXQ", "Wy0xLDJd", "%00", "é", "x" * 201, "WzEsMWU5OTld"]
)
def test_cursors_of_a_search_that_nobody_gave(local: Browser, cursor: str) -> None:
    assert local.get(f"/search?q=paper&cursor={cursor}").status_code == 422
