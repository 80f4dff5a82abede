"""The discussion below a paper: comments, answers, changes by their author."""

from __future__ import annotations

from fastapi import APIRouter
from sqlalchemy.orm import Session as OrmSession
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from paperworks.errors import InputError
from paperworks.page.community import comments, limits
from paperworks.page.database import Comment, Entry, User
from paperworks.page.links import paper_path
from paperworks.page.web.deps import CheckedForm, Page, SignedIn, ThePage, check_rate, is_htmx, redirect, render
from paperworks.page.web.lookup import find_entry

router = APIRouter(include_in_schema=False)


@router.post("/papers/{paper_id:paper}/comments")
def comment(request: Request, page: ThePage, form: CheckedForm, user: SignedIn, paper_id: str) -> Response:
    """Write a comment or an answer."""
    check_rate(request, limits.COMMENTS, str(user.id))
    parent = str(form.get("parent") or "")
    if parent and not (parent.isdigit() and len(parent) < 10):
        raise InputError("parent", repr(parent[:20]), "the number of a comment")
    with page.database.session() as session:
        entry = find_entry(session, paper_id)
        answered = int(parent) if parent else None
        added = comments.add_comment(session, entry.id, user.id, _text(form.get("text")), answered)
    return _answer(request, page, entry.id, f"comment-{added.id}")


@router.post("/comments/{comment_id:int}")
def edit(request: Request, page: ThePage, form: CheckedForm, user: SignedIn, comment_id: int) -> Response:
    """Change the text of a comment of one's own."""
    check_rate(request, limits.COMMENTS, str(user.id))
    with page.database.session() as session:
        own = _own(session, comment_id, user)
        comments.edit_comment(session, own, _text(form.get("text")))
    return _answer(request, page, own.entry_id, f"comment-{own.id}")


@router.post("/comments/{comment_id:int}/delete")
def delete(request: Request, page: ThePage, form: CheckedForm, user: SignedIn, comment_id: int) -> Response:
    """Delete a comment of one's own."""
    with page.database.session() as session:
        own = _own(session, comment_id, user)
        comments.delete_comment(session, own)
    return _answer(request, page, own.entry_id, "discussion")


def _own(session: OrmSession, comment_id: int, user: User) -> Comment:
    own = comments.own_comment(session, comment_id, user.id) if comment_id < 2**31 else None
    if own is None:  # the same answer for another's comment as for none: ids tell nothing
        raise HTTPException(404, "There is no such comment of yours.")
    return own


def _answer(request: Request, page: Page, entry_id: int, anchor: str) -> Response:
    """The discussion as it is now; without scripts, the paper's page at the comment."""
    with page.database.reading() as session:
        entry = session.get_one(Entry, entry_id)
        threads = comments.discussion(session, entry_id)
    if is_htmx(request):
        return render(request, "discussion/discussion.html", entry=entry, threads=threads)
    return redirect(f"{paper_path(entry)}#{anchor}")


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
