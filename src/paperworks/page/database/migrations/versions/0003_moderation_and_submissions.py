"""Moderation, submissions that wait, our summary beside the abstract, and no dates after the day of import"""

from __future__ import annotations

from datetime import timedelta

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("entries", sa.Column("summary", sa.Text(), nullable=False, server_default=""))
    op.add_column("entries", sa.Column("withdrawn", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("entries", sa.Column("edited", sa.JSON(), nullable=False, server_default="[]"))
    op.create_index("entries_works", "entries", ["hidden", "works", "trend", "id"])
    op.create_table(
        "feed_changes",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.execute("INSERT INTO feed_changes (id, number) VALUES (1, 1)")
    op.create_table(
        "submissions",
        sa.Column("arxiv", sa.String(length=40), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=True),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due", sa.DateTime(timezone=True), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("ended", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], ondelete="SET NULL"),
        sa.PrimaryKeyConstraint("arxiv"),
    )
    op.create_index("ix_submissions_user_id", "submissions", ["user_id"])
    op.create_table(
        "moderation_actions",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("action", sa.String(length=20), nullable=False),
        sa.Column("entry_id", sa.Integer(), nullable=True),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=True),
        sa.Column("actor", sa.String(length=100), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("changes", sa.JSON(), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "action IN ('hide', 'unhide', 'edit', 'remove', 'restore', 'delete comment', 'close report')",
            name="moderation_actions_action",
        ),
        sa.ForeignKeyConstraint(["entry_id"], ["entries.id"], ondelete="SET NULL"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], ondelete="SET NULL"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_moderation_actions_entry_id", "moderation_actions", ["entry_id"])
    op.create_index("ix_moderation_actions_created", "moderation_actions", ["created"])
    op.create_table(
        "removed_keys",
        sa.Column("key", sa.String(length=400), nullable=False),
        sa.Column("action_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["action_id"], ["moderation_actions.id"]),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_index("ix_removed_keys_action_id", "removed_keys", ["action_id"])
    op.create_table(
        "reports",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("entry_id", sa.Integer(), nullable=False),
        sa.Column("comment_id", sa.Integer(), nullable=True),
        sa.Column("user_id", sa.Integer(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("closed", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["comment_id"], ["comments.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["entry_id"], ["entries.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], ondelete="SET NULL"),
        sa.PrimaryKeyConstraint("id"),
    )
    for column in ("entry_id", "user_id", "closed"):
        op.create_index(f"ix_reports_{column}", "reports", [column])
    _move_summaries()
    _forget_future_days()


def _move_summaries() -> None:
    """What the catalogue gave stood where the abstract belongs."""
    op.execute("UPDATE entries SET summary = abstract, abstract = '' WHERE source = 'catalogue'")


def _forget_future_days() -> None:
    """Days after the one of the import led the feed: they are unknown now."""
    entries = sa.table(
        "entries",
        sa.column("id", sa.Integer),
        sa.column("published", sa.Date),
        sa.column("listed", sa.Date),
        sa.column("listed_known", sa.Boolean),
        sa.column("created", sa.DateTime(timezone=True)),
    )
    connection = op.get_bind()
    for row in connection.execute(sa.select(*entries.c)).all():
        imported = row.created.date()
        last = imported + timedelta(days=1)
        changes: dict[str, object] = {}
        if row.published and row.published > last:
            changes["published"] = None
        if row.listed > last:
            changes |= {"listed": imported, "listed_known": False}
        if changes:
            connection.execute(entries.update().where(entries.c.id == row.id).values(changes))
