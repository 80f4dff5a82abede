"""The tables. Times are UTC and aware; ``now()`` makes them. Changes go through a migration beside this file."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Date,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
    case,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


def now() -> datetime:
    """The current time, UTC, aware."""
    return datetime.now(UTC)


class UtcDateTime(TypeDecorator[datetime]):
    """An aware UTC datetime on every database; SQLite stores it without its zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"a naive datetime {value!r} was given where an aware one is stored")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    """Base of the tables."""

    type_annotation_map = {datetime: UtcDateTime, dict[str, Any]: JSON, list[str]: JSON}  # noqa: RUF012 - SQLAlchemy's


class Entry(Base):
    """One paper of the feed. ``key`` is its first identity; ``EntryKey`` holds all under which sources name it."""

    __tablename__ = "entries"
    __table_args__ = (
        Index("entries_listed", "hidden", "listed", "id"),
        Index("entries_shown", "hidden", "listed", "trend", "id"),  # periods are counted and sorted without the entries
        Index("entries_trend", "hidden", "trend", "id"),
        Index("entries_held", "hidden", "claims_held", "id"),
        Index("entries_works", "hidden", "works", "trend", "id"),
    )

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    key: Mapped[str] = mapped_column(String(200), unique=True)
    arxiv: Mapped[str | None] = mapped_column(String(40), unique=True)
    slug: Mapped[str | None] = mapped_column(String(80), unique=True)
    """The catalogue's slug, if the paper has a folder there."""
    title: Mapped[str] = mapped_column(Text)
    summary: Mapped[str] = mapped_column(Text, default="")
    """The catalogue's summary, in our words; empty for a paper that is not in the catalogue."""
    abstract: Mapped[str] = mapped_column(Text, default="")
    """The authors' abstract, as a source gave it."""
    authors: Mapped[list[str]] = mapped_column(JSON, default=list)
    author_count: Mapped[int | None] = mapped_column(Integer)
    organisation: Mapped[str | None] = mapped_column(String(200), index=True)
    published: Mapped[date | None] = mapped_column(Date)
    """When the paper appeared."""
    listed: Mapped[date] = mapped_column(Date)
    """The day of the feed on which it stands."""
    listed_known: Mapped[bool] = mapped_column(Boolean, default=False)
    """Whether a source named that day; otherwise it is the day of publication, or that of the first import."""
    url: Mapped[str] = mapped_column(Text, default="")
    repository: Mapped[str] = mapped_column(Text, default="")
    source: Mapped[str] = mapped_column(String(200), default="")
    works: Mapped[bool] = mapped_column(Boolean, default=False, index=True)
    works_since: Mapped[date | None] = mapped_column(Date, index=True)
    """The day on which the paper began to work here; None where it does not, or since before days were noted."""
    claims_held: Mapped[int] = mapped_column(Integer, default=0)
    claims_total: Mapped[int] = mapped_column(Integer, default=0)
    upvotes_elsewhere: Mapped[int] = mapped_column(Integer, default=0)
    comments_elsewhere: Mapped[int] = mapped_column(Integer, default=0)
    upvotes: Mapped[int] = mapped_column(Integer, default=0)
    comments: Mapped[int] = mapped_column(Integer, default=0)
    runs: Mapped[int] = mapped_column(Integer, default=0)
    """Votes, comments and finished runs on this page, kept equal to their rows by the code that writes those."""
    trend: Mapped[float] = mapped_column(Float, default=0.0)
    """The score of ``feed.trend`` at its last refresh."""
    withdrawn: Mapped[bool] = mapped_column(Boolean, default=False)
    """Whether a source says that its authors withdrew it."""
    hidden: Mapped[bool] = mapped_column(Boolean, default=False)
    edited: Mapped[list[str]] = mapped_column(JSON, default=list)
    """Fields that a moderator wrote: no source replaces them."""
    submitted_by: Mapped[int | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    created: Mapped[datetime] = mapped_column(default=now)
    updated: Mapped[datetime] = mapped_column(default=now)

    tags: Mapped[list[EntryTag]] = relationship(cascade="all, delete-orphan", lazy="selectin", order_by="EntryTag.tag")

    @property
    def tag_names(self) -> list[str]:
        """The tags, sorted."""
        return [t.tag for t in self.tags]

    @property
    def text(self) -> str:
        """What the paper says in short: our summary where there is one, else the abstract."""
        return self.summary or self.abstract


AMONG_IDS = case((Entry.hidden, 1), else_=0) == 0
"""True of entries that may be shown, for queries that name ids.

Written so that no index is of use for it: SQLite would go through that of all visible entries instead of the ids.
"""


class EntryKey(Base):
    """A name of a paper: ``arxiv:2401.15024``, ``doi:...``, ``url:...``, ``title:<normalised title>``."""

    __tablename__ = "entry_keys"

    key: Mapped[str] = mapped_column(String(400), primary_key=True)
    entry_id: Mapped[int] = mapped_column(ForeignKey("entries.id", ondelete="CASCADE"), index=True)


class FeedChanges(Base):
    """One row, whose number grows with every transaction that changed an entry: see ``database.changes``."""

    __tablename__ = "feed_changes"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    number: Mapped[int] = mapped_column(Integer, default=0)


class EntryTag(Base):
    """A tag of an entry, lower-case."""

    __tablename__ = "entry_tags"
    __table_args__ = (Index("entry_tags_tag", "tag", "entry_id"),)

    entry_id: Mapped[int] = mapped_column(ForeignKey("entries.id", ondelete="CASCADE"), primary_key=True)
    tag: Mapped[str] = mapped_column(String(60), primary_key=True)


class ImportState(Base):
    """Where an importer stands with a source: validators of its last answer, and its cursor if it was interrupted."""

    __tablename__ = "import_states"

    source: Mapped[str] = mapped_column(String(500), primary_key=True)
    etag: Mapped[str | None] = mapped_column(Text)
    last_modified: Mapped[str | None] = mapped_column(Text)
    cursor: Mapped[str | None] = mapped_column(Text)
    fetched: Mapped[datetime | None]


class Submission(Base):
    """A paper that a reader asked for while its source did not answer: asked for again until it does."""

    __tablename__ = "submissions"

    arxiv: Mapped[str] = mapped_column(String(40), primary_key=True)
    user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"), index=True)
    created: Mapped[datetime] = mapped_column(default=now)
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    due: Mapped[datetime] = mapped_column(default=now)
    """When it is asked for next."""
    error: Mapped[str] = mapped_column(Text, default="")
    """Why it is not here yet, or, after the last attempt, why it never will be."""
    ended: Mapped[datetime | None]


class User(Base):
    """An account. The local user of a page without log-in has no e-mail and no password."""

    __tablename__ = "users"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    email: Mapped[str | None] = mapped_column(String(254), unique=True)
    name: Mapped[str] = mapped_column(String(60))
    password: Mapped[str | None] = mapped_column(Text)
    """An argon2 hash."""
    confirmed: Mapped[datetime | None]
    created: Mapped[datetime] = mapped_column(default=now)


class Session(Base):
    """A log-in. The cookie holds a random token; the table its SHA-256."""

    __tablename__ = "sessions"

    token_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    created: Mapped[datetime] = mapped_column(default=now)
    expires: Mapped[datetime] = mapped_column(index=True)


class Vote(Base):
    """One user's upvote of one entry."""

    __tablename__ = "votes"

    entry_id: Mapped[int] = mapped_column(ForeignKey("entries.id", ondelete="CASCADE"), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    created: Mapped[datetime] = mapped_column(default=now)


class Bookmark(Base):
    """One user's bookmark of one entry."""

    __tablename__ = "bookmarks"

    entry_id: Mapped[int] = mapped_column(ForeignKey("entries.id", ondelete="CASCADE"), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    created: Mapped[datetime] = mapped_column(default=now)


class Collection(Base):
    """Papers that a user put together under a title. ``id`` is random: a link to a shared one cannot be guessed."""

    __tablename__ = "collections"
    __table_args__ = (Index("collections_shared", "shared", "changed", "id"),)

    id: Mapped[str] = mapped_column(String(16), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    title: Mapped[str] = mapped_column(String(120))
    text: Mapped[str] = mapped_column(Text, default="")
    """What it is for, in the user's words."""
    shared: Mapped[bool] = mapped_column(Boolean, default=False)
    """Whether others see it."""
    created: Mapped[datetime] = mapped_column(default=now)
    changed: Mapped[datetime] = mapped_column(default=now)

    user: Mapped[User] = relationship(lazy="joined")


class CollectionEntry(Base):
    """An entry of a collection."""

    __tablename__ = "collection_entries"

    collection_id: Mapped[str] = mapped_column(ForeignKey("collections.id", ondelete="CASCADE"), primary_key=True)
    entry_id: Mapped[int] = mapped_column(ForeignKey("entries.id", ondelete="CASCADE"), primary_key=True, index=True)
    created: Mapped[datetime] = mapped_column(default=now)


class Comment(Base):
    """A comment, in Markdown. A deleted one keeps its place (answers stand below it) and loses its text."""

    __tablename__ = "comments"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    entry_id: Mapped[int] = mapped_column(ForeignKey("entries.id", ondelete="CASCADE"), index=True)
    user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"), index=True)
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("comments.id", ondelete="CASCADE"))
    text: Mapped[str] = mapped_column(Text)
    created: Mapped[datetime] = mapped_column(default=now)
    edited: Mapped[datetime | None]
    deleted: Mapped[datetime | None]

    user: Mapped[User | None] = relationship(lazy="joined")


class Follow(Base):
    """A tag that a user follows."""

    __tablename__ = "follows"

    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    tag: Mapped[str] = mapped_column(String(60), primary_key=True)


class Subscription(Base):
    """A digest that someone asked for; mails go out only after it was confirmed from the mailbox."""

    __tablename__ = "subscriptions"
    __table_args__ = (CheckConstraint("frequency IN ('daily', 'weekly')", name="subscriptions_frequency"),)

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    email: Mapped[str] = mapped_column(String(254), unique=True)
    frequency: Mapped[str] = mapped_column(String(10), default="daily")
    tags: Mapped[list[str]] = mapped_column(JSON, default=list)
    """Empty for all."""
    created: Mapped[datetime] = mapped_column(default=now)
    confirmed: Mapped[datetime | None]
    ended: Mapped[datetime | None]


class Delivery(Base):
    """One mail of one subscription for one period: claimed by one sender, then sent."""

    __tablename__ = "deliveries"
    __table_args__ = (
        UniqueConstraint("subscription_id", "period", name="deliveries_once"),
        CheckConstraint("status IN ('claimed', 'handed over', 'sent', 'failed', 'empty')", name="deliveries_status"),
    )

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    subscription_id: Mapped[int] = mapped_column(ForeignKey("subscriptions.id", ondelete="CASCADE"))
    period: Mapped[str] = mapped_column(String(20))
    """``2026-11-23`` of a daily mail, ``2026-W48`` of a weekly one."""
    status: Mapped[str] = mapped_column(String(12), default="claimed")
    sender: Mapped[str] = mapped_column(String(100))
    message_id: Mapped[str] = mapped_column(String(200))
    entries: Mapped[list[int]] = mapped_column(JSON, default=list)
    """What it showed."""
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    error: Mapped[str] = mapped_column(Text, default="")
    changed: Mapped[datetime] = mapped_column(default=now)


class Upload(Base):
    """A file that a reader gave for runs; its bytes are ``uploads/<id>/<name>`` in the page's folder."""

    __tablename__ = "uploads"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(String(120))
    bytes: Mapped[int] = mapped_column(BigInteger)
    """What was sent."""
    stored: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    """What it takes here: an archive is unpacked."""
    sha256: Mapped[str] = mapped_column(String(64))
    created: Mapped[datetime] = mapped_column(default=now)


class Job(Base):
    """A run asked for on the page. The run itself is in the store of runs under ``run_id``."""

    __tablename__ = "jobs"
    __table_args__ = (
        Index("jobs_queue", "status", "created"),
        CheckConstraint("status IN ('queued', 'running', 'finished', 'failed', 'cancelled')", name="jobs_status"),
    )

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    entry_id: Mapped[int] = mapped_column(ForeignKey("entries.id", ondelete="CASCADE"), index=True)
    user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"), index=True)
    slug: Mapped[str] = mapped_column(String(80))
    config: Mapped[dict[str, Any]] = mapped_column(JSON)
    uploads: Mapped[list[str]] = mapped_column(JSON, default=list)
    """Ids of the uploads that the options name as ``uploads/<id>/...``; such a run is shown to its user only."""
    bytes: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    """What the finished run takes."""
    run_id: Mapped[str | None] = mapped_column(String(120), unique=True)
    status: Mapped[str] = mapped_column(String(10), default="queued")
    cancel_requested: Mapped[bool] = mapped_column(Boolean, default=False)
    worker: Mapped[str | None] = mapped_column(String(100))
    heartbeat: Mapped[datetime | None]
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    message: Mapped[str] = mapped_column(Text, default="")
    """The headline of a finished run, or why it did not finish."""
    created: Mapped[datetime] = mapped_column(default=now)
    started: Mapped[datetime | None]
    finished: Mapped[datetime | None]


class RateCount(Base):
    """How often something was done in a window of time: what rate limits are computed from."""

    __tablename__ = "rate_counts"

    key: Mapped[str] = mapped_column(String(120), primary_key=True)
    window: Mapped[int] = mapped_column(Integer, primary_key=True)
    count: Mapped[int] = mapped_column(Integer, default=0)


class EntryVector(Base):
    """The embedding of an entry's title and abstract: float32, little-endian, unit length."""

    __tablename__ = "entry_vectors"

    entry_id: Mapped[int] = mapped_column(ForeignKey("entries.id", ondelete="CASCADE"), primary_key=True)
    model: Mapped[str] = mapped_column(String(60))
    text_hash: Mapped[str] = mapped_column(String(64))
    vector: Mapped[bytes] = mapped_column(LargeBinary)
