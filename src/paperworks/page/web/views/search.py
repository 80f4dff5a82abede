"""Search by words and by meaning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Query
from markupsafe import Markup
from sqlalchemy import select
from sqlalchemy.orm import Session as OrmSession
from starlette.requests import Request
from starlette.responses import Response

from paperworks.page.database import Entry
from paperworks.page.search import Hit
from paperworks.page.search.index import Mode
from paperworks.page.web.deps import ThePage, Viewer, is_htmx, render
from paperworks.page.web.filters import TheFilters, choices, reactions

router = APIRouter(include_in_schema=False)

SHOWN = 30
LONGEST_QUERY = 400


@dataclass(frozen=True)
class Found:
    """A hit with its entry; ``snippet`` is safe HTML."""

    entry: Entry
    snippet: Markup
    matched_by: tuple[str, ...]


@router.get("/search")
def search(
    request: Request,
    page: ThePage,
    user: Viewer,
    filters: TheFilters,
    q: Annotated[str, Query()] = "",
    mode: Annotated[Mode, Query()] = "hybrid",
) -> Response:
    """The search page: whole, or only its results when the words or a filter changed."""
    q = q.replace("\x00", " ").strip()[:LONGEST_QUERY]
    hits: list[Hit] = []
    if q:
        works = True if filters.works else None
        hits = page.search.search(
            q, tags=filters.tag, works=works, organisation=filters.organisation or None, limit=SHOWN, mode=mode
        )
    with page.database.reading() as session:
        found = with_entries(session, hits)
        offered = choices(page, session)
        shown = reactions(session, user, [f.entry for f in found])
    return render(
        request,
        "search/results.html" if is_htmx(request) else "search/search.html",
        q=q,
        mode=mode,
        found=found,
        filters=filters,
        choices=offered,
        **shown,
    )


def with_entries(session: OrmSession, hits: list[Hit]) -> list[Found]:
    """The hits with their entries, in their order; without entries that have gone since."""
    ids = [hit.entry_id for hit in hits]
    entries = {e.id: e for e in session.scalars(select(Entry).where(Entry.id.in_(ids), Entry.hidden.is_(False)))}
    return [
        Found(entries[hit.entry_id], Markup(hit.snippet_html_safe), hit.matched_by)
        for hit in hits
        if hit.entry_id in entries
    ]
