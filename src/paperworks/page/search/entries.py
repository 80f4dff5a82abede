"""What the index reads of entries: which have changed, and their texts."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session

from paperworks.page.database import Entry, EntryVector
from paperworks.page.search.tables import search_entries, search_state
from paperworks.page.search.text import EntryText, entry_text


def outdated_entries(session: Session, model: str | None = None) -> list[int]:
    """Ids of entries that are not indexed as they are now, the newest first.

    With the name of an encoder, also of those that have no vector of it.
    """
    missing = [search_entries.c.entry_id.is_(None), search_entries.c.updated != Entry.updated]
    query = select(Entry.id).outerjoin(search_entries, search_entries.c.entry_id == Entry.id)
    if model is not None:
        query = query.outerjoin(EntryVector, EntryVector.entry_id == Entry.id)
        missing += [EntryVector.entry_id.is_(None), EntryVector.model != model]
    return list(session.scalars(query.where(or_(*missing)).order_by(Entry.id.desc())))


def changed_entries(session: Session, since: int) -> list[int]:
    """Ids of entries that were indexed after a version of the index."""
    return list(session.scalars(select(search_entries.c.entry_id).where(search_entries.c.version > since)))


def entry_texts(session: Session, ids: Sequence[int]) -> dict[int, EntryText]:
    """The words and the meaning of entries, by id; those that are gone are left out."""
    entries = session.scalars(select(Entry).where(Entry.id.in_(ids))) if ids else ()
    return {e.id: entry_text(e.title, e.summary, e.abstract, e.tag_names, e.authors, e.organisation) for e in entries}


def next_version(session: Session) -> int:
    """Raise the version of the index by one, and return it."""
    session.execute(update(search_state).values(version=search_state.c.version + 1))
    return session.execute(select(search_state.c.version)).scalar_one()
