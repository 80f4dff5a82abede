"""One paper: what it says, what was measured here, what is like it, and what readers say."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path
from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session as OrmSession
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response

from paperworks.page.community.collections import own_collections
from paperworks.page.community.comments import discussion
from paperworks.page.database import AMONG_IDS, Entry, Job
from paperworks.page.links import paper_id as name_of
from paperworks.page.links import paper_path
from paperworks.page.web import bibtex, markdown_page
from paperworks.page.web.addresses import PAPER_ID
from paperworks.page.web.assets import FOR_GOOD
from paperworks.page.web.deps import Page, ThePage, Viewer, render
from paperworks.page.web.filters import reactions
from paperworks.page.web.lookup import find_entry

router = APIRouter()

SIMILAR = 6
SHOWN_AUTHORS = 40
RECENT_RUNS = 20
_FINISHED = (
    select(Job)
    .where(Job.entry_id == bindparam("entry"), Job.status == "finished")
    .order_by(Job.finished.desc(), Job.id)
    .limit(RECENT_RUNS)
)
_ENTRY: Any = Entry.__table__.c
_SIMILAR = select(_ENTRY.id, _ENTRY.arxiv, _ENTRY.title, _ENTRY.works).where(
    _ENTRY.id.in_(bindparam("ids", expanding=True)), AMONG_IDS
)


@router.get(
    "/papers/{paper_id:paper}.md",
    response_class=Response,
    responses={
        200: {"content": {"text/markdown": {"schema": {"type": "string"}}}},
        404: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "no such paper"},
        422: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "an id that cannot be one"},
    },
    tags=["papers"],
    summary="One paper as Markdown",
)
def markdown(
    page: ThePage,
    paper_id: Annotated[str, Path(description="arXiv id, slug, or p and a number", pattern=f"^(?:{PAPER_ID})$")],
) -> Response:
    """The paper as Markdown."""
    with page.database.reading() as session:
        entry = find_entry(session, paper_id)
    text = markdown_page.write(entry, page.evidence.get(entry.slug or ""), page.settings.address())
    return Response(text, media_type="text/markdown; charset=utf-8")


@router.get(
    "/papers/{paper_id:paper}.bib",
    response_class=Response,
    responses={
        200: {"content": {"application/x-bibtex": {"schema": {"type": "string"}}}},
        404: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "no such paper"},
        422: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "an id that cannot be one"},
    },
    tags=["papers"],
    summary="One paper as BibTeX",
)
def citation(
    page: ThePage,
    paper_id: Annotated[str, Path(description="arXiv id, slug, or p and a number", pattern=f"^(?:{PAPER_ID})$")],
) -> Response:
    """The paper as an entry of BibTeX."""
    with page.database.reading() as session:
        text = bibtex.write(find_entry(session, paper_id))
    return Response(text, media_type="application/x-bibtex; charset=utf-8")


@router.get("/figures/{name}", include_in_schema=False)
def figure(page: ThePage, name: str) -> Response:
    """The picture of a paper, under a name that changes with it."""
    file = next((file for file, path in page.figures.values() if path == f"/figures/{name}"), None)
    if file is None:
        raise HTTPException(404)
    return FileResponse(file, headers={"Cache-Control": FOR_GOOD})


@router.get("/papers/{paper_id:paper}", include_in_schema=False)
def paper(request: Request, page: ThePage, user: Viewer, paper_id: str) -> Response:
    """A paper's page. Versions and slugs lead to its one address."""
    with page.render_slots, page.database.reading() as session:
        entry = find_entry(session, paper_id)
        if name_of(entry) != paper_id:
            return RedirectResponse(paper_path(entry), status_code=301)
        threads = discussion(session, entry.id)
        run = last_public_run(session, entry.id)
        similar = similar_entries(page, session, entry.id)
        shown = reactions(session, user, [entry])
        own = own_collections(session, user.id, entry.id) if user is not None else []
    return render(
        request,
        "paper/paper.html",
        entry=entry,
        paper=page.papers.get(entry.slug or ""),
        evidence=page.evidence.get(entry.slug or ""),
        threads=threads,
        run=run,
        similar=similar,
        shown_authors=SHOWN_AUTHORS,
        citation=bibtex.write(entry),
        collections=own,
        **shown,
    )


def last_public_run(session: OrmSession, entry_id: int) -> Job | None:
    """The newest finished run on bundled input: what was made from a reader's own file is theirs."""
    found = session.scalars(_FINISHED, {"entry": entry_id})
    return next((job for job in found if not job.uploads), None)


def similar_entries(page: Page, session: OrmSession, entry_id: int) -> list[Any]:
    """Id, arXiv id, title and whether it works here, of the papers nearest in meaning, nearest first."""
    ids = [other for other, _ in page.search.similar(entry_id, limit=SIMILAR)]
    found = {row.id: row for row in session.execute(_SIMILAR, {"ids": ids})}
    return [found[i] for i in ids if i in found]
