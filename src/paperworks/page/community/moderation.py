"""Moderation: hiding, editing and removing papers, deleting comments, and what readers report.

Who may: the owner (the one user of a page without log-in, and whoever has the command line), and the accounts whose
confirmed addresses the setting ``moderators`` names. Every act is written down (``ModerationAction``) in the same
transaction, with who did it, why, and what was there before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session as OrmSession

from paperworks.errors import InputError
from paperworks.page.community.comments import delete_comment
from paperworks.page.database import (
    Comment,
    Entry,
    EntryKey,
    EntryTag,
    ModerationAction,
    RemovedKey,
    Report,
    User,
    now,
)
from paperworks.page.feed.entries import EARLIEST, LATEST_AFTER, MOST_AUTHORS, MOST_TAGS, clean_tag, clean_text
from paperworks.page.feed.keys import arxiv_id, normal_address, normal_title
from paperworks.page.feed.trend import refresh_trends
from paperworks.page.links import paper_id
from paperworks.page.settings import Settings

COMMAND_LINE = "command line"
LONGEST_REASON = 1_000
TEXTS = {"title": 500, "abstract": 20_000, "organisation": 200, "url": 2_000, "repository": 2_000}
LISTS = ("authors", "tags")
DAYS = ("published",)
EDITABLE = (*TEXTS, *LISTS, *DAYS)


@dataclass(frozen=True)
class Moderator:
    """Who acts: a name for the audit trail, and the account, if there is one."""

    name: str = COMMAND_LINE
    user_id: int | None = None


def is_moderator(settings: Settings, user: User | None) -> bool:
    """Whether a user may moderate this page."""
    if user is None:
        return False
    if not settings.public:
        return True
    named = {address.lower() for address in settings.moderators}
    return user.confirmed is not None and bool(user.email) and str(user.email).lower() in named


def find_any(session: OrmSession, name: str) -> Entry:
    """The entry of an arXiv id, a slug, ``p<number>`` or a title, hidden or not. Raises InputError("paper", ...)."""
    arxiv = arxiv_id(name)
    number = name[1:] if name[:1] == "p" and name[1:].isdigit() and len(name) < 11 else None
    if arxiv is not None:
        condition: Any = Entry.arxiv == arxiv
    elif number is not None:
        condition = Entry.id == int(number)
    else:
        condition = (Entry.slug == name) | (Entry.title == clean_text(name))
    found = list(session.scalars(select(Entry).where(condition).limit(2)))
    if len(found) != 1:
        what = "no paper" if not found else "more than one paper"
        raise InputError("paper", f"{what} for {name[:80]!r}", "an arXiv id, a slug, p and a number, or a whole title")
    return found[0]


def set_hidden(session: OrmSession, who: Moderator, entry: Entry, hidden: bool, reason: str = "") -> bool:
    """Hide an entry everywhere, or show it again; whether that changed anything."""
    if entry.hidden == hidden:
        return False
    entry.hidden, entry.updated = hidden, now()
    _note(session, who, "hide" if hidden else "unhide", entry, reason)
    return True


def edit_entry(
    session: OrmSession, who: Moderator, entry: Entry, given: Mapping[str, Any], reason: str = ""
) -> dict[str, list[Any]]:
    """Change fields of an entry; no source replaces them any more. Returns field to [before, after] of what changed.

    ``given`` has texts, for ``authors`` and ``tags`` lists of texts, and for ``published`` a day as text ("" for
    unknown). Raises InputError naming the field.
    """
    values = {name: _checked(name, value) for name, value in given.items()}
    changes: dict[str, list[Any]] = {}
    for name, after in values.items():
        before = entry.tag_names if name == "tags" else getattr(entry, name)
        if before == after:
            continue
        if name == "tags":
            entry.tags = [EntryTag(tag=tag) for tag in after]
        else:
            setattr(entry, name, after)
        if name == "authors":
            entry.author_count = len(after) or None
        changes[name] = [_plain(before), _plain(after)]
    if changes:
        entry.edited = sorted({*entry.edited, *changes, *(["author_count"] if "authors" in changes else [])})
        entry.updated = now()
        _note(session, who, "edit", entry, reason, changes)
        session.flush()
        refresh_trends(session, now(), [entry.id])
    return changes


def remove_entry(session: OrmSession, who: Moderator, entry: Entry, reason: str = "") -> None:
    """Delete an entry with its comments, votes and runs' places; no import brings it back."""
    action = _note(session, who, "remove", entry, reason)
    keys = session.scalars(select(EntryKey.key).where(EntryKey.entry_id == entry.id)).all()
    session.add_all(RemovedKey(key=key, action_id=action.id) for key in keys)
    session.delete(entry)
    session.flush()


def restore(session: OrmSession, who: Moderator, name: str, reason: str = "") -> ModerationAction:
    """Let a removed paper be imported again. Raises InputError for a name that no removed paper has."""
    arxiv = arxiv_id(name)
    names = [f"arxiv:{arxiv}"] if arxiv else [name, f"title:{normal_title(name)}"]
    key = session.scalar(select(RemovedKey).where(RemovedKey.key.in_(names)).limit(1))
    if key is None:
        raise InputError("paper", repr(name[:80]), "a paper that was removed: its arXiv id or its whole title")
    removed = session.get_one(ModerationAction, key.action_id)
    session.execute(delete(RemovedKey).where(RemovedKey.action_id == removed.id))
    action = ModerationAction(
        action="restore", subject=removed.subject, actor=who.name, user_id=who.user_id, reason=_reason(reason)
    )
    session.add(action)
    return action


def remove_comment(session: OrmSession, who: Moderator, comment: Comment, reason: str = "") -> None:
    """Delete another's comment: its text is gone for good, and is not in the audit trail."""
    entry = session.get_one(Entry, comment.entry_id)
    author = comment.user.name if comment.user else "a former reader"
    _note(session, who, "delete comment", entry, reason, {"comment": [f"#{comment.id} of {author}", "deleted"]})
    delete_comment(session, comment)


def report(session: OrmSession, user: User, entry: Entry, reason: str, comment_id: int | None = None) -> Report:
    """Tell the moderators of an entry or of one of its comments. Raises InputError."""
    plain = _reason(reason)
    if not plain:
        raise InputError("reason", "nothing", "what is wrong with it")
    if comment_id is not None:
        comment = session.get(Comment, comment_id)
        if comment is None or comment.entry_id != entry.id or comment.deleted is not None:
            raise InputError("comment", comment_id, "a comment of this paper that is still there")
    row = Report(entry_id=entry.id, comment_id=comment_id, user_id=user.id, reason=plain)
    session.add(row)
    session.flush()
    return row


def close_report(session: OrmSession, who: Moderator, row: Report, reason: str = "") -> None:
    """Note that a report was dealt with."""
    if row.closed is None:
        row.closed = now()
        entry = session.get_one(Entry, row.entry_id)
        _note(session, who, "close report", entry, reason, {"report": [row.reason, "closed"]})


def open_reports(session: OrmSession, most: int = 200) -> Sequence[tuple[Report, Entry, Comment | None]]:
    """The reports that wait, the oldest first, with the entry and the comment that they are about."""
    rows = session.execute(
        select(Report, Entry, Comment)
        .join(Entry, Entry.id == Report.entry_id)
        .outerjoin(Comment, Comment.id == Report.comment_id)
        .where(Report.closed.is_(None))
        .order_by(Report.id)
        .limit(most)
    )
    return [(one, entry, comment) for one, entry, comment in rows]


def history(session: OrmSession, entry_id: int | None = None, most: int = 100) -> list[ModerationAction]:
    """The newest acts, of one entry or of all."""
    query = select(ModerationAction).order_by(ModerationAction.id.desc()).limit(most)
    if entry_id is not None:
        query = query.where(ModerationAction.entry_id == entry_id)
    return list(session.scalars(query))


def action_record(action: ModerationAction) -> dict[str, Any]:
    """JSON-ready content of an act."""
    return {
        "when": action.created.astimezone(UTC).isoformat(timespec="seconds"),
        "action": action.action,
        "paper": action.subject,
        "by": action.actor,
        "reason": action.reason,
        "changes": action.changes,
    }


def _note(
    session: OrmSession,
    who: Moderator,
    action: str,
    entry: Entry,
    reason: str,
    changes: dict[str, Any] | None = None,
) -> ModerationAction:
    row = ModerationAction(
        action=action,
        entry_id=entry.id,
        subject=f"{paper_id(entry)}: {entry.title}",
        user_id=who.user_id,
        actor=who.name,
        reason=_reason(reason),
        changes=changes or {},
    )
    session.add(row)
    session.flush()
    return row


def _reason(text: str) -> str:
    plain = clean_text(text)
    if len(plain) > LONGEST_REASON:
        raise InputError("reason", f"{len(plain):,} characters", f"at most {LONGEST_REASON:,}")
    return plain


def _checked(name: str, value: Any) -> Any:
    """The value of a field as it is stored; raises InputError for one that it cannot have."""
    if name not in EDITABLE:
        raise InputError(name, "a field that is not edited", f"one of {', '.join(EDITABLE)}")
    if name == "tags":
        return sorted({tag for tag in map(clean_tag, value) if tag})[:MOST_TAGS]
    if name == "authors":
        return [author for author in (clean_text(one)[:200].strip() for one in value) if author][:MOST_AUTHORS]
    text = clean_text(str(value))
    if name in DAYS:
        return _day(name, text)
    if len(text) > TEXTS[name]:
        raise InputError(name, f"{len(text):,} characters", f"at most {TEXTS[name]:,}")
    if name == "title" and not any(c.isalnum() for c in text):
        raise InputError("title", repr(text[:60]), "the paper's title")
    if name in ("url", "repository") and text and normal_address(text) is None:
        raise InputError(name, repr(text[:60]), "an address that starts with http:// or https://")
    return text or None if name == "organisation" else text


def _day(name: str, text: str) -> date | None:
    if not text:
        return None
    try:
        day = date.fromisoformat(text)
    except ValueError:
        day = date.max
    if not EARLIEST <= day <= datetime.now(UTC).date() + LATEST_AFTER:
        raise InputError(name, repr(text[:40]), f"a day from {EARLIEST} to tomorrow, as in 2026-11-23")
    return day


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, date) else value
