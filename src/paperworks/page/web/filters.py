"""The filters of a list of papers as they stand in an address: read, checked, and written into links again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Annotated, Any, Literal

from fastapi import Depends, Query
from pydantic import StringConstraints
from sqlalchemy.orm import Session as OrmSession

from paperworks.page.community.reactions import reactions_of
from paperworks.page.database import Entry, User
from paperworks.page.feed import FeedQuery, organisations, periods, tag_counts
from paperworks.page.feed.listing import Period, PeriodName, Sort
from paperworks.page.web.addresses import with_query
from paperworks.page.web.deps import Page

PER_PAGE = 30
KEPT_SECONDS = 30.0
MOST_TAGS = 10
EARLIEST, LATEST = date(1900, 1, 1), date(2999, 12, 1)
Tag = Annotated[str, StringConstraints(max_length=60)]
SHOWN_TAGS = 18


@dataclass(frozen=True)
class Filters:
    """What narrows a list. Field names are those of the address."""

    period: PeriodName = "all"
    start: str = ""
    sort: Sort = "works"
    tag: tuple[str, ...] = ()
    works: bool = False
    organisation: str = ""

    def path(self, path: str = "/", **changes: Any) -> str:
        """A link to the list with some filters changed; those at their default are left out."""
        shown = {k: v for k, v in (vars(self) | changes).items() if k not in _PLAIN or v != _PLAIN[k]}
        return with_query(path, **shown)

    def toggled(self, tag: str) -> tuple[str, ...]:
        """The tags with one more, or without it."""
        return tuple(t for t in self.tag if t != tag) if tag in self.tag else (*self.tag, tag)

    def newest_first(self) -> Filters:
        """The same by date, unless an order was chosen: what programs that look for what is new expect."""
        return replace(self, sort="date") if self.sort == _PLAIN["sort"] else self

    @property
    def narrowed(self) -> bool:
        """Whether anything but the period and the order is chosen."""
        return bool(self.tag or self.works or self.organisation)

    def query(self, cursor: str | None = None, limit: int = PER_PAGE) -> FeedQuery:
        """The same as a query of the feed. Raises InputError naming the field."""
        return FeedQuery(
            period=self.period,
            start=date.fromisoformat(self.start) if self.start else None,
            sort=self.sort,
            tags=self.tag,
            works=True if self.works else None,
            organisation=self.organisation or None,
            cursor=cursor or None,
            limit=limit,
        )


_PLAIN = vars(Filters())


async def read_filters(
    period: Annotated[PeriodName, Query(description="of which the newest is shown, unless start is given")] = "all",
    start: Annotated[date | None, Query(description="a day of the period")] = None,
    sort: Annotated[Sort, Query(description="the order; works: what works here first, then by trend")] = "works",
    tag: Annotated[list[Tag], Query(description="every one of them", max_length=MOST_TAGS)] = [],  # noqa: B006 - FastAPI's
    works: Annotated[Literal["", "0", "1"], Query(description="1 for papers that work here only")] = "",
    organisation: Annotated[str, Query(description="the exact name", max_length=200)] = "",
) -> Filters:
    """The filters of a request; empty ones count as not given."""
    tags = tuple(dict.fromkeys(t for t in (t.replace("\x00", "").strip().lower() for t in tag) if t))
    name = organisation.replace("\x00", "")
    day = min(max(start, EARLIEST), LATEST).isoformat() if start is not None else ""
    return Filters(period, day, sort, tags, works == "1", name)


TheFilters = Annotated[Filters, Depends(read_filters)]


@dataclass(frozen=True, eq=False)
class Choices:
    """What can be chosen: kept for a while, since all readers share it."""

    tags: Sequence[tuple[str, int]]
    organisations: Sequence[tuple[str, int]]
    periods: dict[str, list[Period]]

    def tags_to_show(self, chosen: Sequence[str]) -> list[tuple[str, int]]:
        """The chosen tags, then the most frequent ones."""
        counts = dict(self.tags)
        rest = [(t, n) for t, n in self.tags if t not in chosen]
        return [(t, counts.get(t, 0)) for t in chosen] + rest[: max(0, SHOWN_TAGS - len(chosen))]

    def around(self, period: str, first: date | None) -> tuple[Period | None, Period | None]:
        """The newest period with entries before the one that starts on ``first``, and the oldest after it."""
        known = self.periods.get(period, [])
        if first is None:
            return None, None
        older = next((p for p in known if p.first < first), None)
        newer = next((p for p in reversed(known) if p.first > first), None)
        return older, newer


def choices(page: Page, session: OrmSession) -> Choices:
    """The choices of this moment."""
    return page.cached(
        "choices", KEPT_SECONDS, lambda: Choices(tag_counts(session), organisations(session), periods(session))
    )


def reactions(session: OrmSession, user: User | None, entries: Sequence[Entry]) -> dict[str, Any]:
    """``voted`` and ``kept`` for a template that lists entries."""
    voted, kept = reactions_of(session, user.id, [e.id for e in entries]) if user is not None else (set(), set())
    return {"voted": voted, "kept": kept}
