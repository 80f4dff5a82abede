"""The feed: days, weeks, months and all; sorted and filtered; page by page."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from paperworks.page.feed import list_entries, newly_working
from paperworks.page.web.cards import CARD_COLUMNS, cards_of, rows_of
from paperworks.page.web.deps import ThePage, Viewer, is_htmx, render
from paperworks.page.web.filters import KEPT_SECONDS, TheFilters, choices

router = APIRouter(include_in_schema=False)
MANY = 1000


@router.get("/")
def feed(
    request: Request, page: ThePage, user: Viewer, filters: TheFilters, cursor: Annotated[str, Query()] = ""
) -> Response:
    """A page of the feed: whole, without its frame (a filter was changed), or only what follows a cursor."""
    with page.render_slots, page.database.reading() as session:
        name = f"total {filters.path()}"
        found = list_entries(session, filters.query(cursor), CARD_COLUMNS, page.cached_value(name))
        if found.total >= MANY:  # counting them all takes longer than reading a page of them
            page.cached(name, KEPT_SECONDS, lambda: found.total)
        offered = choices(page, session)
        cards = cards_of(page, session, found.entries, user)
        began = []
        if filters.period == "week" and not cursor and found.first is not None and found.last is not None:
            rows = rows_of(session, ids := newly_working(session, found.first, found.last, filters.tag))
            began = cards_of(page, session, [rows[i] for i in ids if i in rows], user, level=3)
    older, newer = offered.around(filters.period, found.first)
    template = "feed/feed.html"
    if is_htmx(request):
        template = "feed/entries.html" if cursor else "feed/whole.html"
    return render(
        request,
        template,
        filters=filters,
        found=found,
        choices=offered,
        older=older,
        newer=newer,
        further=bool(cursor),
        cards=cards,
        began=began,
        side="" if cursor and is_htmx(request) else page.fragment("feed/side.html", filters=filters, choices=offered),
    )
