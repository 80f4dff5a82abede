"""Running an import: which importer a source needs, batch after batch, each committed with the place to go on from."""

from __future__ import annotations

import re
import sys
from datetime import UTC, date, timedelta
from pathlib import Path

from paperworks.errors import InputError
from paperworks.page.database import Database, ImportState, now
from paperworks.page.feed.entries import ImportOutcome, upsert
from paperworks.page.feed.importers.arxiv import ArxivIdImporter, ArxivQueryImporter
from paperworks.page.feed.importers.base import Batch, Importer, Validators
from paperworks.page.feed.importers.client import MOST_BYTES, PoliteClient
from paperworks.page.feed.importers.daily import DailyPapersImporter
from paperworks.page.feed.importers.feeds import FeedImporter
from paperworks.page.feed.importers.lines import LinesImporter
from paperworks.page.feed.importers.paste import PastedPageImporter
from paperworks.page.feed.keys import arxiv_id
from paperworks.page.settings import Settings
from paperworks.runs import Progress, no_progress

MOST_OF_A_QUERY = 1000
_DAILY = re.compile(r"(?:hf:|https://huggingface\.co/papers(?:/date/|\?date=))?(\d{4}-\d{2}-\d{2}|today|yesterday)")
_FORMS = (
    "an arXiv id (2401.15024), a query (arxiv:cat:cs.LG AND abs:pruning), a day of the daily papers (hf:2026-11-20), "
    "the address of an RSS or Atom feed, a JSONL file, a file with the text of a Daily Papers page, or - for either "
    "on standard input"
)


def import_source(
    database: Database,
    source: str,
    settings: Settings,
    client: PoliteClient | None = None,
    progress: Progress = no_progress,
    most: int = MOST_OF_A_QUERY,
) -> ImportOutcome:
    """Bring the papers of a source into the feed.

    Parameters
    ----------
    source : an arXiv id (or several, separated by commas), ``arxiv:QUERY``, ``hf:DAY``, an address, a file, or ``-``.
    client : by default one that gives ``settings.contact`` to the sites.
    most : at most so many papers of a query, the newest.

    An import that is interrupted (an error, a signal) has kept what it read, and goes on there when it is run again.
    Raises InputError for a source that is none of these and for a site that fails.
    """
    own = client is None
    used = client or PoliteClient(settings.contact)
    try:
        return _run(database, recognise(source, used, most), progress)
    finally:
        if own:
            used.close()


def import_arxiv(
    database: Database, arxiv: str, settings: Settings, client: PoliteClient | None = None
) -> ImportOutcome:
    """Bring one paper by its arXiv id: what a page lets its readers do. Nothing but arXiv's API is ever asked.

    Raises InputError("arxiv", ...) for text that is not an arXiv id.
    """
    identity = arxiv_id(arxiv)
    if identity is None:
        raise InputError("arxiv", repr(arxiv[:60]), "an arXiv id, as in 2401.15024")
    return import_source(database, identity, settings, client)


def recognise(source: str, client: PoliteClient, most: int = MOST_OF_A_QUERY) -> Importer:
    """The importer of a source. Raises InputError with the forms that there are."""
    stripped = source.strip()
    ids = [arxiv_id(part) for part in stripped.split(",")]
    if stripped and all(ids):
        return ArxivIdImporter(client, [i for i in ids if i])
    if match := _DAILY.fullmatch(stripped):
        return DailyPapersImporter(client, _day(match[1]))
    if stripped == "-":
        return _text_importer(sys.stdin.read(MOST_BYTES + 1), "standard input")
    if re.match(r"https?://", stripped):
        return FeedImporter(client, stripped)
    path = Path(source)
    try:
        if path.is_file():
            return _text_importer(_read(path), path.name)
    except OSError:
        pass  # a name that cannot be a file's
    if stripped.lower().startswith("arxiv:"):
        return ArxivQueryImporter(client, stripped[6:], most)
    raise InputError("source", repr(source[:100]), _FORMS)


def _run(database: Database, importer: Importer, progress: Progress) -> ImportOutcome:
    outcome = ImportOutcome()
    with database.reading() as session:
        state = session.get(ImportState, importer.name)
        cursor = (state.cursor or None) if state else None
        validators = Validators(state.etag, state.last_modified) if state and not cursor else Validators()
    for batch in progress(importer.batches(cursor, validators), f"importing {importer.name[:60]}"):
        _store(database, importer.name, batch, outcome)
    return outcome


def _store(database: Database, name: str, batch: Batch, outcome: ImportOutcome) -> None:
    """One batch and the place to go on from, in one transaction."""
    done = ImportOutcome(skipped=list(batch.skipped))
    with database.session() as session:
        for paper in batch.papers:
            try:
                with session.begin_nested():
                    done.count(upsert(session, paper))
            except InputError as error:
                done.skipped.append((paper.arxiv or paper.title[:60] or "a paper", str(error)))
        state = session.get(ImportState, name)
        if state is None:
            state = ImportState(source=name)
            session.add(state)
        state.cursor = batch.cursor
        state.fetched = now()
        if batch.cursor is None:
            validators = batch.validators or Validators()
            state.etag, state.last_modified = validators.etag, validators.last_modified
    outcome.added += done.added
    outcome.updated += done.updated
    outcome.unchanged += done.unchanged
    outcome.skipped += done.skipped


def _text_importer(text: str, name: str) -> Importer:
    if len(text) > MOST_BYTES:
        raise InputError(name, f"more than {MOST_BYTES // 2**20} MiB", "a smaller file")
    begin = text.lstrip("\ufeff \t\r\n")[:1]
    return LinesImporter(text.removeprefix("\ufeff"), name) if begin in ("{", "[") else PastedPageImporter(text, name)


def _read(path: Path) -> str:
    if path.stat().st_size > MOST_BYTES:
        raise InputError(str(path), f"more than {MOST_BYTES // 2**20} MiB", "a smaller file")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(str(path), f"bytes that are not UTF-8 (byte {error.start})", "text in UTF-8") from None


def _day(text: str) -> date:
    today = now().astimezone(UTC).date()
    if text in ("today", "yesterday"):
        return today - timedelta(days=text == "yesterday")
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise InputError("day", text, "a day, as in hf:2026-11-20") from None
    if day > today + timedelta(days=1):
        raise InputError("day", text, "a day that has come")
    return day
