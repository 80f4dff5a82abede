"""Lists of the feed: a day, a week, a month or all; filtered; sorted by trend, date or claims; page by page.

Pages are found by their position in the order (a cursor), not by a number: entries that arrive between two pages
neither repeat nor hide others.
"""

from __future__ import annotations

import base64
import binascii
import calendar
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Literal, get_args

from sqlalchemy import ColumnElement, func, literal, select, tuple_
from sqlalchemy.orm import Session

from paperworks.errors import InputError
from paperworks.page.database import Entry, EntryTag

PeriodName = Literal["all", "day", "week", "month"]
Sort = Literal["works", "trend", "date", "claims"]
MOST_PER_PAGE = 200


@dataclass(frozen=True)
class FeedQuery:
    """What is asked of the feed.

    Attributes
    ----------
    period, start : the day, the week or the month that holds ``start``; by default the newest one with an entry.
    sort : what works here first and then by trend; by trend; by date (newest first); by how many claims hold here.
    tags : entries that have every one of them.
    works : only papers that work here (True), or that do not (False).
    organisation : the exact name.
    cursor : ``next_cursor`` of the page before.
    limit : entries per page, 1 to 200.

    Raises InputError for values that are none of these.
    """

    period: PeriodName = "all"
    start: date | None = None
    sort: Sort = "works"
    tags: Sequence[str] = ()
    works: bool | None = None
    organisation: str | None = None
    cursor: str | None = None
    limit: int = 30

    def __post_init__(self) -> None:
        for name, kind in (("period", PeriodName), ("sort", Sort)):
            if getattr(self, name) not in get_args(kind):
                raise InputError(name, repr(getattr(self, name)), f"one of {', '.join(get_args(kind))}")
        if not 1 <= self.limit <= MOST_PER_PAGE:
            raise InputError("limit", self.limit, f"1 to {MOST_PER_PAGE}")


@dataclass(frozen=True)
class FeedPage:
    """One page of the feed. ``first`` and ``last`` are the days that it covers (None for all)."""

    entries: list[Any]
    """Objects of ``Entry``, or rows of the columns that were asked for."""
    next_cursor: str | None
    total: int
    first: date | None = None
    last: date | None = None


@dataclass(frozen=True)
class Period:
    """A day, week or month with entries: its first and last day, and how many stand in it."""

    first: date
    last: date
    count: int


def period_of(day: date, period: PeriodName) -> tuple[date, date] | None:
    """The first and last day of the period that holds ``day``; weeks begin on Monday. None for "all"."""
    if period == "day":
        return day, day
    if period == "week":
        monday = day - timedelta(days=day.weekday())
        return monday, monday + timedelta(days=6)
    if period == "month":
        return day.replace(day=1), day.replace(day=calendar.monthrange(day.year, day.month)[1])
    return None


def list_entries(session: Session, query: FeedQuery, columns: Sequence[Any] = (), total: int | None = None) -> FeedPage:
    """The page of the feed that a query asks for. Raises InputError for a cursor that is not of this list.

    With ``columns`` (of the table; the id and those of the order among them), its entries are rows of these and not
    objects. ``total`` is taken for the number of entries that fit, which is counted otherwise.
    """
    span = None
    if query.period != "all":
        latest: list[Any] = [func.max(Entry.listed)]
        if query.period == "week":
            latest.append(func.max(Entry.works_since))
        row = session.execute(select(*latest).where(Entry.hidden.is_(False))).one()
        day = query.start or max((found for found in row if found is not None), default=None)
        if day is None:
            return FeedPage([], None, 0)
        span = period_of(day, query.period)
    conditions = _conditions(query, span)
    if total is None:
        total = session.scalar(select(func.count()).select_from(Entry).where(*conditions)) or 0
    order = _order(query.sort)
    if query.cursor is not None:
        conditions.append(_after(order, _read_cursor(query.cursor, query.sort)))
    # Which entries they are is found first, in an index: sorting the entries themselves would read all of a period.
    newest = [c.desc() for c in order]
    chosen = select(Entry.id).where(*conditions).order_by(*newest).limit(query.limit + 1)
    wanted: Any = (select(*columns) if columns else select(Entry)).where(Entry.id.in_(chosen)).order_by(*newest)
    found: list[Any] = list(session.execute(wanted) if columns else session.scalars(wanted))
    entries, more = found[: query.limit], len(found) > query.limit
    return FeedPage(
        entries,
        _write_cursor(query.sort, [getattr(entries[-1], c.key) for c in order]) if more else None,
        total,
        *(span or (None, None)),
    )


def newly_working(session: Session, first: date, last: date, tags: Sequence[str] = ()) -> list[int]:
    """The ids of the entries that began to work here between two days and have all tags, the newest first."""
    asked = select(Entry.id).where(
        Entry.works_since.between(first, last), *filters(tags, works=True, organisation=None)
    )
    return list(session.scalars(asked.order_by(Entry.works_since.desc(), Entry.trend.desc(), Entry.id.desc())))


def periods(session: Session) -> dict[str, list[Period]]:
    """The days, weeks and months that have entries, newest first: keys ``day``, ``week`` and ``month``.

    A week in which an entry began to work here is among them too.
    """
    counts = session.execute(
        select(Entry.listed, func.count()).where(Entry.hidden.is_(False)).group_by(Entry.listed)
    ).all()
    began = session.scalars(
        select(Entry.works_since).where(Entry.hidden.is_(False), Entry.works_since.is_not(None)).distinct()
    ).all()
    names: tuple[PeriodName, ...] = ("day", "week", "month")
    found: dict[str, list[Period]] = {}
    for name in names:
        sums: dict[tuple[date, date], int] = {}
        for day, count in counts:
            span = period_of(day, name)
            assert span is not None
            sums[span] = sums.get(span, 0) + count
        for since in began if name == "week" else ():
            span = period_of(since, name) if since is not None else None
            assert span is not None
            sums.setdefault(span, 0)
        found[name] = [Period(*span, sums[span]) for span in sorted(sums, reverse=True)]
    return found


def tag_counts(session: Session) -> list[tuple[str, int]]:
    """All tags with the number of entries that have them, the most frequent first."""
    count = func.count().label("count")
    return [
        (tag, number)
        for tag, number in session.execute(
            select(EntryTag.tag, count)
            .join(Entry, Entry.id == EntryTag.entry_id)
            .where(Entry.hidden.is_(False))
            .group_by(EntryTag.tag)
            .order_by(count.desc(), EntryTag.tag)
        )
    ]


def organisations(session: Session) -> list[tuple[str, int]]:
    """All organisations with the number of their entries, the most frequent first."""
    count = func.count().label("count")
    rows = session.execute(
        select(Entry.organisation, count)
        .where(Entry.hidden.is_(False), Entry.organisation.is_not(None))
        .group_by(Entry.organisation)
        .order_by(count.desc(), Entry.organisation)
    )
    return [(name, number) for name, number in rows if name is not None]


def filters(tags: Sequence[str], works: bool | None, organisation: str | None) -> list[ColumnElement[bool]]:
    """The conditions of the filters that the feed and the search share; hidden entries are always out."""
    conditions: list[ColumnElement[bool]] = [Entry.hidden.is_(False)]
    for tag in dict.fromkeys(t.lower() for t in tags):
        conditions.append(Entry.id.in_(select(EntryTag.entry_id).where(EntryTag.tag == tag)))
    if works is not None:
        conditions.append(Entry.works.is_(works))
    if organisation is not None:
        conditions.append(Entry.organisation == organisation)
    return conditions


def _conditions(query: FeedQuery, span: tuple[date, date] | None) -> list[ColumnElement[bool]]:
    conditions = filters(query.tags, query.works, query.organisation)
    if span is not None:
        conditions.append(Entry.listed.between(*span))
    return conditions


def _order(sort: Sort) -> list[Any]:
    first: dict[Sort, list[Any]] = {
        "works": [Entry.works, Entry.trend],
        "trend": [Entry.trend],
        "date": [Entry.listed],
        "claims": [Entry.claims_held],
    }
    return [*first[sort], Entry.id]


def _after(columns: Sequence[Any], values: Sequence[Any]) -> ColumnElement[bool]:
    given = [literal(value, column.type) for column, value in zip(columns, values, strict=True)]
    return tuple_(*columns) < tuple_(*given)


def _write_cursor(sort: Sort, values: Sequence[Any]) -> str:
    plain = [v.isoformat() if isinstance(v, date) else v for v in values]
    return base64.urlsafe_b64encode(json.dumps([sort, *plain]).encode()).decode().rstrip("=")


def _read_cursor(cursor: str, sort: Sort) -> list[Any]:
    """The values of the last entry of the page before. Whatever was typed into an address arrives here."""
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        named, *values = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        columns = _order(sort)
        if named != sort or len(values) != len(columns):
            raise ValueError
        return [_read_value(column.type.python_type, value) for column, value in zip(columns, values, strict=True)]
    except (binascii.Error, UnicodeError, ValueError, TypeError, RecursionError, OverflowError):
        raise InputError("cursor", repr(cursor[:60]), "the cursor that the page before gave") from None


def _read_value(kind: type, value: Any) -> Any:
    """A value of a column of this kind; raises ValueError or TypeError for any other."""
    if kind is date:
        return date.fromisoformat(value)
    if type(value) not in ((int, float) if kind is float else (kind,)):
        raise TypeError
    if kind is not bool and not (math.isfinite(value) and abs(value) < 2**31):
        raise ValueError
    return value
