"""What readers see: the feed, search, a paper, tags, bookmarks, about, errors; with scripts and without."""

from __future__ import annotations

import html
import re
from datetime import timedelta
from html import unescape
from pathlib import Path

import pytest
from sqlalchemy import event, select
from web_helpers import Browser, Elements

from catalogue_papers import measured_paper
from paperworks.page.cache import LRUCache
from paperworks.page.database import Entry, Job, now
from paperworks.page.feed import trend
from paperworks.page.mail import Mailer
from paperworks.page.web.filters import PER_PAGE

OPEN = ["/", "/search", "/search?q=garden", "/tags", "/results", "/about", "/papers/2401.15024", "/papers/2611.00001"]
OWN = ["/bookmarks", "/following", "/account", "/submit"]


def titles(text: str) -> list[str]:
    found = re.findall(r'class="card-title"><a href="[^"]+">(.+?)</a>', text)
    return [html.unescape(title) for title in found]


def next_page(html: str) -> str | None:
    found = re.search(r'<p class="more"><a class="button quiet" href="([^"]+)"', html)
    return found[1].replace("&amp;", "&") if found else None


def all_titles(local: Browser, path: str | None) -> list[str]:
    """Titles of a listing and of the pages that follow it."""
    found: list[str] = []
    while path is not None:
        text = local.get(path).text
        found += titles(text)
        path = next_page(text)
    return found


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


def test_what_papers_say_is_text_and_never_markup(local: Browser) -> None:
    for path in ("/papers/2611.88888", "/?sort=date&period=month&start=2026-10-11", "/search?q=alert", "/tags"):
        html = local.get(path).text
        assert "<script>" not in html
        assert "<img src=x" not in html
        assert "<svg onload" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in local.get("/papers/2611.88888").text


def test_a_papers_page_shows_its_claims_beside_what_was_measured(local: Browser) -> None:
    paper = measured_paper()
    html = local.get(f"/papers/{paper.arxiv}").text
    shown = re.findall(r'<li class="claim (\w+)" id="claim-([\w-]+)">', html)
    styles = {
        "holds": "holds",
        "partly tested": "partly",
        "does not hold": "fails",
        "not tested here": "untested",
        "not measured": "unmeasured",
    }
    assert sorted(shown) == sorted((styles[verdict], claim) for claim, verdict in paper.verdicts().items())
    folded = html.partition('<details class="other-claims">')[2].partition("</details>\n")[0]
    first = html.partition('<details class="other-claims">')[0]
    assert first.count('<li class="claim ') == min(3, len(paper.claims)), "the discussion is not far below them"
    assert f"{len(paper.claims) - 3} more claim" in folded or len(paper.claims) <= 3
    assert html.count('<div class="found') == len(paper.findings)
    bar = re.search(r'<svg class="claims-bar".*?</svg>', html, re.DOTALL)
    assert bar is not None
    assert bar[0].count("h9v8h-9z") == len(paper.claims)
    held = re.search(r'<path class="holds" d="([^"]*)"', bar[0])
    assert (held[1].count("M") if held else 0) == paper.claims_held
    assert f"{paper.claims_held} of {len(paper.claims)} claims hold here" in html
    assert f'href="/papers/{paper.arxiv}/run"' in html
    assert f"paperworks run {paper.slug}" in html
    assert html.count('class="similar"') == 1


@pytest.mark.parametrize("name", ["{0.slug}", "{0.arxiv}v2"])
def test_other_names_of_a_paper_lead_to_its_address(local: Browser, name: str) -> None:
    paper = measured_paper()
    answer = local.get(f"/papers/{name.format(paper)}", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (301, f"/papers/{paper.arxiv}")


def test_a_paper_without_an_arxiv_id_has_an_address(local: Browser) -> None:
    with local.page.database.reading() as session:
        entry = session.scalar(select(Entry).where(Entry.key == "test:3"))
    assert entry is not None
    assert entry.title in local.get(f"/papers/p{entry.id}").text


@pytest.mark.parametrize("path", ["/papers/2611.99999", "/papers/0000.00000", "/papers/p0", "/papers/p999999", "/no"])
def test_what_is_not_there_or_hidden_is_a_page_that_says_so(local: Browser, path: str) -> None:
    answer = local.get(path)
    assert answer.status_code == 404
    assert "Nothing is here" in answer.text
    assert 'class="brand"' in answer.text


def test_hidden_papers_are_in_no_list(local: Browser) -> None:
    for path in ("/?sort=date", "/?period=day&start=2026-11-20", "/search?q=hidden+paper", "/feed.atom?sort=date"):
        assert "A hidden paper" not in local.get(path).text
    assert "2611.99999" not in local.get("/sitemap.xml").text


def test_the_newest_public_run_is_shown_and_no_private_one(local: Browser) -> None:
    paper = measured_paper()
    with local.page.database.session() as session:
        entry = session.scalar(select(Entry).where(Entry.slug == paper.slug))
        assert entry is not None
        for job_id, message, uploads, status, age in (
            ("1" * 32, "an old headline", [], "finished", 3),
            ("2" * 32, "the newest public headline", [], "finished", 2),
            ("3" * 32, "of a private file", ["f" * 32], "finished", 1),
            ("4" * 32, "it broke", [], "failed", 0),
        ):
            when = now() - timedelta(hours=age)
            session.add(
                Job(
                    id=job_id,
                    entry_id=entry.id,
                    slug=paper.slug,
                    config={},
                    uploads=uploads,
                    status=status,
                    message=message,
                    finished=when,
                )
            )
    html = local.get(f"/papers/{paper.arxiv}").text
    assert "the newest public headline" in html
    assert f'href="/runs/{"2" * 32}"' in html
    assert "private file" not in html
    assert "it broke" not in html


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


def test_the_api_is_documented(local: Browser) -> None:
    html = unescape(local.get("/api").text)
    schema = local.get("/openapi.json").json()
    for path, methods in schema["paths"].items():
        assert f"<code>{path}</code>" in html
        for parameter in methods["get"].get("parameters", ()):
            assert f"<code>{parameter['name']}</code>" in html
    for example in re.findall(r'For example <a href="([^"]+)"', html):
        assert local.get(example).status_code == 200, example


def test_formulas_and_withdrawn_papers_are_shown(local: Browser) -> None:
    html = local.get("/papers/2611.77777").text
    assert "<h1>Sorting in <math>" in html
    assert "withdrawn by its authors" in html
    assert "&lt;b&gt;" in html
    assert "<title>Sorting in 𝒪(n^2) &amp; more" in html
    assert "Withdrawn: Sorting in" in local.get("/feed.atom?period=month&start=2026-08-15").text


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


def test_a_paper_that_ships_a_picture_shows_it(local: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paper = measured_paper()
    picture = tmp_path / "figure.png"
    picture.write_bytes(b"\x89PNG")
    monkeypatch.setitem(local.page.figures, paper.slug, (picture, f"/figures/{paper.slug}.abc.png"))
    local.page.cards = LRUCache(10)
    assert f'<img src="/figures/{paper.slug}.abc.png"' in local.get(f"/papers/{paper.arxiv}").text
    assert f'<img src="/figures/{paper.slug}.abc.png"' in local.get(f"/search?q={paper.title}&mode=words").text
    answer = local.get(f"/figures/{paper.slug}.abc.png")
    assert (answer.content, answer.headers["content-type"]) == (b"\x89PNG", "image/png")
    assert local.get("/figures/..%2Fpaper.toml").status_code == 404
    local.page.cards = LRUCache(10)
