"""Submitting a paper by its arXiv id."""

from __future__ import annotations

import httpx
from fastapi import APIRouter
from sqlalchemy import select, update
from starlette.requests import Request
from starlette.responses import Response

from paperworks.errors import InputError, PaperworksError
from paperworks.page.community import limits
from paperworks.page.database import Entry
from paperworks.page.feed.importers import import_source
from paperworks.page.feed.keys import arxiv_id
from paperworks.page.links import paper_path
from paperworks.page.web.deps import CheckedForm, SignedIn, ThePage, check_rate, redirect, render

router = APIRouter(include_in_schema=False)


@router.get("/submit")
def form(request: Request, user: SignedIn) -> Response:
    """The form for an arXiv id or address."""
    return render(request, "submit/submit.html", paper="", error="")


@router.post("/submit")
def submit(request: Request, page: ThePage, given: CheckedForm, user: SignedIn) -> Response:
    """Bring the paper from arXiv; one that is here already is shown."""
    text = str(given.get("paper") or "").strip()
    name = arxiv_id(text[:200])
    if name is None:
        error = str(InputError("paper", repr(text[:60]), "an arXiv id or address, as in 2401.15024"))
        return render(request, "submit/submit.html", 422, paper=text[:200], error=error)
    known = select(Entry).where(Entry.arxiv == name, Entry.hidden.is_(False))
    with page.database.reading() as session:
        entry = session.scalar(known)
    if entry is None:
        check_rate(request, limits.SUBMISSIONS, str(user.id))
        error, status = "", 422
        try:
            outcome = import_source(page.database, name, page.settings)
            if outcome.skipped:
                error = outcome.skipped[0][1]
        except (httpx.HTTPError, OSError):
            error, status = "arXiv did not answer. Try again later.", 502
        except PaperworksError as problem:
            error, status = str(problem), 502
        with page.database.session() as session:
            entry = session.scalar(known)
            if entry is not None and entry.submitted_by is None:
                session.execute(update(Entry).where(Entry.id == entry.id).values(submitted_by=user.id))
        if entry is None:
            said = error or "arXiv knows no paper with this id."
            return render(request, "submit/submit.html", status, paper=text, error=said)
        page.clear_cache()
        page.search.refresh()
    return redirect(paper_path(entry))
