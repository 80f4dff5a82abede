"""The API: the Hub's own client, a feed reader and schemathesis against it; sitemap and Markdown."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from xml.etree import ElementTree

import feedparser
import httpx
import pytest
from huggingface_hub import HfApi, constants
from hypothesis import HealthCheck, given, settings
from sqlalchemy import select
from web_helpers import Browser

from catalogue_papers import measured_paper
from paperworks.page.database import Entry
from paperworks.page.web.app import API_TEXT

SITEMAP = "{http://www.sitemaps.org/schemas/sitemap/0.9}"


@pytest.fixture(scope="module")
def api(local_server: str):  # type: ignore[no-untyped-def]
    """The Hub's client, unchanged, at the running page."""
    with pytest.MonkeyPatch.context() as patch:
        # Tests of models run with the client offline; this one talks to this machine.
        patch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield HfApi(endpoint=local_server, token=False)


def test_the_hubs_client_lists_daily_papers(api, local: Browser) -> None:  # type: ignore[no-untyped-def]
    day = list(api.list_daily_papers(date="2026-11-20"))
    assert {p.title for p in day} == {f"Imported paper number {n} of interest" for n in range(3)}
    assert {p.id for p in day} == {"2611.00001", "2611.00002", f"p{_entry(local, 'test:0').id}"}
    assert all(p.submitted_at == datetime(2026, 11, 20, tzinfo=UTC) for p in day)
    assert {p.id for p in api.list_daily_papers(week="2026-W47")} >= {p.id for p in day}
    assert {p.id for p in api.list_daily_papers(month="2024-01")} == {"2401.15024"}
    assert list(api.list_daily_papers(submitter="nobody at all")) == []


def test_the_hubs_client_pages_through_the_newest(api, local: Browser) -> None:  # type: ignore[no-untyped-def]
    everything = [p.id for p in api.list_daily_papers(limit=100)]
    paged = [p.id for n in range(9) for p in api.list_daily_papers(p=n, limit=10)]
    assert paged == everything
    assert len(set(paged)) == len(paged)
    with local.page.database.reading() as session:
        newest = session.scalars(select(Entry.listed).where(Entry.hidden.is_(False)).order_by(Entry.listed.desc()))
        assert [p.submitted_at.date() for p in api.list_daily_papers(limit=100)] == list(newest)
        best = session.scalar(select(Entry).where(Entry.hidden.is_(False)).order_by(Entry.trend.desc()))
    assert best is not None
    assert next(iter(api.list_daily_papers(sort="trending", limit=1))).title == best.title


def test_the_hubs_client_reads_every_field(api, local: Browser) -> None:  # type: ignore[no-untyped-def]
    entry = _entry(local, "test:7")
    found = {p.id: p for p in api.list_daily_papers(limit=100)}
    for paper in (found["2611.00007"], api.paper_info("2611.00007")):
        assert paper.title == entry.title
        assert paper.summary == entry.abstract
        assert [a.name for a in paper.authors] == entry.authors
        assert paper.published_at == datetime(2026, 11, 13, tzinfo=UTC)
        assert paper.upvotes == 7
        assert paper.comments == 0
        assert paper.source == "arxiv"
        assert paper.organization.name == "Garden Institute"
        assert paper.ai_keywords == ["bed-2", "garden"]


def test_the_hubs_client_searches(api) -> None:  # type: ignore[no-untyped-def]
    found = list(api.list_papers(query="gardens number 12", limit=5))
    assert len(found) == 5
    assert found[0].title == "Imported paper number 12 of interest"
    assert len(list(api.list_papers())) == 20


def test_the_hubs_client_reads_papers(api) -> None:  # type: ignore[no-untyped-def]
    paper = measured_paper()
    info = api.paper_info(paper.arxiv)
    assert (info.id, info.title, info.github_repo or "") == (paper.arxiv, paper.title, paper.repository)
    text = api.read_paper(paper.arxiv)
    assert text.startswith(f"# {paper.title}\n")
    for claim, verdict in zip(paper.claims, paper.verdicts().values(), strict=True):
        assert f"- **{verdict}**: {' '.join(claim.statement.split())}" in text
    assert text.count("Measured here: ") == len(paper.findings)
    with pytest.raises(Exception, match="404"):
        api.paper_info("0000.00000")
    with pytest.raises(Exception, match="404"):
        api.read_paper("2611.99999")


def test_the_api_says_what_is_wrong(local: Browser) -> None:
    assert local.get("/api/daily_papers?week=2025-W53").json() == local.get("/api/daily_papers?week=2026-W01").json()
    for path in (
        "/api/daily_papers?date=soon",
        "/api/daily_papers?week=2026-W60",
        "/api/daily_papers?month=2026-13",
        "/api/daily_papers?p=-1",
        "/api/papers/search?limit=0",
    ):
        answer = local.get(path)
        assert answer.status_code == 422
        assert re.search(r"date|week|month|^p|limit", answer.json()["error"])
    assert local.get("/api/papers/0000.00000").json() == {"error": local.get("/api/no").json()["error"]}
    assert local.post("/api/daily_papers").status_code == 405


def test_claims_are_in_the_api(local: Browser) -> None:
    paper = measured_paper()
    found = local.get(f"/api/papers/{paper.slug}").json()
    assert {c["id"]: c["verdict"] for c in found["claims"]} == paper.verdicts()
    assert sum(len(c["measured"]) for c in found["claims"]) == len(paper.findings)
    assert (found["works"], found["claimsHeld"]) == (paper.works, paper.claims_held)


def test_the_document_of_the_api(local: Browser) -> None:
    document = local.get("/openapi.json").json()
    assert document["info"]["description"] == API_TEXT
    assert set(document["paths"]) == {
        "/api/daily_papers",
        "/api/papers/search",
        "/api/papers/{paper_id}",
        "/papers/{paper_id}.md",
        "/papers/{paper_id}.bib",
        "/feed.atom",
    }


@pytest.mark.parametrize("mode", ["positive", "negative"])
def test_answers_are_as_documented_whatever_is_asked(local_server: str, mode: str) -> None:
    # Imported here, for that takes seconds, and every worker collects this module.
    import schemathesis
    from schemathesis.specs.openapi.checks import negative_data_rejection

    schema = schemathesis.openapi.from_url(f"{local_server}/openapi.json")
    asked = []
    for found in schema.get_all_operations():
        operation = found.ok()

        @settings(max_examples=8, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy(generation_mode=schemathesis.GenerationMode(mode)))
        def check(case) -> None:  # type: ignore[no-untyped-def]
            # A query string has no types: a list or a number where text is wanted is text, and is answered.
            case.call_and_validate(excluded_checks=[negative_data_rejection])

        check()
        asked.append(operation.path)
    assert len(asked) == 6


@pytest.mark.parametrize(
    "query", ["", "?tag=garden&sort=date", "?works=1", "?organisation=Garden+Institute", "?sort=date"]
)
def test_a_feed_reader_reads_every_list(local_server: str, local: Browser, query: str) -> None:
    answer = httpx.get(f"{local_server}/feed.atom{query}")
    assert answer.headers["content-type"].startswith("application/atom+xml")
    feed = feedparser.parse(answer.content)
    assert not feed.bozo
    assert feed.version == "atom10"
    newest = query if "sort=" in query else f"{query}{'&' if query else '?'}sort=date"  # unless an order is chosen
    listed = re.findall(r'class="card-title"><a href="([^"]+)"', local.get(f"/{newest}").text)
    assert [e.link.removeprefix(local.page.settings.address()) for e in feed.entries][: len(listed)] == listed
    assert len({e.id for e in feed.entries}) == len(feed.entries)
    for entry in feed.entries:
        assert entry.title
        assert entry.updated_parsed
        assert entry.authors
    assert httpx.get(answer.url, headers={"If-None-Match": answer.headers["etag"]}).status_code == 304


def test_a_feed_holds_what_xml_can_hold(local: Browser) -> None:
    feed = feedparser.parse(local.get("/feed.atom?period=month&start=2026-10-11").content)
    assert not feed.bozo
    title = feed.entries[0].title_detail
    assert (title.type, title.value) == ("text/plain", "<script>alert(1)</script> & \"quotes\" of 'x'")


def test_a_feed_with_a_wrong_filter(local: Browser) -> None:
    answer = local.get("/feed.atom?sort=size")
    assert answer.status_code == 422
    assert answer.headers["content-type"].startswith("text/plain")


def test_the_sitemap_names_every_page(visitor: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    from paperworks.page.web.views import syndication

    def places(path: str) -> list[str]:
        root = ElementTree.fromstring(visitor.get(path).content)
        return [found.text or "" for found in root.iter(f"{SITEMAP}loc")]

    whole = places("/sitemap.xml")
    with visitor.page.database.reading() as session:
        papers = list(session.scalars(select(Entry).where(Entry.hidden.is_(False))))
    assert len(whole) == len(papers) + len(syndication.PLACES)
    assert "https://papers.example/papers/2401.15024" in whole
    monkeypatch.setattr(syndication, "PER_SITEMAP", 30)
    parts = [p.removeprefix("https://papers.example") for p in places("/sitemap.xml")]
    assert sorted(loc for part in parts for loc in places(part)) == sorted(whole)


def _entry(browser: Browser, key: str) -> Entry:
    with browser.page.database.reading() as session:
        return session.scalars(select(Entry).where(Entry.key == key)).one()
