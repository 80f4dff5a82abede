"""Two entries that turn out to be one paper become one, with the votes, comments, bookmarks and runs of both."""

from __future__ import annotations

from typing import Any

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from paperworks.page.database import (
    Bookmark,
    CollectionEntry,
    Comment,
    Entry,
    EntryKey,
    EntryTag,
    EntryVector,
    Job,
    Vote,
)

FILLED = (
    "arxiv",
    "slug",
    "summary",
    "abstract",
    "authors",
    "author_count",
    "organisation",
    "published",
    "url",
    "repository",
    "submitted_by",
)


def merge_entries(session: Session, kept: Entry, other: Entry) -> None:
    """Move everything of ``other`` to ``kept`` and delete ``other``. What ``kept`` lacks is filled from ``other``."""
    filling = {name: getattr(other, name) for name in FILLED if not getattr(kept, name) and getattr(other, name)}
    figures = {name: getattr(other, name) for name in ("works", "works_since", "claims_held", "claims_total")}
    tags = set(other.tag_names) - set(kept.tag_names)
    both: tuple[type[Vote] | type[Bookmark], ...] = (Vote, Bookmark)
    for table in both:  # a user who has one on both entries keeps one
        own = select(table.user_id).where(table.entry_id == kept.id)
        session.execute(delete(table).where(table.entry_id == other.id, table.user_id.in_(own)))
    holding = select(CollectionEntry.collection_id).where(CollectionEntry.entry_id == kept.id)
    session.execute(
        delete(CollectionEntry).where(
            CollectionEntry.entry_id == other.id, CollectionEntry.collection_id.in_(holding.scalar_subquery())
        )
    )
    moved: tuple[Any, ...] = (Vote, Bookmark, CollectionEntry, Comment, Job, EntryKey)
    for table in moved:
        session.execute(
            update(table)
            .where(table.entry_id == other.id)
            .values(entry_id=kept.id)
            .execution_options(synchronize_session=False)
        )
    session.execute(delete(EntryVector).where(EntryVector.entry_id.in_([kept.id, other.id])))
    kept.runs += other.runs
    kept.upvotes_elsewhere = max(kept.upvotes_elsewhere, other.upvotes_elsewhere)
    kept.comments_elsewhere = max(kept.comments_elsewhere, other.comments_elsewhere)
    if kept.listed_known == other.listed_known:
        kept.listed = min(kept.listed, other.listed)
    elif other.listed_known:
        kept.listed, kept.listed_known = other.listed, True
    kept.hidden = kept.hidden or other.hidden
    session.delete(other)
    session.flush()  # before its arXiv id and slug are given to the entry that stays: they are unique
    for name, value in filling.items():
        setattr(kept, name, value)
    if "slug" in filling:
        for name, value in figures.items():
            setattr(kept, name, value)
    kept.tags.extend(EntryTag(tag=tag) for tag in sorted(tags))
    kept.upvotes = session.scalar(select(func.count()).select_from(Vote).where(Vote.entry_id == kept.id)) or 0
    kept.comments = (
        session.scalar(
            select(func.count()).select_from(Comment).where(Comment.entry_id == kept.id, Comment.deleted.is_(None))
        )
        or 0
    )
    session.flush()
