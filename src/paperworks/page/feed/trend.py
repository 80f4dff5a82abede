"""What trends: interest on a logarithmic scale, against age.

    trend = log2(1 + upvotes + 2 * comments + 3 * runs) - age in hours / 72

A comment counts as two upvotes and a run as three, by the effort that each takes. Twice the interest makes up for
three days of age, at any age and at any size. Because age only subtracts, the order of two entries changes when their
interest changes and never by the passing of time: a stored score does not become stale.
"""

from __future__ import annotations

import math
from datetime import UTC, date, datetime

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from paperworks.page.database import Entry

COMMENT_WEIGHT = 2
RUN_WEIGHT = 3
HOURS_PER_DOUBLING = 72.0
REFERENCE = date(2026, 1, 1)
"""Stored scores are those of one moment, the start of this day, so that they can be compared with each other."""


def trend_score(upvotes: int, comments: int, runs: int, age_hours: float) -> float:
    """log2(1 + upvotes + 2 comments + 3 runs) - age_hours / 72. Higher is more of a trend; counts are 0 or more.

    ``age_hours`` may be negative (for a moment before the entry was listed).
    """
    interest = upvotes + COMMENT_WEIGHT * comments + RUN_WEIGHT * runs
    return math.log2(1 + interest) - age_hours / HOURS_PER_DOUBLING


def entry_trend(entry: Entry, moment: datetime) -> float:
    """The score that is stored for an entry: that of ``REFERENCE``.

    A day that is still to come at ``moment`` counts as that moment's day: a wrong date must not lead the feed.
    """
    listed = min(entry.listed, moment.astimezone(UTC).date())
    return trend_score(
        entry.upvotes + entry.upvotes_elsewhere,
        entry.comments + entry.comments_elsewhere,
        entry.runs,
        24.0 * (REFERENCE - listed).days,
    )


def refresh_trends(session: Session, moment: datetime, entry_ids: list[int] | None = None) -> int:
    """Bring the stored scores (of some entries, or of all) up to date; returns how many changed.

    To be called after votes, comments, runs or days changed.
    """
    session.flush()
    query = select(
        Entry.id,
        Entry.trend,
        Entry.listed,
        Entry.upvotes,
        Entry.upvotes_elsewhere,
        Entry.comments,
        Entry.comments_elsewhere,
        Entry.runs,
    )
    if entry_ids is not None:
        query = query.where(Entry.id.in_(entry_ids))
    changed = []
    for row in session.execute(query):
        score = entry_trend(row, moment)  # type: ignore[arg-type]  # a row has the same attributes
        if score != row.trend:
            changed.append({"id": row.id, "trend": score})
    if changed:
        session.execute(update(Entry), changed)
        for entry in session.identity_map.values():
            if isinstance(entry, Entry):
                session.expire(entry, ["trend"])
    return len(changed)
