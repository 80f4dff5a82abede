"""``paperworks feed``: papers from outside, into the page's feed."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

Json = Annotated[bool, Parameter(name="--json", negative="", help="print JSON instead of a summary")]


def feed_app() -> App:
    """The commands below ``feed``."""
    app = App(name="feed", help="The page's feed: import papers, hide, edit and remove them.", help_format="plaintext")
    for command, name in (
        (import_papers, "import"),
        (refresh, "refresh"),
        (hide, "hide"),
        (unhide, "unhide"),
        (edit, "edit"),
        (remove, "remove"),
        (log, "log"),
    ):
        app.command(command, name=name)
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
    from paperworks.errors import InputError
    from paperworks.page.database import open_database
    from paperworks.page.feed.importers import PoliteClient, SourceUrls, import_source
    from paperworks.page.feed.importers.base import NOT_MODIFIED
    from paperworks.page.settings import load_settings
    from paperworks.runs import no_progress
    from paperworks.runs.live import show_progress

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
    from paperworks.page.database import now, open_database
    from paperworks.page.feed import refresh_trends, seed_catalogue
    from paperworks.page.search import open_search
    from paperworks.page.settings import load_settings
    from paperworks.runs import no_progress
    from paperworks.runs.live import show_progress

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


def hide(paper: str, *, reason: str = "", database: str | None = None) -> None:
    """Hide a paper: it is in no list, search, feed or mail until it is shown again.

    Parameters
    ----------
    paper
        an arXiv id, a slug, p and a number as in the paper's address, or its whole title
    reason
        why, for the audit trail
    database
        the page's database; by default the one of the page's settings
    """
    from paperworks.page.community import moderation

    with _writing(database) as session:
        entry = moderation.find_any(session, paper)
        changed = moderation.set_hidden(session, moderation.Moderator(), entry, True, reason)
        print(f"{'hidden' if changed else 'was hidden already'}: {entry.title}")


def unhide(paper: str, *, reason: str = "", database: str | None = None) -> None:
    """Show a hidden paper again, or let a removed one be imported again.

    Parameters
    ----------
    paper
        as for hide; of a removed paper its arXiv id
    reason
        why, for the audit trail
    database
        the page's database; by default the one of the page's settings
    """
    from paperworks.errors import InputError
    from paperworks.page.community import moderation

    with _writing(database) as session:
        who = moderation.Moderator()
        try:
            entry = moderation.find_any(session, paper)
        except InputError as unknown:
            try:
                action = moderation.restore(session, who, paper, reason)
            except InputError:
                raise unknown from None
            print(f"may be imported again: {action.subject}")
            return
        changed = moderation.set_hidden(session, who, entry, False, reason)
        print(f"{'shown again' if changed else 'was not hidden'}: {entry.title}")


def edit(
    paper: str,
    *,
    title: str | None = None,
    abstract: str | None = None,
    authors: str | None = None,
    organisation: str | None = None,
    published: str | None = None,
    tags: str | None = None,
    url: str | None = None,
    repository: str | None = None,
    reason: str = "",
    database: str | None = None,
) -> None:
    """Change what the feed says of a paper; no import replaces a field that was changed. "" empties a field.

    Parameters
    ----------
    paper
        as for hide
    title
        the new title
    abstract
        the new abstract
    authors
        names, separated by semicolons
    organisation
        where it comes from
    published
        a day, as 2026-11-23
    tags
        separated by commas
    url
        its address
    repository
        the address of its code
    reason
        why, for the audit trail
    database
        the page's database; by default the one of the page's settings
    """
    from paperworks.errors import InputError
    from paperworks.page.community import moderation

    texts = {"title": title, "abstract": abstract, "organisation": organisation, "published": published}
    given: dict[str, Any] = {k: v for k, v in (texts | {"url": url, "repository": repository}).items() if v is not None}
    if authors is not None:
        given["authors"] = authors.split(";")
    if tags is not None:
        given["tags"] = tags.split(",")
    if not given:
        raise InputError("edit", "nothing to change", f"one of --{', --'.join(moderation.EDITABLE)}")
    with _writing(database) as session:
        entry = moderation.find_any(session, paper)
        changes = moderation.edit_entry(session, moderation.Moderator(), entry, given, reason)
        for name, (before, after) in changes.items():
            print(f"{name}: {before!r} -> {after!r}")
        if not changes:
            print("nothing changed")


def remove(paper: str, *, reason: str = "", database: str | None = None) -> None:
    """Delete a paper with its comments and votes; no import brings it back (see unhide).

    Parameters
    ----------
    paper
        as for hide
    reason
        why, for the audit trail
    database
        the page's database; by default the one of the page's settings
    """
    from paperworks.page.community import moderation

    with _writing(database) as session:
        entry = moderation.find_any(session, paper)
        moderation.remove_entry(session, moderation.Moderator(), entry, reason)
        print(f"removed: {entry.title}")


def log(*, most: int = 100, database: str | None = None, json: Json = False) -> None:
    """The audit trail: what moderators did, the newest first.

    Parameters
    ----------
    most
        at most so many acts
    database
        the page's database; by default the one of the page's settings
    """
    from paperworks.page.community import moderation

    with _writing(database) as session:
        records = [moderation.action_record(action) for action in moderation.history(session, most=most)]
    if json:
        print(jsonlib.dumps(records, indent=1, ensure_ascii=False))
        return
    for one in records:
        fields = f" ({', '.join(one['changes'])})" if one["changes"] else ""
        print(f"{one['when']}  {one['action']}{fields}  {one['paper']}  by {one['by']}  {one['reason']}".rstrip())


@contextmanager
def _writing(database: str | None) -> Iterator[Session]:
    """A transaction of the page's database."""
    from paperworks.page.database import open_database
    from paperworks.page.settings import load_settings

    opened = open_database(load_settings(database=database).database_url)
    try:
        with opened.session() as session:
            yield session
    finally:
        opened.close()
