"""Votes, bookmarks and followed tags."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter
from sqlalchemy.orm import Session as OrmSession
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import Response

from paperworks.errors import InputError
from paperworks.page.community import limits, reactions
from paperworks.page.database import User
from paperworks.page.web.cards import cards_of, rows_of
from paperworks.page.web.deps import CheckedForm, SignedIn, ThePage, back, check_rate, get_page, is_htmx, render
from paperworks.page.web.lookup import find_entry

router = APIRouter(include_in_schema=False)

Change = Callable[[OrmSession, int, int, bool], None]


@router.post("/papers/{paper_id:paper}/vote")
def vote(request: Request, page: ThePage, form: CheckedForm, user: SignedIn, paper_id: str) -> Response:
    """Upvote a paper, or take the vote back."""
    return _react(request, user, paper_id, form, reactions.set_vote, "vote")


@router.post("/papers/{paper_id:paper}/bookmark")
def bookmark(request: Request, page: ThePage, form: CheckedForm, user: SignedIn, paper_id: str) -> Response:
    """Bookmark a paper, or no longer."""
    return _react(request, user, paper_id, form, reactions.set_bookmark, "bookmark")


@router.get("/bookmarks")
def bookmarks(request: Request, page: ThePage, user: SignedIn) -> Response:
    """The user's bookmarks."""
    with page.database.reading() as session:
        rows = rows_of(session, ids := reactions.bookmarked(session, user.id))
        cards = cards_of(page, session, [rows[i] for i in ids], user)
    return render(request, "reactions/bookmarks.html", cards=cards)


@router.post("/tags/{tag}/follow")
def follow(request: Request, page: ThePage, form: CheckedForm, user: SignedIn, tag: str) -> Response:
    """Follow a tag, or no longer."""
    check_rate(request, limits.REACTIONS, str(user.id))
    on = wanted(form)
    with page.database.session() as session:
        reactions.set_follow(session, user.id, tag, on)
    if is_htmx(request):
        return render(request, "tags/follow.html", tag=tag, followed=on)
    return back(request)


def wanted(form: FormData) -> bool:
    """Whether a form says that something shall be on. Raises InputError for anything but 0 and 1."""
    value = form.get("on")
    if value not in ("0", "1"):
        raise InputError("on", repr(value)[:40], "1 or 0")
    return value == "1"


def _react(request: Request, user: User, paper_id: str, form: FormData, change: Change, part: str) -> Response:
    page = get_page(request)
    check_rate(request, limits.REACTIONS, str(user.id))
    on = wanted(form)
    with page.database.session() as session:
        entry = find_entry(session, paper_id)
        change(session, entry.id, user.id, on)
        session.flush()
        session.refresh(entry)
    if is_htmx(request):
        return render(request, f"reactions/{part}.html", entry=entry, on=on)
    return back(request)
