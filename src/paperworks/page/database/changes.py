"""A number that grows with every transaction that changed an entry: cheap to poll, and never behind what can be read.

It is counted at the end of the transaction, in the transaction, so that who sees the new number sees the new entries.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import event, inspect, select, update
from sqlalchemy.orm import Session as OrmSession
from sqlalchemy.orm import sessionmaker

from paperworks.page.database.models import Entry, FeedChanges

_CHANGED = "entries changed"


def count_changes(sessions: sessionmaker[OrmSession]) -> None:
    """Count what the sessions of a factory change."""
    event.listen(sessions, "after_flush", _look)
    event.listen(sessions, "before_commit", _count)


def changes(session: OrmSession) -> int:
    """The number as this session sees it."""
    return session.scalar(select(FeedChanges.number)) or 0


def _look(session: OrmSession, context: Any) -> None:
    # An index follows ``updated``: an entry that is new, changed or gone. Counts of votes do not change it.
    for one in (*session.new, *session.deleted, *session.dirty):
        if isinstance(one, Entry) and (one not in session.dirty or inspect(one).attrs.updated.history.has_changes()):
            session.info[_CHANGED] = True


def _count(session: OrmSession) -> None:
    session.flush()
    if session.info.pop(_CHANGED, False):
        session.execute(update(FeedChanges).values(number=FeedChanges.number + 1))
