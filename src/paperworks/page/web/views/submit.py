"""Submitting a paper by its arXiv id."""

from __future__ import annotations

from datetime import timedelta

from fastapi import APIRouter
from sqlalchemy import select
from starlette.requests import Request
from starlette.responses import Response

from paperworks.errors import InputError
from paperworks.page.community import limits
from paperworks.page.database import Entry, Submission, User, now
from paperworks.page.feed import submissions
from paperworks.page.feed.keys import arxiv_id
from paperworks.page.links import paper_path
from paperworks.page.web.deps import CheckedForm, Page, SignedIn, ThePage, check_rate, redirect, render

router = APIRouter(include_in_schema=False)
SHOWN_DAYS = 30
INDEXED_NOW = 16


@router.get("/submit")
def form(request: Request, page: ThePage, user: SignedIn, queued: str = "") -> Response:
    """The form for an arXiv id or address, and what waits of the reader's submissions."""
    return _show(request, page, user, queued=arxiv_id(queued[:60]) or "")


@router.post("/submit")
def submit(request: Request, page: ThePage, given: CheckedForm, user: SignedIn) -> Response:
    """Bring the paper from arXiv; one that is here already is shown, and one that does not come soon is queued."""
    text = str(given.get("paper") or "").strip()
    name = arxiv_id(text[:200])
    if name is None:
        error = str(InputError("paper", repr(text[:60]), "an arXiv id or address, as in 2401.15024"))
        return _show(request, page, user, 422, text[:200], error)
    known = select(Entry).where(Entry.arxiv == name, Entry.hidden.is_(False))
    with page.database.reading() as session:
        entry = session.scalar(known)
    if entry is None:
        check_rate(request, limits.SUBMISSIONS, str(user.id))
        waiting = submissions.submit_paper(page.database, page.settings, name, user.id)
        if waiting is not None and waiting.ended is None:
            return redirect(f"/submit?queued={name}")
        with page.database.reading() as session:
            entry = session.scalar(known)
        if entry is None:
            said = waiting.error if waiting is not None else "A moderator of this page has hidden this paper."
            return _show(request, page, user, 422, text[:200], said)
        page.clear_cache()
        page.search.refresh(most=INDEXED_NOW)
    return redirect(paper_path(entry))


def _show(
    request: Request, page: Page, user: User, status: int = 200, paper: str = "", error: str = "", queued: str = ""
) -> Response:
    mine = select(Submission).where(
        Submission.user_id == user.id, Submission.created > now() - timedelta(days=SHOWN_DAYS)
    )
    with page.database.reading() as session:
        waiting = list(session.scalars(mine.order_by(Submission.created.desc())))
    return render(request, "submit/submit.html", status, paper=paper, error=error, queued=queued, waiting=waiting)
