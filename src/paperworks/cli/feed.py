"""``paperworks feed``: papers from outside, into the page's feed."""

from __future__ import annotations

import json as jsonlib
from typing import Annotated, Any

from cyclopts import App, Parameter

Json = Annotated[bool, Parameter(name="--json", negative="", help="print JSON instead of a summary")]


def feed_app() -> App:
    """The commands ``feed import`` and ``feed refresh``."""
    app = App(name="feed", help="The page's feed: import papers, refresh what is computed.", help_format="plaintext")
    app.command(import_papers, name="import")
    app.command(refresh, name="refresh")
    return app


def import_papers(
    source: str,
    *,
    database: str | None = None,
    most: int = 1000,
    contact: str | None = None,
    arxiv_api: str | None = None,
    hf: str | None = None,
    quiet: bool = False,
    json: Json = False,
) -> int:
    """Bring papers into the feed: one entry per paper, whatever its sources; importing again changes nothing.

    Parameters
    ----------
    source
        an arXiv id, arxiv:QUERY, hf:DAY (or hf:today), the address of an RSS or Atom feed, a JSONL file, a file with
        the text of a Daily Papers page, or - for either on standard input
    database
        the page's database; by default the one of the page's settings
    most
        at most so many papers of a query, the newest
    contact
        your e-mail or web address, told to the sites that are asked
    arxiv_api
        address of arXiv's API or of a mirror
    hf
        address of the Hugging Face Hub or of a mirror
    quiet
        no progress
    """
    from paperworks.cli.live import show_progress
    from paperworks.errors import InputError
    from paperworks.page.database import open_database
    from paperworks.page.feed.importers import PoliteClient, SourceUrls, import_source
    from paperworks.page.feed.importers.base import NOT_MODIFIED
    from paperworks.page.settings import load_settings
    from paperworks.runs import no_progress

    if most < 1:
        raise InputError("most", most, "1 or more")
    settings = load_settings(database=database, contact=contact)
    given: dict[str, Any] = {k: v for k, v in (("arxiv", arxiv_api), ("huggingface", hf)) if v}
    client = PoliteClient(settings.contact, SourceUrls(**given))
    opened = open_database(settings.database_url)
    try:
        outcome = import_source(opened, source, settings, client, no_progress if quiet else show_progress, most)
    finally:
        client.close()
        opened.close()
    if json:
        print(jsonlib.dumps(outcome.to_dict(), indent=1))
    else:
        print(f"{outcome.added} added, {outcome.updated} updated, {outcome.unchanged} unchanged")
        for what, reason in outcome.skipped:
            print(f"skipped {what}: {reason}")
    failed = any(reason != NOT_MODIFIED for _, reason in outcome.skipped)
    return 1 if failed and not (outcome.added or outcome.updated or outcome.unchanged) else 0


def refresh(*, database: str | None = None, quiet: bool = False, json: Json = False) -> None:
    """Refresh what is computed: the catalogue's papers and figures, the trend, the search index.

    Parameters
    ----------
    database
        the page's database; by default the one of the page's settings
    quiet
        no progress
    """
    from paperworks.cli.live import show_progress
    from paperworks.page.database import now, open_database
    from paperworks.page.feed import refresh_trends, seed_catalogue
    from paperworks.page.search import open_search
    from paperworks.page.settings import load_settings
    from paperworks.runs import no_progress

    opened = open_database(load_settings(database=database).database_url)
    try:
        seeded = seed_catalogue(opened)
        with opened.session(writing=True) as session:
            trends = refresh_trends(session, now())
        search = open_search(opened)
        indexed = search.refresh(no_progress if quiet else show_progress)
        search.close()
    finally:
        opened.close()
    if json:
        print(jsonlib.dumps({"catalogue": seeded.to_dict(), "trends": trends, "search": indexed}, indent=1))
    else:
        print(f"catalogue: {seeded.added} added, {seeded.updated} updated")
        print(f"trend: {trends} changed; search: {indexed} indexed")
