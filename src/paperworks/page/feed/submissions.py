"""Papers that readers submit: brought at once where arXiv answers soon, else queued until it does."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from datetime import timedelta

import httpx
from sqlalchemy import select, update
from sqlalchemy.exc import SQLAlchemyError

from paperworks.errors import PaperworksError
from paperworks.page.database import Database, Entry, Submission, now
from paperworks.page.feed.entries import ImportOutcome
from paperworks.page.feed.importers import PoliteClient, import_arxiv
from paperworks.page.settings import Settings

WAIT_SECONDS = 5.0
"""So long a reader waits; the paper is queued after it."""
ATTEMPTS = 24
FIRST_PAUSE = timedelta(minutes=1)
LONGEST_PAUSE = timedelta(hours=6)
"""Pauses between attempts: each is twice the one before, up to this."""
AT_ONCE = 4

log = logging.getLogger("paperworks.page.feed")
_importers = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="submissions")

Import = Callable[[Database, str, Settings], ImportOutcome]


def import_once(database: Database, arxiv: str, settings: Settings) -> ImportOutcome:
    """Bring one paper; arXiv is asked once."""
    client = PoliteClient(settings.contact, tries=1)
    try:
        return import_arxiv(database, arxiv, settings, client)
    finally:
        client.close()


def submit_paper(
    database: Database,
    settings: Settings,
    arxiv: str,
    user_id: int | None,
    bring: Import | None = None,
    wait: float = WAIT_SECONDS,
) -> Submission | None:
    """Bring a paper by its arXiv id, for at most ``wait`` seconds.

    Returns None once it is here; else the submission, which waits for its next attempt, or has ended (``ended``)
    because there is no such paper (``error`` says so).
    """
    attempt: Future[ImportOutcome] = _importers.submit(bring or import_once, database, arxiv, settings)
    row = Submission(arxiv=arxiv, user_id=user_id, created=now(), attempts=1, due=now() + FIRST_PAUSE, error="")
    try:
        outcome = attempt.result(timeout=wait)
        if not outcome.skipped:
            _name_submitter(database, arxiv, user_id)
            return None
        row.error, row.ended = outcome.skipped[0][1], now()
        return row
    except NotYet:
        row.error = f"arXiv did not answer within {wait:.0f} seconds"
    except (httpx.HTTPError, OSError, PaperworksError) as error:
        row.error = f"arXiv could not be read: {error}"
    with database.session() as session:
        return session.merge(row)


def import_submissions(database: Database, settings: Settings, bring: Import | None = None) -> int:
    """Try what is due once more; returns how many papers came."""
    with database.reading() as session:
        waiting = select(Submission).where(Submission.ended.is_(None), Submission.due <= now())
        due = list(session.scalars(waiting.order_by(Submission.due)))
    came = 0
    for submission in due:
        try:
            outcome = (bring or import_once)(database, submission.arxiv, settings)
            problem, final = (outcome.skipped[0][1] if outcome.skipped else ""), True
        except (httpx.HTTPError, OSError, PaperworksError, SQLAlchemyError) as error:
            problem, final = str(error), submission.attempts + 1 >= ATTEMPTS
            log.info("submission %s: %s", submission.arxiv, problem)
        if not problem:
            _name_submitter(database, submission.arxiv, submission.user_id)
        with database.session() as session:
            row = session.get(Submission, submission.arxiv)
            if row is None:
                continue
            if not problem:
                session.delete(row)
                came += 1
                continue
            pause = min(FIRST_PAUSE * 2 ** min(row.attempts, 12), LONGEST_PAUSE)
            row.attempts, row.error, row.due = row.attempts + 1, problem, now() + pause
            row.ended = now() if final else None
    return came


def _name_submitter(database: Database, arxiv: str, user_id: int | None) -> None:
    with database.session() as session:
        first = update(Entry).where(Entry.arxiv == arxiv, Entry.submitted_by.is_(None), Entry.slug.is_(None))
        session.execute(first.values(submitted_by=user_id))
