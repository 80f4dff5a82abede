"""Votes, bookmarks and followed tags. Each is there or not: saying a thing twice changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import bindparam, delete, exists, func, literal, select, union_all, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session as OrmSession

from paperworks.errors import InputError
from paperworks.page.database import Bookmark, Entry, EntryTag, Follow, Vote, now
from paperworks.page.feed.trend import refresh_trends

_ASKED: Any = bindparam("ids", expanding=True)
_REACTIONS = union_all(
    *(
        select(rows.c.entry_id, literal(voted)).where(rows.c.user_id == bindparam("user"), rows.c.entry_id.in_(_ASKED))
        for rows, voted in ((Vote.__table__, 1), (Bookmark.__table__, 0))
    )
)


def set_vote(session: OrmSession, entry_id: int, user_id: int, on: bool) -> None:
    """Upvote an entry, or take the vote back; the entry's count and trend follow."""
    if _set(session, Vote, {"entry_id": entry_id, "user_id": user_id}, on):
        _recount(session, [entry_id])


def withdraw_votes(session: OrmSession, user_id: int) -> None:
    """Take back all votes of a user."""
    entries = list(session.scalars(select(Vote.entry_id).where(Vote.user_id == user_id)))
    session.execute(delete(Vote).where(Vote.user_id == user_id))
    _recount(session, entries)


def set_bookmark(session: OrmSession, entry_id: int, user_id: int, on: bool) -> None:
    """Keep an entry among the user's bookmarks, or not."""
    _set(session, Bookmark, {"entry_id": entry_id, "user_id": user_id}, on)


def reactions_of(session: OrmSession, user_id: int, entry_ids: Sequence[int]) -> tuple[set[int], set[int]]:
    """Which of some entries the user voted for, and which are bookmarked."""
    rows = session.execute(_REACTIONS, {"user": user_id, "ids": list(entry_ids)}).all()
    return {i for i, voted in rows if voted}, {i for i, voted in rows if not voted}


def bookmarked(session: OrmSession, user_id: int) -> list[int]:
    """The ids of the user's bookmarks, the newest first."""
    return list(
        session.scalars(
            select(Entry.id)
            .join(Bookmark, Bookmark.entry_id == Entry.id)
            .where(Bookmark.user_id == user_id, Entry.hidden.is_(False))
            .order_by(Bookmark.created.desc(), Entry.id.desc())
        )
    )


def set_follow(session: OrmSession, user_id: int, tag: str, on: bool) -> None:
    """Follow a tag, or no longer. Raises InputError for a tag that no entry has."""
    if on and not session.scalar(select(exists().where(EntryTag.tag == tag))):
        raise InputError("tag", repr(tag[:60]), "a tag of the feed")
    _set(session, Follow, {"user_id": user_id, "tag": tag}, on)


def followed_tags(session: OrmSession, user_id: int) -> list[str]:
    """The tags that a user follows, sorted."""
    return list(session.scalars(select(Follow.tag).where(Follow.user_id == user_id).order_by(Follow.tag)))


def _set(session: OrmSession, table: type, values: dict[str, object], on: bool) -> bool:
    """Make a row be there or not; returns whether that changed anything."""
    if on:
        insert = sqlite.insert if session.get_bind().dialect.name == "sqlite" else postgresql.insert
        result = session.execute(insert(table).values(**values).on_conflict_do_nothing())
    else:
        result = session.execute(delete(table).where(*(getattr(table, k) == v for k, v in values.items())))
    return bool(result.rowcount)  # type: ignore[attr-defined]


def _recount(session: OrmSession, entry_ids: Sequence[int]) -> None:
    if not entry_ids:
        return
    count = select(func.count()).where(Vote.entry_id == Entry.id).scalar_subquery()
    session.execute(update(Entry).where(Entry.id.in_(entry_ids)).values(upvotes=count))
    refresh_trends(session, now(), list(entry_ids))
