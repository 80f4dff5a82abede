"""Importers against local servers that speak the sources' formats."""

from __future__ import annotations

import io
import json
from datetime import UTC, date, datetime, timedelta
from html import escape
from pathlib import Path

import pytest
from feed_helpers import Clock, Reply, Site
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from paperworks.errors import InputError
from paperworks.page.database import Database, Entry, ImportState, now
from paperworks.page.feed import ImportOutcome, IncomingPaper, upsert
from paperworks.page.feed.importers import PoliteClient, import_arxiv, import_source
from paperworks.page.feed.importers import client as client_module
from paperworks.page.feed.importers.arxiv import read_answer
from paperworks.page.feed.importers.client import is_private, retry_after
from paperworks.page.feed.importers.daily import read_daily
from paperworks.page.feed.importers.feeds import read_feed
from paperworks.page.feed.importers.markup import plain_text
from paperworks.page.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(folder=tmp_path, contact="owner@example.org")


def figures(outcome: ImportOutcome) -> tuple[int, int, int, int]:
    return outcome.added, outcome.updated, outcome.unchanged, len(outcome.skipped)


def arxiv_entry(identity: str, title: str, abstract: str = "An abstract.") -> str:
    return f"""<entry><id>http://arxiv.org/abs/{identity}</id><published>2024-01-26T17:35:45Z</published>
      <title>{escape(title)}</title><summary>  {escape(abstract)}
      </summary><author><name>Ada Bee</name></author><author><name>Cai Dee</name></author>
      <arxiv:comment>8 pages, code at https://github.com/a/b.</arxiv:comment><arxiv:doi>10.1000/ab</arxiv:doi>
      <category term="cs.LG" scheme="x"/><category term="stat.ML" scheme="x"/></entry>"""


def arxiv_feed(entries: list[str], total: int) -> bytes:
    return f"""<?xml version="1.0" encoding="UTF-8"?><feed xmlns="http://www.w3.org/2005/Atom"
      xmlns:arxiv="http://arxiv.org/schemas/atom" xmlns:opensearch="http://a9.com/-/spec/opensearch/1.1/">
      <opensearch:totalResults>{total}</opensearch:totalResults>{"".join(entries)}</feed>""".encode()


def test_an_arxiv_id(database: Database, site: Site, client: PoliteClient, settings: Settings) -> None:
    site.answer = lambda r: Reply(arxiv_feed([arxiv_entry("2401.15024v2", "Slices  of\n models")], 1))
    assert figures(import_source(database, "https://arxiv.org/abs/2401.15024v1", settings, client)) == (1, 0, 0, 0)
    assert figures(import_arxiv(database, "2401.15024", settings, client)) == (0, 0, 1, 0)
    (request, _) = site.requests
    assert request.query["id_list"] == "2401.15024"
    assert "owner@example.org" in request.headers["user-agent"]
    with database.reading() as session:
        entry = session.scalars(select(Entry)).one()
        assert (entry.title, entry.abstract, entry.authors) == (
            "Slices of models",
            "An abstract.",
            ["Ada Bee", "Cai Dee"],
        )
        assert (entry.published, entry.tag_names) == (date(2024, 1, 26), ["cs.lg", "stat.ml"])
        assert (entry.repository, entry.url) == ("https://github.com/a/b", "https://arxiv.org/abs/2401.15024")


def test_arxiv_says_error_or_nothing(database, site: Site, client: PoliteClient, settings: Settings) -> None:
    error = "<entry><id>http://arxiv.org/api/errors#x</id><title>Error</title><summary>bad id</summary></entry>"
    site.answer = lambda r: Reply(arxiv_feed([error], 1))
    outcome = import_source(database, "2401.99999", settings, client)
    assert figures(outcome) == (0, 0, 0, 1)
    assert "bad id" in outcome.skipped[0][1]
    site.answer = lambda r: Reply(arxiv_feed([], 0))
    assert import_source(database, "2401.99999", settings, client).skipped == [
        ("2401.99999", "arXiv has no paper of this id")
    ]
    site.answer = lambda r: Reply(b"<html>busy</html>")
    with pytest.raises(InputError, match="Atom"):
        import_source(database, "2401.99999", settings, client)


def test_a_reader_reaches_arxiv_only(database, site: Site, client: PoliteClient, settings: Settings) -> None:
    for text in (site.url, "/etc/passwd", "-", "arxiv:all:x", "hf:today", "http://169.254.169.254/"):
        with pytest.raises(InputError, match="arXiv id"):
            import_arxiv(database, text, settings, client)
    assert site.requests == []
    site.answer = lambda r: Reply(status=302, headers={"Location": "http://localhost:1/secret"})
    with pytest.raises(InputError, match="redirect"):
        import_arxiv(database, "2401.15024", settings, client)
    assert len(site.requests) == 1


def test_a_query_page_by_page(database, site: Site, client: PoliteClient, settings: Settings, clock: Clock) -> None:
    empty = iter([True, False, False, False, False])

    def answer(request):
        start, size = int(request.query["start"]), int(request.query["max_results"])
        if start == 100 and next(empty):
            return Reply(arxiv_feed([], 230))  # arXiv does this now and then
        numbers = range(start, min(start + size, 230))
        return Reply(arxiv_feed([arxiv_entry(f"2401.{i:05}", f"The paper number {i}") for i in numbers], 230))

    site.answer = answer
    assert figures(import_source(database, "arxiv:cat:cs.LG AND abs:pruning", settings, client)) == (230, 0, 0, 0)
    assert [r.query["start"] for r in site.requests] == ["0", "100", "100", "200"]
    assert site.requests[0].query["search_query"] == "cat:cs.LG AND abs:pruning"
    assert clock.sleeps == [3.0, 3.0, 3.0]
    assert figures(import_source(database, "arxiv:cat:cs.LG AND abs:pruning", settings, client, most=40)) == (
        0,
        0,
        40,
        0,
    )


def test_an_interrupted_query_goes_on(database, site: Site, client: PoliteClient, settings: Settings) -> None:
    broken = True

    def answer(request):
        start = int(request.query["start"])
        if start == 100 and broken:
            return Reply(status=404)
        numbers = range(start, min(start + 100, 150))
        return Reply(arxiv_feed([arxiv_entry(f"2401.{i:05}", f"The paper number {i}") for i in numbers], 150))

    site.answer = answer
    with pytest.raises(InputError, match="404"):
        import_source(database, "arxiv:all:x", settings, client)
    broken = False
    site.requests.clear()
    assert figures(import_source(database, "arxiv:all:x", settings, client)) == (50, 0, 0, 0)
    assert [r.query["start"] for r in site.requests] == ["100"]
    site.requests.clear()
    assert figures(import_source(database, "arxiv:all:x", settings, client)) == (0, 0, 150, 0)


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


RSS = """<?xml version="1.0"?><rss version="2.0" xmlns:dc="http://purl.org/dc/elements/1.1/"
 xmlns:content="http://purl.org/rss/1.0/modules/content/"><channel><title>Papers</title>
<item><title>On &lt;i&gt;graphs&lt;/i&gt; &amp;amp; trees (arXiv:2402.00003v1 [cs.DS])</title>
 <link>http://arxiv.org/abs/2402.00003</link>
 <description>arXiv:2402.00003v1 Announce Type: new
Abstract: &lt;p&gt;We count &lt;b&gt;trees&lt;/b&gt;.&lt;/p&gt;&lt;script&gt;evil()&lt;/script&gt;</description>
 <dc:creator>Ada Bee, Cai Dee</dc:creator><category>cs.DS</category>
 <pubDate>Fri, 02 Feb 2024 05:00:00 GMT</pubDate></item>
<item><title>A post with a relative link</title><link>/posts/7</link><author>x@y.z (Eve Eff)</author>
 <pubDate>2024-02-03T23:30:00-05:00</pubDate></item>
<item><link>http://no.title/</link></item></channel></rss>"""

ATOM = """<?xml version="1.0"?><feed xmlns="http://www.w3.org/2005/Atom"><title>Papers</title>
<entry><title type="html">On graphs &amp;amp; trees</title><id>urn:x</id><link rel="self" href="/self"/>
 <link rel="alternate" href="https://example.org/graphs"/><link rel="related" href="https://doi.org/10.1/x"/>
 <author><name>Bee, Ada</name></author><published>2024-02-02T00:00:00Z</published>
 <summary>More on trees.</summary></entry>
</feed>"""


def test_feeds(database, site: Site, client: PoliteClient, settings: Settings) -> None:
    papers, skipped = read_feed(RSS.encode(), "https://example.org/rss")
    assert skipped == [("item 3", "no title")]
    first, second = papers
    assert (first.title, first.abstract, first.arxiv) == ("On graphs & trees", "We count trees.", "2402.00003")
    assert (first.authors, list(first.tags), first.published) == (["Ada Bee", "Cai Dee"], ["cs.DS"], date(2024, 2, 2))
    assert (second.url, second.authors, second.published) == (
        "https://example.org/posts/7",
        ["Eve Eff"],
        date(2024, 2, 4),
    )
    ((entry,), _) = read_feed(ATOM.encode(), "https://example.org/atom")
    assert (entry.url, entry.authors, entry.title) == ("https://example.org/graphs", ["Bee, Ada"], "On graphs & trees")

    def answer(request):
        if request.headers.get("if-modified-since") == "Fri, 02 Feb 2024 05:00:00 GMT":
            return Reply(status=304)
        body = RSS if request.path == "/rss" else ATOM
        return Reply(body.encode(), headers={"Last-Modified": "Fri, 02 Feb 2024 05:00:00 GMT"})

    site.answer = answer
    assert figures(import_source(database, f"{site.url}/rss", settings, client)) == (2, 0, 0, 1)
    assert figures(import_source(database, f"{site.url}/atom", settings, client)) == (0, 1, 0, 0)  # the same paper
    assert figures(import_source(database, f"{site.url}/rss", settings, client)) == (0, 0, 0, 1)


@pytest.mark.parametrize(
    "content",
    [
        b'<!DOCTYPE x [<!ENTITY a "aa"><!ENTITY b "&a;&a;">]><rss><item><title>&b;</title></item></rss>',
        b'<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><rss><channel><item><title>&a;</title></item></channel></rss>',
        b"",
        b"\xff\xfe\x00",
        b"hello",
        b"<html/>",
        b'{"title": "JSON"}',
    ],
)
def test_hostile_or_broken_xml_is_refused(content: bytes) -> None:
    for read in (lambda: read_feed(content, "https://example.org"), lambda: read_answer(content)):
        with pytest.raises(InputError):
            read()


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


BROKEN = {
    "a bad byte": b"<rss><channel><item><title>Caf\xe9 of graphs, a study</title><link>https://e.org/1</link></item>%s",
    "a bare ampersand": b"<rss><channel><item><title>Graphs & trees, a study</title><link>https://e.org/1</link></item>%s",
    "an unknown entity": b"<rss><channel><item><title>Graphs&nbsp;of &eacute;t&eacute; &foo; &lt;</title>"
    b"<link>https://e.org/1</link></item>%s",
    "a control character": b"<rss><channel><item><title>Graphs\x0b\x00\x1f of &#0;&#x1F; trees, a study</title>"
    b"<link>https://e.org/1</link></item>%s",
    "blanks at the start": b"\n \t<?xml version='1.0'?><rss><channel><item><title>Graphs of trees, a study</title>"
    b"<link>https://e.org/1</link></item>%s",
    "an encoding that none has": b'<?xml version="1.0" encoding="nonsense"?><rss><channel><item><title>Graphs of trees'
    b"</title><link>https://e.org/1</link></item>%s",
    "an element that does not end": b"<rss><channel><item><title>Graphs of trees a study</title>"
    b"<link>https://e.org/1</link><category>trees</item>%s",
}
TITLES = {
    "a bad byte": "Caf\ufffd of graphs, a study",
    "a bare ampersand": "Graphs & trees, a study",
    "an unknown entity": "Graphs of été &foo; <",
    "a control character": "Graphs of trees, a study",
    "blanks at the start": "Graphs of trees, a study",
    "an encoding that none has": "Graphs of trees",
    "an element that does not end": "Graphs of trees a study",
}
AFTER = b"<item><title>The paper after it, which is whole</title><link>https://e.org/2</link></item></channel></rss>"


@pytest.mark.parametrize("fault", BROKEN)
def test_one_fault_does_not_lose_a_feed(database: Database, site: Site, client, settings: Settings, fault: str) -> None:
    site.answer = lambda r: Reply(BROKEN[fault] % AFTER)
    assert figures(import_source(database, f"{site.url}/rss", settings, client)) == (2, 0, 0, 0)
    assert figures(import_source(database, f"{site.url}/rss", settings, client)) == (0, 0, 2, 0)
    with database.reading() as session:
        titles = list(session.scalars(select(Entry.title).order_by(Entry.url)))
    assert titles == [TITLES[fault], "The paper after it, which is whole"]


def test_broken_feeds_are_read_as_feedparser_reads_them() -> None:
    feedparser = pytest.importorskip("feedparser")
    for fault in ("a bare ampersand", "blanks at the start", "an unknown entity"):
        ours, _ = read_feed(BROKEN[fault] % AFTER, "https://e.org")
        theirs = [" ".join(e.title.split()) for e in feedparser.parse((BROKEN[fault] % AFTER).lstrip()).entries]
        assert [p.cleaned(date(2026, 1, 1)).title for p in ours] == theirs


def rss(*items: str) -> bytes:
    return f"<rss xmlns:arxiv='http://arxiv.org/schemas/atom'><channel>{''.join(items)}</channel></rss>".encode()


def test_one_title_at_two_addresses_of_a_site_is_two_papers(database, site: Site, client, settings: Settings) -> None:
    item = "<item><title>Proceedings of the workshop</title><link>https://{}</link></item>"
    site.answer = lambda r: Reply(rss(*(item.format(a) for a in ("e.org/1", "e.org/2", "other.org/3"))))
    assert figures(import_source(database, f"{site.url}/rss", settings, client)) == (3, 0, 0, 0)
    assert figures(import_source(database, f"{site.url}/rss", settings, client)) == (0, 0, 3, 0)
    with database.session() as session:  # another site that has the paper as well
        assert upsert(session, IncomingPaper("Proceedings of the Workshop", url="https://e.org/1")) == "unchanged"
        assert upsert(session, IncomingPaper("Proceedings of the Workshop")) == "unchanged"


def test_an_item_and_its_replacement_are_one_change(database, site: Site, client, settings: Settings) -> None:
    item = (
        "<item><title>{}</title><link>https://arxiv.org/abs/2401.00001</link><description>{}</description>"
        "<arxiv:announce_type>{}</arxiv:announce_type><category>cs.LG</category></item>"
    )
    items = [
        item.format("A better title of it", "Now longer.", "replace"),
        item.format("A title of it", "Short.", "new"),
    ]
    for order in (items, items[::-1]):
        site.answer = lambda r, order=order: Reply(rss(*order))
        assert import_source(database, f"{site.url}/rss", settings, client).updated == 0
        assert figures(import_source(database, f"{site.url}/rss", settings, client)) == (0, 0, 1, 0)
        with database.reading() as session:
            entry = session.scalars(select(Entry)).one()
            assert (entry.title, entry.abstract) == ("A better title of it", "Now longer.")


def test_a_paper_that_is_withdrawn_is_marked(database, site: Site, client, settings: Settings) -> None:
    comment = arxiv_entry("2401.00007v3", "A paper that was wrong").replace("8 pages", "This paper has been withdrawn")
    site.answer = lambda r: Reply(arxiv_feed([comment], 1))
    import_source(database, "2401.00007", settings, client)
    site.answer = lambda r: Reply(
        rss("<item><title>[Withdrawn] Another one</title><link>https://e.org/1</link></item>")
    )
    import_source(database, f"{site.url}/rss", settings, client)
    with database.session() as session:
        upsert(session, IncomingPaper("A study of money withdrawn from banks", source="jsonl"))
        assert dict(session.execute(select(Entry.title, Entry.withdrawn)).all()) == {
            "A paper that was wrong": True,
            "[Withdrawn] Another one": True,
            "A study of money withdrawn from banks": False,
        }


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


def test_latex_is_read_at_the_import(database, site: Site, client, settings: Settings) -> None:
    site.answer = lambda r: Reply(
        arxiv_feed(
            [arxiv_entry("2401.00009v1", r"Sorting in $\mathcal{O}(n^2)$ by G{\"o}del", r"\textbf{50\%} of $n$")], 1
        )
    )
    import_source(database, "2401.00009", settings, client)
    with database.reading() as session:
        entry = session.scalars(select(Entry)).one()
    assert (entry.title, entry.abstract) == (r"Sorting in $\mathcal{O}(n^2)$ by Gödel", "50% of $n$")


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
