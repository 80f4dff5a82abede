"""Collections that readers make and share."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from sqlalchemy.orm import Session as OrmSession
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from paperworks.errors import InputError
from paperworks.page.community import collections, limits
from paperworks.page.community.moderation import is_moderator
from paperworks.page.database import Collection, User
from paperworks.page.links import paper_path
from paperworks.page.web.cards import cards_of, rows_of
from paperworks.page.web.deps import CheckedForm, Page, SignedIn, ThePage, Viewer, check_rate, redirect, render
from paperworks.page.web.lookup import find_entry
from paperworks.page.web.views.reactions import wanted

router = APIRouter(include_in_schema=False)


@router.get("/collections")
def overview(request: Request, page: ThePage, user: Viewer) -> Response:
    """The user's own collections, and what others share."""
    return _overview(request, page, user)


@router.post("/collections")
def create(request: Request, page: ThePage, form: CheckedForm, user: SignedIn) -> Response:
    """Make a collection, with a paper in it if the form names one."""
    check_rate(request, limits.REACTIONS, str(user.id))
    paper = _text(form, "paper")
    try:
        with page.database.session() as session:
            entry = find_entry(session, paper) if paper else None
            made = collections.create_collection(
                session, user, _text(form, "title"), _text(form, "text"), _shared(form)
            )
            if entry is not None:
                collections.set_collected(session, made, entry.id, True)
            place = collection_path(made) if entry is None else f"{paper_path(entry)}#collections"
    except InputError as error:
        return _overview(request, page, user, error, form)
    return redirect(place)


@router.get("/collections/{name}")
def collection(request: Request, page: ThePage, user: Viewer, name: str) -> Response:
    """One collection, for its maker, and for others if it is shared."""
    return _one(request, page, user, name)


@router.post("/collections/{name}/edit")
def edit(request: Request, page: ThePage, form: CheckedForm, user: SignedIn, name: str) -> Response:
    """Change its title and text, and whether it is shared."""
    check_rate(request, limits.REACTIONS, str(user.id))
    try:
        with page.database.session() as session:
            found = _own(session, name, user)
            collections.edit_collection(session, found, _text(form, "title"), _text(form, "text"), _shared(form))
    except InputError as error:
        return _one(request, page, user, name, error, form)
    return redirect(f"/collections/{name}")


@router.post("/collections/{name}/remove")
def remove(request: Request, page: ThePage, form: CheckedForm, user: SignedIn, name: str) -> Response:
    """Remove it: its maker, or a moderator if it is shared."""
    with page.database.session() as session:
        found = collections.find_collection(session, name, user)
        if found is None or not (found.user_id == user.id or is_moderator(page.settings, user)):
            raise HTTPException(404)
        collections.remove_collection(session, found)
    return redirect("/collections")


@router.post("/collections/{name}/papers/{paper_id:paper}")
def collect(request: Request, page: ThePage, form: CheckedForm, user: SignedIn, name: str, paper_id: str) -> Response:
    """Put a paper into a collection, or take it out."""
    check_rate(request, limits.REACTIONS, str(user.id))
    on = wanted(form)
    with page.database.session() as session:
        found = _own(session, name, user)
        entry = find_entry(session, paper_id)
        collections.set_collected(session, found, entry.id, on)
        place = f"{paper_path(entry)}#collections" if _text(form, "from") == "paper" else collection_path(found)
    return redirect(place)


def collection_path(found: Collection) -> str:
    """The path of a collection."""
    return f"/collections/{found.id}"


def _own(session: OrmSession, name: str, user: User) -> Collection:
    found = session.get(Collection, name)
    if found is None or found.user_id != user.id:
        raise HTTPException(404)
    return found


def _overview(
    request: Request, page: Page, user: User | None, error: InputError | None = None, form: FormData | None = None
) -> Response:
    with page.database.reading() as session:
        own = collections.own_collections(session, user.id) if user is not None else []
        shared = collections.shared_collections(session) if page.settings.public else []
    others = [row for row in shared if user is None or row.collection.user_id != user.id]
    context: dict[str, Any] = {"own": own, "shared": others, **_kept(error, form)}
    return render(request, "collections/overview.html", 422 if error else 200, **context)


def _one(
    request: Request,
    page: Page,
    user: User | None,
    name: str,
    error: InputError | None = None,
    form: FormData | None = None,
) -> Response:
    with page.render_slots, page.database.reading() as session:
        found = collections.find_collection(session, name, user)
        if found is None:
            raise HTTPException(404)
        ids = collections.entries_of(session, found)
        rows = rows_of(session, ids)
        entries = [rows[i] for i in ids if i in rows]
        cards = cards_of(page, session, entries, user)
    mine = user is not None and found.user_id == user.id
    working = sum(bool(entry.works) for entry in entries)
    context: dict[str, Any] = {"collection": found, "cards": list(zip(entries, cards, strict=True)), "mine": mine}
    context |= {"working": working, "address": page.settings.address() + collection_path(found)}
    return render(request, "collections/collection.html", 422 if error else 200, **context, **_kept(error, form))


def _kept(error: InputError | None, form: FormData | None) -> dict[str, Any]:
    """What a form that was refused is shown again with."""
    errors = {error.field: f"found {error.found}; expected {error.expected}"} if error else {}
    given = {name: _text(form, name) for name in ("title", "text", "shared")} if form is not None else {}
    return {"errors": errors, "given": given}


def _shared(form: FormData) -> bool:
    return _text(form, "shared") == "1"


def _text(form: FormData, name: str) -> str:
    value = form.get(name)
    return value if isinstance(value, str) else ""
