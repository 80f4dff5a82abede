"""arXiv's interface: ids, queries page by page, interruptions, withdrawn papers and LaTeX."""

from __future__ import annotations

from datetime import date

import pytest
from feed_helpers import Clock, Reply, Site, arxiv_entry, arxiv_feed, figures, rss
from sqlalchemy import select

from paperworks.errors import InputError
from paperworks.page.database import Database, Entry
from paperworks.page.feed import IncomingPaper, upsert
from paperworks.page.feed.importers import PoliteClient, import_arxiv, import_source
from paperworks.page.settings import Settings


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
