"""Which papers a digest shows: what is trending in the chosen tags, but not five times the same subject."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, timedelta

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session as OrmSession

from paperworks.page.database import Entry, EntryTag

CANDIDATES = 60
DAYS = {"daily": 1, "weekly": 7}
FALLBACK_DAYS: tuple[int | None, ...] = (30, None)
"""Where a digest's period has too few papers, those of the last month fill it up, and then those of any time."""

Vectors = Callable[[Sequence[int]], np.ndarray]


def choose_papers(
    session: OrmSession,
    tags: Sequence[str],
    day: date,
    frequency: str,
    vectors: Vectors | None,
    count: int = 5,
    seen: Sequence[int] = (),
) -> list[Entry]:
    """At most ``count`` entries for a digest of ``day``, the most trending first.

    Candidates are the most trending entries with one of ``tags`` (all if empty) that were listed within the digest's
    period, and, where these are too few, within the month before it, and then at any time, those that work here first;
    ``seen`` are left out (they were mailed before), and so are withdrawn papers.
    Their embeddings are grouped into ``count`` clusters by k-means, and the most trending of each cluster is taken.
    ``vectors`` maps entry ids to unit vectors [n, d]; without it the most trending are taken.
    """
    found = _candidates(session, tags, day, DAYS[frequency], seen)
    for days in FALLBACK_DAYS:
        if len(found) < count:
            found += _candidates(session, tags, day, days, [*seen, *(e.id for e in found)])
    if vectors is None or len(found) <= count:
        return found[:count]
    clusters = _clusters(vectors([e.id for e in found]), count)
    best: dict[int, Entry] = {}
    for entry, cluster in zip(found, clusters, strict=True):  # in order, so the first of a cluster is its best
        best.setdefault(int(cluster), entry)
    chosen = sorted(best.values(), key=found.index)
    # Equal vectors leave clusters empty: fill up by trend.
    chosen += [e for e in found if e not in chosen][: count - len(chosen)]
    return chosen


def _candidates(
    session: OrmSession, tags: Sequence[str], day: date, days: int | None, without: Sequence[int]
) -> list[Entry]:
    query = select(Entry).where(Entry.hidden.is_(False), Entry.withdrawn.is_(False), Entry.listed <= day)
    if days is not None:
        query = query.where(Entry.listed > day - timedelta(days=days)).order_by(Entry.trend.desc(), Entry.id)
    else:
        query = query.order_by(Entry.works.desc(), Entry.trend.desc(), Entry.id)
    query = query.limit(CANDIDATES)
    if tags:
        query = query.where(Entry.id.in_(select(EntryTag.entry_id).where(EntryTag.tag.in_(tags))))
    if without:
        query = query.where(Entry.id.not_in(without))
    return list(session.scalars(query))


def _clusters(vectors: np.ndarray, count: int) -> np.ndarray:
    """Cluster of each row, by k-means with a fixed seed, so that a repeated digest is the same digest."""
    from sklearn.cluster import KMeans

    distinct = len(np.unique(vectors, axis=0))
    model = KMeans(n_clusters=min(count, distinct), n_init=10, random_state=0)
    return model.fit_predict(np.asarray(vectors, dtype=np.float64))
