"""The feed: days, weeks, months and all; sorted and filtered; page by page."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from paperworks.page.feed import list_entries
from paperworks.page.web.deps import ThePage, Viewer, is_htmx, render
from paperworks.page.web.filters import TheFilters, choices, reactions

router = APIRouter(include_in_schema=False)


@router.get("/")
def feed(
    request: Request, page: ThePage, user: Viewer, filters: TheFilters, cursor: Annotated[str, Query()] = ""
) -> Response:
    """A page of the feed: whole, without its frame (a filter was changed), or only what follows a cursor."""
    with page.database.reading() as session:
        found = list_entries(session, filters.query(cursor))
        offered = choices(page, session)
        shown = reactions(session, user, found.entries)
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
        **shown,
    )
