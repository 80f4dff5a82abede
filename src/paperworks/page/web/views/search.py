"""Search by words and by meaning."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Annotated

from fastapi import APIRouter, Query
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response

from paperworks.errors import InputError
from paperworks.page.search import Hit
from paperworks.page.search.index import Mode
from paperworks.page.web.cards import cards_of, rows_of
from paperworks.page.web.deps import ThePage, Viewer, is_htmx, render
from paperworks.page.web.filters import Filters, TheFilters, choices

router = APIRouter(include_in_schema=False)

SHOWN = 20
LONGEST_QUERY = 400


@router.get("/search")
def search(
    request: Request,
    page: ThePage,
    user: Viewer,
    filters: TheFilters,
    q: Annotated[str, Query()] = "",
    mode: Annotated[Mode, Query()] = "hybrid",
    cursor: Annotated[str, Query(max_length=200)] = "",
) -> Response:
    """The search page: whole, only its results when the words or a filter changed, or only what follows a cursor."""
    q = q.replace("\x00", " ").strip()[:LONGEST_QUERY]
    after = _read_cursor(cursor) if cursor and q else None
    hits: list[Hit] = []
    if q:
        works = True if filters.works else None
        hits = page.search.search(
            q, filters.tag, works, filters.organisation or None, limit=SHOWN + 1, mode=mode, after=after
        )
    shown, more = hits[:SHOWN], len(hits) > SHOWN
    with page.render_slots, page.database.reading() as session:
        rows = rows_of(session, [hit.entry_id for hit in shown])
        found = [hit for hit in shown if hit.entry_id in rows]  # without entries that have gone since
        snippets = [Markup(hit.snippet_html_safe) for hit in found]
        cards = cards_of(page, session, [rows[hit.entry_id] for hit in found], user, snippets, level=3)
        offered = choices(page, session)
    first = 0 if after is None else after[0] + 1
    further = bool(cursor) and is_htmx(request)
    return render(
        request,
        "search/further.html" if further else "search/results.html" if is_htmx(request) else "search/search.html",
        q=q,
        cards=cards,
        filters=filters,
        later=bool(cursor),
        next_path=_next(q, mode, filters, first + len(shown) - 1, shown[-1].entry_id) if more else "",
        side="" if is_htmx(request) else page.fragment("search/side.html", filters=filters, choices=offered, mode=mode),
    )


def _next(q: str, mode: Mode, filters: Filters, place: int, entry_id: int) -> str:
    """Where the hits after an entry are, which was at a place of the order (from 0)."""
    plain = json.dumps([place, entry_id]).encode()
    cursor = base64.urlsafe_b64encode(plain).decode().rstrip("=")
    return filters.path("/search", q=q, **({} if mode == "hybrid" else {"mode": mode}), cursor=cursor)


def _read_cursor(cursor: str) -> tuple[int, int]:
    """The place and the id of the last hit of the page before. Whatever was typed into an address arrives here."""
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        place, identity = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        if type(place) is not int or type(identity) is not int or not 0 <= place < 2**31 or not 0 < identity < 2**31:
            raise ValueError
    except (binascii.Error, UnicodeError, ValueError, TypeError, RecursionError):
        raise InputError("cursor", repr(cursor[:60]), "the cursor that the page before gave") from None
    return place, identity
