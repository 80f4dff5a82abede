"""Importers against local servers that speak the sources' formats."""

from __future__ import annotations

import io
import json
from datetime import UTC, date, datetime, timedelta
from html import escape
from pathlib import Path

import pytest
from feed_helpers import ATOM, Clock, Reply, Site, figures, rss
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from paperworks.errors import InputError
from paperworks.page.database import Database, Entry, ImportState, now
from paperworks.page.feed import IncomingPaper, upsert
from paperworks.page.feed.importers import PoliteClient, import_source
from paperworks.page.feed.importers import client as client_module
from paperworks.page.feed.importers.client import is_private, retry_after
from paperworks.page.feed.importers.daily import read_daily
from paperworks.page.feed.importers.markup import plain_text
from paperworks.page.settings import Settings

DAILY = [
    {
        "paper": {
            "id": "2510.00001",
            "title": "A daily paper",
            "summary": "Short.",
            "upvotes": 31,
            "authors": [{"name": "Ada Bee", "hidden": False}, {"name": "Ghost", "hidden": True}],
            "publishedAt": "2025-10-01T03:00:00.000Z",
            "submittedOnDailyAt": "2025-10-29T00:00:00.000Z",
            "ai_keywords": ["Sparse Attention"],
            "githubRepo": "https://github.com/a/b",
            "organization": {"name": "eth", "fullname": "ETH Zurich"},
        },
        "numComments": 4,
        "title": "A daily paper",
        "publishedAt": "2025-10-01T03:00:00.000Z",
    },
    {"paper": {"id": "2510.00002", "title": "Another daily paper"}},
    {"paper": None},
    "text",
    {"paper": {"id": 7, "title": "x"}},
]


def test_a_day_of_daily_papers(database, site: Site, client: PoliteClient, settings: Settings) -> None:
    def answer(request):
        if request.headers.get("if-none-match") == '"v1"':
            return Reply(status=304)
        return Reply(json.dumps(DAILY).encode(), headers={"ETag": '"v1"'})

    site.answer = answer
    outcome = import_source(database, "hf:2025-10-29", settings, client)
    assert figures(outcome) == (2, 0, 0, 3)
    assert (site.requests[0].path, site.requests[0].query["date"]) == ("/api/daily_papers", "2025-10-29")
    with database.reading() as session:
        first, second = session.scalars(select(Entry).order_by(Entry.id))
        assert (first.arxiv, first.authors, first.organisation) == ("2510.00001", ["Ada Bee"], "ETH Zurich")
        assert (first.upvotes_elsewhere, first.comments_elsewhere) == (31, 4)
        assert (first.published, first.listed, second.listed) == (
            date(2025, 10, 1),
            date(2025, 10, 29),
            date(2025, 10, 29),
        )
        assert (first.tag_names, first.repository) == (["sparse-attention"], "https://github.com/a/b")
    again = import_source(database, "https://huggingface.co/papers/date/2025-10-29", settings, client)
    assert figures(again) == (0, 0, 0, 1)
    assert "not modified" in again.skipped[0][1]
    with pytest.raises(InputError, match="day"):
        import_source(database, "hf:2025-13-45", settings, client)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda c: (
            st.lists(c, max_size=3)
            | st.dictionaries(st.sampled_from(["paper", "id", "title", "authors", "upvotes", "name"]), c)
        ),
    )
)
def test_any_json_is_read_or_refused(value) -> None:
    try:
        papers, skipped, count = read_daily(json.dumps(value).encode(), date(2026, 1, 1))
    except InputError:
        return
    assert len(papers) + len(skipped) == count == len(value)


@given(st.text())
def test_plain_text_has_no_tags(text: str) -> None:
    shown = plain_text(f"<div>{escape(text)}</div>")
    assert (
        shown == " ".join(text.replace("\x00", "\ufffd").split())
        or "\r" in text
        or any(ord(c) < 32 or 127 <= ord(c) < 160 for c in text)
    )


def test_back_off(database, site: Site, client: PoliteClient, settings: Settings, clock: Clock) -> None:
    replies = iter([Reply(status=503), Reply(status=429, headers={"Retry-After": "17"}), Reply(ATOM.encode())])
    site.answer = lambda r: next(replies)
    assert figures(import_source(database, f"{site.url}/atom", settings, client)) == (1, 0, 0, 0)
    assert clock.sleeps == [2.0, 17.0]
    site.answer = lambda r: Reply(status=503)
    clock.sleeps.clear()
    with pytest.raises(InputError, match="503"):
        client.get(f"{site.url}/other")
    assert clock.sleeps[-4:] == [2.0, 4.0, 8.0, 16.0]
    site.answer = lambda r: Reply(status=429, headers={"Retry-After": "86400"})
    with pytest.raises(InputError, match="86400 seconds"):
        client.get(f"{site.url}/other")


def test_retry_after() -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    assert retry_after("12", moment) == 12
    assert retry_after("Thu, 01 Jan 2026 00:01:00 GMT", moment) == 60
    assert retry_after("Thu, 01 Jan 2015 00:01:00 GMT", moment) == 0
    assert retry_after("soon", moment) is None
    assert retry_after(None, moment) is None


def test_limits_of_the_client(site: Site, client: PoliteClient, clock: Clock, monkeypatch) -> None:
    monkeypatch.setattr(client_module, "MOST_BYTES", 1000)
    site.answer = lambda r: Reply(b"x" * 1001)
    with pytest.raises(InputError, match="more than"):
        client.get(site.url)
    site.answer = lambda r: Reply(status=302, headers={"Location": "/again"})
    with pytest.raises(InputError, match="redirects"):
        client.get(site.url)
    for target in ("file:///etc/passwd", "ftp://example.org/", "http:///x"):
        site.answer = lambda r, target=target: Reply(status=302, headers={"Location": target})
        with pytest.raises(InputError):
            client.get(site.url)
    site.answer = lambda r: Reply(status=302, headers={"Location": f"http://localhost:{site.url.split(':')[-1]}/"})
    with pytest.raises(InputError, match="public"):
        client.get(site.url)  # 127.0.0.1 sends to another name of this machine
    with pytest.raises(InputError, match="http"):
        client.get("file:///etc/passwd")
    before = clock.time
    site.answer = lambda r: Reply(b"")
    client.get(site.url)
    client.get(site.url)
    assert clock.time - before >= 1.0
    assert is_private("localhost")
    assert is_private("169.254.169.254")
    assert is_private("no-such-host.invalid")
    assert not is_private("8.8.8.8")


def test_jsonl(database: Database, settings: Settings, tmp_path: Path, monkeypatch) -> None:
    rows = [
        {
            "title": "The first paper here",
            "abstract": "x",
            "authors": ["A"],
            "tags": ["T 1"],
            "published": "2024-01-02",
        },
        {"title": "The second paper here", "arxiv": "2401.00001", "upvotes": 3, "organisation": None},
        {"title": "The second paper here", "arxiv": "2401.00001v2"},
        {"title": "y", "upvots": 3},
        {"abstract": "no title"},
        {"title": "z", "upvotes": "3"},
        [1],
        {"title": "w", "published": "tomorrow"},
        {"title": "v", "authors": "A"},
    ]
    file = tmp_path / "papers.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)) + "\n\n{broken\n", encoding="utf-8")
    outcome = import_source(database, str(file), settings)
    assert figures(outcome) == (2, 0, 0, 7)
    reasons = dict(outcome.skipped)
    assert "upvotes" in reasons["line 4"]  # the field that was meant
    assert "whole number" in reasons["line 6"]
    assert "JSON" in reasons["line 11"]
    assert figures(import_source(database, str(file), settings)) == (0, 0, 2, 7)
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(rows[:3])))
    assert figures(import_source(database, "-", settings)) == (0, 0, 2, 0)  # two lines are one paper
    assert set(outcome.to_dict()) == {"added", "updated", "unchanged", "skipped"}


def test_an_interrupted_file_goes_on(database: Database, settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "papers.jsonl"
    file.write_text("\n".join(json.dumps({"title": f"The paper with number {i}"}) for i in range(250)))

    def stop(iterable, description, total=None):
        for number, item in enumerate(iterable):
            if number == 2:
                raise KeyboardInterrupt
            yield item

    with pytest.raises(KeyboardInterrupt):
        import_source(database, str(file), settings, progress=stop)
    with database.reading() as session:
        assert session.scalars(select(ImportState)).one().cursor.endswith(":200")
    assert figures(import_source(database, str(file), settings)) == (50, 0, 0, 0)


@pytest.mark.parametrize("source", ["", "   ", "no such file.txt", "arxiv:", "hf:", "x\x00y", "a" * 5000])
def test_sources_that_are_none(database: Database, settings: Settings, source: str) -> None:
    with pytest.raises(InputError):
        import_source(database, source, settings)


def test_files_that_are_none(database: Database, settings: Settings, tmp_path: Path) -> None:
    for name, content in (("a", b"\xff\xfe\xfa"), ("b", b""), ("c", b"[1,"), ("d", b"just a line")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError):
            import_source(database, str(tmp_path / name), settings)


def test_days_that_have_not_come_are_unknown(database, site: Site, client, settings: Settings, tmp_path: Path) -> None:
    dates = ("Fri, 01 Mar 2126 10:00:00 GMT", "some day", "")
    items = [
        f"<item><title>Dated {d or 'not at all'}</title><link>https://e.org/{n}</link><pubDate>{d}</pubDate></item>"
        for n, d in enumerate(dates)
    ]
    site.answer = lambda r: Reply(rss(*items))
    assert import_source(database, f"{site.url}/rss", settings, client).added == 3
    file = tmp_path / "papers.jsonl"
    file.write_text('{"title": "A paper of the year 2126", "published": "2126-01-01"}\n', encoding="utf-8")
    outcome = import_source(database, str(file), settings, client)
    assert figures(outcome) == (0, 0, 0, 1)
    assert "published" in outcome.skipped[0][1]
    with pytest.raises(InputError, match="day"):
        import_source(database, "hf:2126-01-01", settings, client)
    today = now().date()
    with database.session() as session:
        for day in (today + timedelta(days=2), date(9999, 12, 31)):
            upsert(session, IncomingPaper(f"Ahead until {day}", published=day, listed=day, source="hf"))
        upsert(session, IncomingPaper("Of tomorrow, in another zone", published=today + timedelta(days=1)))
        for entry in session.scalars(select(Entry)):
            assert entry.listed <= today + timedelta(days=1)
            assert (entry.published is None) == (entry.title != "Of tomorrow, in another zone")
            assert entry.listed_known is False


def test_lines_about_one_paper_are_one_change(database, client, settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "papers.jsonl"
    file.write_text(
        '{"title": "First words on it", "arxiv": "2401.00001", "abstract": "Long."}\n'
        '{"title": "Second words on it", "arxiv": "2401.00001v2", "upvotes": 3}\n',
        encoding="utf-8",
    )
    assert figures(import_source(database, str(file), settings, client)) == (1, 0, 0, 0)
    assert figures(import_source(database, str(file), settings, client)) == (0, 0, 1, 0)
    with database.reading() as session:
        entry = session.scalars(select(Entry)).one()
    assert (entry.title, entry.abstract, entry.upvotes_elsewhere) == ("Second words on it", "Long.", 3)
