"""The discussion below a paper. Authors edit and delete what they wrote; a place with answers below it stays."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from markupsafe import Markup
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session as OrmSession

from paperworks.errors import InputError
from paperworks.page.community.markdown import to_html
from paperworks.page.database import Comment, Entry, now
from paperworks.page.feed.trend import refresh_trends

LONGEST = 10_000


@dataclass
class Thread:
    """A comment with its answers, oldest first."""

    comment: Comment
    answers: list[Thread] = field(default_factory=list)

    @property
    def html(self) -> Markup:
        """The comment's text, safe to show."""
        return to_html(self.comment.text)


def discussion(session: OrmSession, entry_id: int) -> list[Thread]:
    """The threads of an entry, oldest first. Deleted comments without answers are left out."""
    rows = session.scalars(select(Comment).where(Comment.entry_id == entry_id).order_by(Comment.id))
    threads: dict[int, Thread] = {}
    first: list[Thread] = []
    for comment in rows:
        thread = threads[comment.id] = Thread(comment)
        parent = threads.get(comment.parent_id) if comment.parent_id is not None else None
        (first if parent is None else parent.answers).append(thread)
    return _without_empty(first)


def add_comment(session: OrmSession, entry_id: int, user_id: int, text: str, parent_id: int | None = None) -> Comment:
    """Write a comment, or an answer to one of the same entry. Raises InputError."""
    plain = checked_text(text)
    if parent_id is not None:
        parent = session.get(Comment, parent_id)
        if parent is None or parent.entry_id != entry_id or parent.deleted is not None:
            raise InputError("parent", parent_id, "a comment of this paper that is still there")
        # One level of answers: an answer to an answer stands below the same first comment.
        parent_id = parent.parent_id or parent.id
    comment = Comment(entry_id=entry_id, user_id=user_id, parent_id=parent_id, text=plain)
    session.add(comment)
    session.flush()
    _recount(session, [entry_id])
    return comment


def own_comment(session: OrmSession, comment_id: int, user_id: int) -> Comment | None:
    """A comment that its author may change, or None."""
    comment = session.get(Comment, comment_id)
    if comment is None or comment.user_id != user_id or comment.deleted is not None:
        return None
    return comment


def edit_comment(session: OrmSession, comment: Comment, text: str) -> None:
    """Change the text of a comment. Raises InputError."""
    plain = checked_text(text)
    if plain != comment.text:
        comment.text, comment.edited = plain, now()


def delete_comment(session: OrmSession, comment: Comment) -> None:
    """Delete a comment: its text is gone for good."""
    comment.text, comment.deleted = "", now()
    session.flush()
    _recount(session, [comment.entry_id])


def delete_all_of(session: OrmSession, user_id: int) -> None:
    """Delete all comments of a user."""
    entries = set(session.scalars(select(Comment.entry_id).where(Comment.user_id == user_id)))
    session.execute(update(Comment).where(Comment.user_id == user_id).values(text="", deleted=now()))
    _recount(session, entries)


def checked_text(text: str) -> str:
    """A comment's text with plain line ends; raises InputError for nothing, for too much, and for null characters."""
    plain = text.replace("\r\n", "\n").replace("\r", "\n").strip()
    if not plain:
        raise InputError("text", "nothing", "a comment")
    if len(plain) > LONGEST:
        raise InputError("text", f"{len(plain):,} characters", f"at most {LONGEST:,}")
    if "\x00" in plain:
        raise InputError("text", "a null character", "text")
    return plain


def _recount(session: OrmSession, entry_ids: Iterable[int]) -> None:
    ids = list(entry_ids)
    if not ids:
        return
    count = select(func.count()).where(Comment.entry_id == Entry.id, Comment.deleted.is_(None)).scalar_subquery()
    session.execute(update(Entry).where(Entry.id.in_(ids)).values(comments=count))
    refresh_trends(session, now(), ids)


def _without_empty(threads: list[Thread]) -> list[Thread]:
    found = []
    for thread in threads:
        thread.answers = _without_empty(thread.answers)
        if thread.comment.deleted is None or thread.answers:
            found.append(thread)
    return found
