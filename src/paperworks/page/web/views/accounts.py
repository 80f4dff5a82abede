"""Accounts: signing up, logging in and out, passwords, one's own settings. Without log-in only the name is chosen."""

from __future__ import annotations

import logging
import secrets
import smtplib
from email.message import EmailMessage
from typing import Any

from fastapi import APIRouter, Depends
from starlette.background import BackgroundTask
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from paperworks.errors import InputError
from paperworks.page.access import access_token, owner_cookie
from paperworks.page.community import accounts, limits
from paperworks.page.database import User
from paperworks.page.digest.subscriptions import normal_address
from paperworks.page.mail import Mailer
from paperworks.page.web.addresses import safe_path
from paperworks.page.web.deps import (
    OWNER_COOKIE,
    SESSION_COOKIE,
    CheckedForm,
    Page,
    SignedIn,
    ThePage,
    Viewer,
    VisitorForm,
    check_rate,
    client_address,
    get_page,
    redirect,
    render,
    set_cookie,
)

log = logging.getLogger("paperworks.page.accounts")
OWNER_DAYS = 365
WRONG = "No account has this address with this password."
NO_MAIL = "This page sends no mail yet: its owner has to name an SMTP server (PAPERWORKS_PAGE_SMTP_URL) first."


def with_accounts(request: Request) -> None:
    """Refuse (404) on a page without log-in."""
    if not get_page(request).settings.public:
        raise HTTPException(404, "This page has no accounts: it is for the one who started it.")


router = APIRouter(include_in_schema=False)
public = APIRouter(include_in_schema=False, dependencies=[Depends(with_accounts)])


@public.get("/sign-up")
def sign_up_form(request: Request, page: ThePage, user: Viewer) -> Response:
    """The form for an address."""
    return redirect("/account") if user is not None else render(request, "accounts/sign_up.html", **_blank(page))


@public.post("/sign-up")
def sign_up(request: Request, page: ThePage, form: CheckedForm) -> Response:
    """Send the mail. The answer is the same whether the address has an account or not."""
    return _mailed(request, page, form, "sign_up", accounts.sign_up_mail)


@public.get("/sign-up/{token}")
def finish_form(request: Request, page: ThePage, token: str) -> Response:
    """The form for a name and a password, behind the mailed link."""
    email = accounts.sign_up_address(page.settings, token)
    return render(request, "accounts/finish.html", email=email, token=token, name="", errors={})


@public.post("/sign-up/{token}")
def finish(request: Request, page: ThePage, form: CheckedForm, token: str) -> Response:
    """Make the account and log in."""
    email = accounts.sign_up_address(page.settings, token)
    check_rate(request, limits.SIGN_UP_FROM)
    name = _text(form, "name")
    try:
        with page.database.session() as session:
            user = accounts.create_user(session, page.settings, token, name, _password(form))
            cookie = accounts.open_session(session, user)
    except InputError as error:
        errors = {error.field: str(error)}
        return render(request, "accounts/finish.html", 422, email=email, token=token, name=name, errors=errors)
    return _logged_in(page, cookie, "/")


@router.get("/log-in")
def log_in_form(request: Request, page: ThePage, user: Viewer, next: str = "/", token: str = "") -> Response:
    """The form; on a page without accounts also the link that the server printed, with its token."""
    if user is not None:
        return redirect(next)
    if not page.settings.public:
        return _enter(request, page, token, next) if token else _token_form(request, next)
    return render(request, "accounts/log_in.html", email="", next=safe_path(next), error="")


@router.post("/log-in")
def log_in(request: Request, page: ThePage, form: VisitorForm) -> Response:
    """Log in, to a new session; the one before ends."""
    if not page.settings.public:
        return _enter(request, page, _text(form, "token").strip(), _text(form, "next"))
    address, password, place = _text(form, "email"), _text(form, "password"), safe_path(_text(form, "next"))
    check_rate(request, limits.LOG_IN_FROM)
    # By address and account together: who guesses at an account locks out himself, and not its owner.
    check_rate(request, limits.LOG_IN_TO, f"{client_address(request)}\0{address.strip().lower()}")
    with page.database.session() as session:
        user = accounts.check_log_in(session, address, password)
        if user is not None:
            accounts.close_session(session, request.cookies.get(page.cookie(SESSION_COOKIE), ""))
            cookie = accounts.open_session(session, user)
    if user is None:
        return render(request, "accounts/log_in.html", 422, email=address, next=place, error=WRONG)
    return _logged_in(page, cookie, place)


def _token_form(request: Request, next: str, error: str = "", status: int = 200) -> Response:
    return render(request, "accounts/token.html", status, next=safe_path(next), error=error)


def _enter(request: Request, page: Page, token: str, next: str) -> Response:
    """Keep in this browser that it is the owner's.

    Tries are not counted: the token cannot be guessed, and all users of a machine have one address, so that each
    of them could lock the owner out.
    """
    if not secrets.compare_digest(token.encode(), access_token(page.key).encode()):
        return _token_form(request, next, "That is not the token of this page.", 422)
    answer = redirect(next)
    set_cookie(page, answer, OWNER_COOKIE, owner_cookie(page.key), OWNER_DAYS * 86400)
    return answer


@public.post("/log-out")
def log_out(request: Request, page: ThePage, form: CheckedForm) -> Response:
    """End this session."""
    with page.database.session() as session:
        accounts.close_session(session, request.cookies.get(page.cookie(SESSION_COOKIE), ""))
    return _logged_out(page, "/")


@public.get("/forgotten")
def forgotten_form(request: Request, page: ThePage) -> Response:
    """The form for the address of an account whose password is forgotten."""
    return render(request, "accounts/forgotten.html", **_blank(page))


@public.post("/forgotten")
def forgotten(request: Request, page: ThePage, form: CheckedForm) -> Response:
    """Send the mail, if there is such an account. The answer is the same either way."""
    return _mailed(request, page, form, "forgotten", accounts.reset_mail)


@public.get("/forgotten/{token}")
def reset_form(request: Request, page: ThePage, token: str) -> Response:
    """The form for a new password, behind the mailed link."""
    with page.database.reading() as session:
        accounts.user_of_reset(session, page.settings, token)
    return render(request, "accounts/reset.html", token=token, error="")


@public.post("/forgotten/{token}")
def reset(request: Request, page: ThePage, form: CheckedForm, token: str) -> Response:
    """Take the new password and end all sessions of the account."""
    check_rate(request, limits.PASSWORDS)
    try:
        with page.database.session() as session:
            user = accounts.user_of_reset(session, page.settings, token)
            accounts.set_password(session, user, _password(form))
            cookie = accounts.open_session(session, user)
    except InputError as error:
        if error.field == "link":
            raise
        return render(request, "accounts/reset.html", 422, token=token, error=str(error))
    return _logged_in(page, cookie, "/")


@router.get("/account")
def account(request: Request, page: ThePage, user: SignedIn, done: str = "") -> Response:
    """One's own settings."""
    return _account(request, user, done=done if done in ("name", "password") else "")


@router.post("/account/name")
def change_name(request: Request, page: ThePage, form: CheckedForm, user: SignedIn) -> Response:
    """Choose another name."""
    try:
        with page.database.session() as session:
            accounts.set_name(session, user, _text(form, "name"))
            if page.local_user is not None:
                page.local_user = accounts.local_user(session)
                page.clear_cache()
    except InputError as error:
        return _account(request, user, 422, {"name": str(error)}, name=_text(form, "name"))
    return redirect("/account?done=name")


@public.post("/account/password")
def change_password(request: Request, page: ThePage, form: CheckedForm, user: SignedIn) -> Response:
    """Choose another password; all other sessions end."""
    check_rate(request, limits.PASSWORDS, str(user.id))
    if not accounts.has_password(user, _text(form, "current")):
        return _account(request, user, 422, {"current": "That is not your password."})
    try:
        with page.database.session() as session:
            token = request.cookies.get(page.cookie(SESSION_COOKIE), "")
            accounts.set_password(session, user, _password(form), but=token)
    except InputError as error:
        return _account(request, user, 422, {error.field: str(error)})
    return redirect("/account?done=password")


@public.post("/account/delete")
def delete(request: Request, page: ThePage, form: CheckedForm, user: SignedIn) -> Response:
    """End the account."""
    from paperworks.page.jobs import remove_account_files

    check_rate(request, limits.PASSWORDS, str(user.id))
    if not accounts.has_password(user, _text(form, "delete-password")):
        return _account(request, user, 422, {"delete-password": "That is not your password."})
    remove_account_files(page.database, page.store, page.settings, user.id)
    with page.database.session() as session:
        accounts.delete_account(session, user)
    return _logged_out(page, "/")


router.include_router(public)


def _mailed(request: Request, page: Page, form: FormData, name: str, compose: Any) -> Response:
    """Check an address and send it a mail after the answer has gone: its time tells nothing."""
    address = _text(form, "email")
    if not page.mailer.configured:
        return render(request, f"accounts/{name}.html", 503, **_blank(page, address))
    try:
        email = normal_address("email", address)
    except InputError as error:
        return render(request, f"accounts/{name}.html", 422, **_blank(page, address, str(error)))
    check_rate(request, limits.MAIL_FROM)
    check_rate(request, limits.MAIL_TO, email.lower())
    with page.database.reading() as session:
        message = compose(session, page.settings, email)
    answer = render(request, "accounts/sent.html", email=email, purpose=name)
    if message is not None:
        answer.background = BackgroundTask(_send, page.mailer, message)
    return answer


def _send(mailer: Mailer, message: EmailMessage) -> None:
    try:
        mailer.send(message)
    except (smtplib.SMTPException, OSError) as error:  # never the message: its link is a secret
        log.error("a mail could not be sent: %s", type(error).__name__)


def _logged_in(page: Page, cookie: str, place: str) -> Response:
    answer = redirect(place)
    set_cookie(page, answer, SESSION_COOKIE, cookie, max_age=accounts.SESSION_DAYS * 86400)
    return answer


def _logged_out(page: Page, place: str) -> Response:
    answer = redirect(place)
    answer.delete_cookie(page.cookie(SESSION_COOKIE), path="/", secure=page.settings.public, httponly=True)
    answer.headers["Clear-Site-Data"] = '"cache"'
    return answer


def _account(
    request: Request,
    user: User,
    status: int = 200,
    errors: dict[str, str] | None = None,
    name: str = "",
    done: str = "",
) -> Response:
    return render(request, "accounts/account.html", status, errors=errors or {}, name=name or user.name, done=done)


def _blank(page: Page, email: str = "", error: str = "") -> dict[str, Any]:
    return {"email": email, "error": error, "missing": "" if page.mailer.configured else NO_MAIL}


def _password(form: FormData) -> str:
    """The new password of a form that asks for it twice."""
    password = _text(form, "password")
    if password != _text(form, "again"):
        raise InputError("again", "another password", "the same password twice")
    return password


def _text(form: FormData, name: str) -> str:
    value = form.get(name)
    return value.replace("\x00", "") if isinstance(value, str) else ""
