"""Feeds in RSS and Atom: what is read of them, also where they are broken, hostile or odd."""

from __future__ import annotations

from datetime import date

import pytest
from feed_helpers import ATOM, Reply, Site, figures, rss
from sqlalchemy import select

from paperworks.errors import InputError
from paperworks.page.database import Database, Entry
from paperworks.page.feed import IncomingPaper, upsert
from paperworks.page.feed.importers import PoliteClient, import_source
from paperworks.page.feed.importers.arxiv import read_answer
from paperworks.page.feed.importers.feeds import read_feed
from paperworks.page.settings import Settings

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
