"""Moderation in the page: reports by readers, and what moderators do about papers and comments."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from sqlalchemy import select
from sqlalchemy.orm import Session as OrmSession
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from paperworks.errors import InputError
from paperworks.page.community import limits, moderation
from paperworks.page.community.moderation import Moderator
from paperworks.page.database import Comment, Entry, Report, User
from paperworks.page.links import paper_path
from paperworks.page.web.deps import CheckedForm, SignedIn, ThePage, check_rate, redirect, render
from paperworks.page.web.lookup import find_entry

router = APIRouter(include_in_schema=False)
LARGEST_ID = 2**31
SHOWN = 200


def require_moderator(page: ThePage, user: SignedIn) -> User:
    """The user, if they moderate this page; to others its moderation does not exist (404)."""
    if not moderation.is_moderator(page.settings, user):
        raise HTTPException(404)
    return user


AModerator = Annotated[User, Depends(require_moderator)]


@router.get("/papers/{paper_id:paper}/report")
def report_form(request: Request, page: ThePage, user: SignedIn, paper_id: str, comment: str = "") -> Response:
    """The form with which a reader tells the moderators what is wrong."""
    with page.database.reading() as session:
        entry = find_entry(session, paper_id)
    return render(request, "moderation/report.html", entry=entry, comment=_number(comment), reason="", error="")


@router.post("/papers/{paper_id:paper}/report")
def report(request: Request, page: ThePage, form: CheckedForm, user: SignedIn, paper_id: str) -> Response:
    """Tell the moderators of a paper, or of a comment."""
    check_rate(request, limits.REPORTS, str(user.id))
    reason, comment = _text(form, "reason"), _number(_text(form, "comment"))
    with page.database.reading() as session:
        entry = find_entry(session, paper_id)
    try:
        with page.database.session() as session:
            moderation.report(session, user, entry, reason, comment)
    except InputError as error:
        return render(
            request, "moderation/report.html", 422, entry=entry, comment=comment, reason=reason, error=str(error)
        )
    return render(request, "moderation/thanks.html", entry=entry)


@router.get("/moderation")
def overview(request: Request, page: ThePage, user: AModerator) -> Response:
    """Reports that wait, hidden papers, and the audit trail."""
    with page.database.reading() as session:
        hidden = select(Entry).where(Entry.hidden.is_(True)).order_by(Entry.updated.desc()).limit(SHOWN)
        return render(
            request,
            "moderation/overview.html",
            reports=moderation.open_reports(session),
            hidden=list(session.scalars(hidden)),
            actions=moderation.history(session),
        )


@router.get("/moderation/{entry_id:int}")
def edit_form(request: Request, page: ThePage, user: AModerator, entry_id: int) -> Response:
    """The form of one entry, hidden or not."""
    with page.database.reading() as session:
        return _show_edit(request, session, _entry(session, entry_id))


@router.post("/moderation/{entry_id:int}")
def edit(request: Request, page: ThePage, form: CheckedForm, user: AModerator, entry_id: int) -> Response:
    """Change what an entry says."""
    given: dict[str, object] = {name: _text(form, name) for name in (*moderation.TEXTS, *moderation.DAYS)}
    given |= {
        "authors": [line for line in _text(form, "authors").splitlines() if line.strip()],
        "tags": _text(form, "tags").split(","),
    }
    with page.database.reading() as session:
        entry = _entry(session, entry_id)
        try:
            with page.database.session() as writing:
                target = _entry(writing, entry_id)
                moderation.edit_entry(writing, _who(user), target, given, _text(form, "reason"))
        except InputError as error:
            return _show_edit(request, session, entry, error, given)
    page.clear_cache()
    return redirect(paper_path(entry) if not entry.hidden else "/moderation")


@router.post("/moderation/{entry_id:int}/{act}")
def act(request: Request, page: ThePage, form: CheckedForm, user: AModerator, entry_id: int, act: str) -> Response:
    """Hide, unhide or remove an entry."""
    reason = _text(form, "reason")
    with page.database.session() as session:
        entry = _entry(session, entry_id)
        if act in ("hide", "unhide"):
            moderation.set_hidden(session, _who(user), entry, act == "hide", reason)
        elif act == "remove":
            moderation.remove_entry(session, _who(user), entry, reason)
        else:
            raise HTTPException(404)
        place = paper_path(entry) if act == "unhide" else "/moderation"
    page.clear_cache()
    return redirect(place)


@router.post("/comments/{comment_id:int}/remove")
def remove_comment(request: Request, page: ThePage, form: CheckedForm, user: AModerator, comment_id: int) -> Response:
    """Delete a comment of somebody else."""
    with page.database.session() as session:
        comment = session.get(Comment, comment_id) if comment_id < LARGEST_ID else None
        if comment is None or comment.deleted is not None:
            raise HTTPException(404)
        entry = session.get_one(Entry, comment.entry_id)
        moderation.remove_comment(session, _who(user), comment, _text(form, "reason"))
    return redirect(f"{paper_path(entry)}#discussion")


@router.post("/reports/{report_id:int}/close")
def close(request: Request, page: ThePage, form: CheckedForm, user: AModerator, report_id: int) -> Response:
    """Note that a report was dealt with."""
    with page.database.session() as session:
        row = session.get(Report, report_id) if report_id < LARGEST_ID else None
        if row is None:
            raise HTTPException(404)
        moderation.close_report(session, _who(user), row, _text(form, "reason"))
    return redirect("/moderation")


def _show_edit(
    request: Request,
    session: OrmSession,
    entry: Entry,
    error: InputError | None = None,
    given: dict[str, object] | None = None,
) -> Response:
    values = given or {
        **{name: getattr(entry, name) or "" for name in moderation.TEXTS},
        "published": entry.published.isoformat() if entry.published else "",
        "authors": entry.authors,
        "tags": entry.tag_names,
    }
    return render(
        request,
        "moderation/edit.html",
        422 if error else 200,
        entry=entry,
        values=values,
        error=error,
        actions=moderation.history(session, entry.id),
    )


def _entry(session: OrmSession, entry_id: int) -> Entry:
    entry = session.get(Entry, entry_id) if entry_id < LARGEST_ID else None
    if entry is None:
        raise HTTPException(404)
    return entry


def _who(user: User) -> Moderator:
    return Moderator(user.name, user.id)


def _number(text: str) -> int | None:
    return int(text) if text.isdigit() and len(text) < 10 else None


def _text(form: FormData, name: str) -> str:
    value = form.get(name)
    return value.replace("\x00", "") if isinstance(value, str) else ""
