"""Tags: all of them, and those that a user follows."""

from __future__ import annotations

from fastapi import APIRouter
from sqlalchemy import select
from starlette.requests import Request
from starlette.responses import Response

from paperworks.page.community.reactions import followed_tags
from paperworks.page.database import Entry, EntryTag
from paperworks.page.web.cards import CARD_COLUMNS, cards_of
from paperworks.page.web.deps import SignedIn, ThePage, Viewer, render
from paperworks.page.web.filters import choices

router = APIRouter(include_in_schema=False)

SHOWN = 60


@router.get("/tags")
def tags(request: Request, page: ThePage, user: Viewer) -> Response:
    """All tags, with a button to follow each."""
    with page.database.reading() as session:
        offered = choices(page, session)
        followed = set(followed_tags(session, user.id)) if user is not None else set()
    return render(request, "tags/tags.html", tags=offered.tags, followed=followed)


@router.get("/following")
def following(request: Request, page: ThePage, user: SignedIn) -> Response:
    """What trends in the followed tags."""
    with page.database.reading() as session:
        followed = followed_tags(session, user.id)
        within = select(EntryTag.entry_id).where(EntryTag.tag.in_(followed))
        query = select(*CARD_COLUMNS).where(Entry.hidden.is_(False), Entry.id.in_(within))
        rows = session.execute(query.order_by(Entry.trend.desc(), Entry.id.desc()).limit(SHOWN)).all()
        cards = cards_of(page, session, rows, user)
    return render(request, "tags/following.html", followed=followed, cards=cards)
