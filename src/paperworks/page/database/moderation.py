"""The tables of moderation: what was done to entries and comments, what was removed for good, what readers reported."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, CheckConstraint, ForeignKey, Integer, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from paperworks.page.database.models import Base, now


class ModerationAction(Base):
    """One act of a moderator. Rows are never changed or deleted: they are the audit trail."""

    __tablename__ = "moderation_actions"
    __table_args__ = (
        CheckConstraint(
            "action IN ('hide', 'unhide', 'edit', 'remove', 'restore', 'delete comment', 'close report')",
            name="moderation_actions_action",
        ),
    )

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    action: Mapped[str] = mapped_column(String(20))
    entry_id: Mapped[int | None] = mapped_column(ForeignKey("entries.id", ondelete="SET NULL"), index=True)
    subject: Mapped[str] = mapped_column(Text)
    """Id and title of the paper as they were."""
    user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    actor: Mapped[str] = mapped_column(String(100))
    """The moderator's name as it was, or "command line"."""
    reason: Mapped[str] = mapped_column(Text, default="")
    changes: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    """Of an edit: field to [before, after]."""
    created: Mapped[datetime] = mapped_column(default=now, index=True)


class RemovedKey(Base):
    """A name (see ``EntryKey``) of an entry that was removed: no import brings it back."""

    __tablename__ = "removed_keys"

    key: Mapped[str] = mapped_column(String(400), primary_key=True)
    action_id: Mapped[int] = mapped_column(ForeignKey("moderation_actions.id"), index=True)


class Report(Base):
    """What a reader told the moderators of an entry or of one of its comments."""

    __tablename__ = "reports"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    entry_id: Mapped[int] = mapped_column(ForeignKey("entries.id", ondelete="CASCADE"), index=True)
    comment_id: Mapped[int | None] = mapped_column(ForeignKey("comments.id", ondelete="CASCADE"))
    user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"), index=True)
    reason: Mapped[str] = mapped_column(Text)
    created: Mapped[datetime] = mapped_column(default=now)
    closed: Mapped[datetime | None] = mapped_column(index=True)
