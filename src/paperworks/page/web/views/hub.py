"""The JSON API: the Hugging Face Hub's routes and shapes of papers, so that its Python client reads this page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date as Date
from datetime import timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query
from sqlalchemy import select
from sqlalchemy.orm import Session as OrmSession

from paperworks.page.database import AMONG_IDS, Entry, User
from paperworks.page.feed.listing import PeriodName, filters, period_of
from paperworks.page.web.addresses import PAPER_ID
from paperworks.page.web.deps import ThePage
from paperworks.page.web.hub_schemas import ApiError, ListedPaper, PaperDetail, detail, listed
from paperworks.page.web.lookup import find_entry

ERRORS: Mapping[int | str, dict[str, Any]] = {
    400: {"model": ApiError, "description": "a request that cannot be read"},
    422: {"model": ApiError, "description": "a parameter that does not fit; the message names it"},
}
NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": ApiError, "description": "no such paper"}}

WEEK = "^[12][0-9]{3}-W(0[1-9]|[1-4][0-9]|5[0-3])$"
MONTH = "^[12][0-9]{3}-(0[1-9]|1[0-2])$"

router = APIRouter(prefix="/api", tags=["papers"], responses=dict(ERRORS))


@router.get("/daily_papers", summary="Papers of a day, a week, a month, or the newest")
def daily_papers(
    page: ThePage,
    date: Annotated[Date | None, Query(description="a day, YYYY-MM-DD")] = None,
    week: Annotated[str | None, Query(description="an ISO week, YYYY-Www", pattern=WEEK)] = None,
    month: Annotated[str | None, Query(description="a month, YYYY-MM", pattern=MONTH)] = None,
    submitter: Annotated[str | None, Query(description="name of who submitted it", max_length=60)] = None,
    sort: Annotated[Literal["publishedAt", "trending"], Query(description="newest or most trending first")] = (
        "publishedAt"
    ),
    p: Annotated[int, Query(description="page, from 0", ge=0, le=100_000)] = 0,
    limit: Annotated[int, Query(description="papers per page", ge=1, le=100)] = 50,
) -> list[ListedPaper]:
    """The papers of a period, page by page."""
    conditions = filters((), None, None)
    asked: list[tuple[PeriodName, Date | None]] = [("day", date), ("week", _week(week)), ("month", _month(month))]
    for name, start in asked:
        span = period_of(start, name) if start is not None else None
        if span is not None:
            conditions.append(Entry.listed.between(*span))
    if submitter is not None:
        named = select(User.id).where(User.name == submitter.replace("\x00", ""))
        conditions.append(Entry.submitted_by.in_(named))
    first = Entry.trend if sort == "trending" else Entry.listed
    query = select(Entry).where(*conditions).order_by(first.desc(), Entry.id.desc()).offset(p * limit).limit(limit)
    with page.database.reading() as session:
        entries = list(session.scalars(query))
        names = submitters(session, entries)
    return [listed(entry, names) for entry in entries]


@router.get("/papers/search", summary="Papers that fit a query by words and meaning")
def search(
    page: ThePage,
    q: Annotated[str, Query(description="words; without any, the newest papers", max_length=400)] = "",
    limit: Annotated[int, Query(description="at most so many", ge=1, le=120)] = 20,
) -> list[ListedPaper]:
    """The best matches, best first."""
    words = q.replace("\x00", " ").strip()
    with page.database.reading() as session:
        if words:
            ids = [hit.entry_id for hit in page.search.search(words, limit=limit)]
            rows = {e.id: e for e in session.scalars(select(Entry).where(Entry.id.in_(ids), AMONG_IDS))}
            entries = [rows[i] for i in ids if i in rows]
        else:
            newest = select(Entry).where(*filters((), None, None)).order_by(Entry.listed.desc(), Entry.id.desc())
            entries = list(session.scalars(newest.limit(limit)))
        names = submitters(session, entries)
    return [listed(entry, names) for entry in entries]


@router.get("/papers/{paper_id:paper}", summary="One paper with its claims", responses=NOT_FOUND)
def paper(
    page: ThePage,
    paper_id: Annotated[str, Path(description="arXiv id, slug, or p and a number", pattern=f"^(?:{PAPER_ID})$")],
) -> PaperDetail:
    """A paper, its claims, and what was measured of them here."""
    with page.database.reading() as session:
        entry = find_entry(session, paper_id)
        names = submitters(session, [entry])
    return detail(entry, page.evidence.get(entry.slug or ""), names)


def submitters(session: OrmSession, entries: Iterable[Entry]) -> dict[int, str]:
    """Names of who submitted some entries, by id."""
    ids = {e.submitted_by for e in entries if e.submitted_by is not None}
    if not ids:
        return {}
    return {row.id: row.name for row in session.execute(select(User.id, User.name).where(User.id.in_(ids)))}


def _week(text: str | None) -> Date | None:
    """A day of a week; the 53rd of a year without one is the first of the next."""
    return None if text is None else Date.fromisocalendar(int(text[:4]), 1, 1) + timedelta(weeks=int(text[6:]) - 1)


def _month(text: str | None) -> Date | None:
    return None if text is None else Date(int(text[:4]), int(text[5:]), 1)
