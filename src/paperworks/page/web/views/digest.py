"""Subscribing to mails of papers: asking, confirming from the mailbox, ending with one click."""

from __future__ import annotations

import smtplib
from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from paperworks.errors import InputError
from paperworks.page.community.limits import MAIL_FROM, MAIL_TO
from paperworks.page.database import User
from paperworks.page.digest import confirm as confirm_subscription
from paperworks.page.digest import subscribe as ask_for_consent
from paperworks.page.digest import unsubscribe as end_subscription
from paperworks.page.digest.subscriptions import normal_address
from paperworks.page.feed import tag_counts
from paperworks.page.mail import read_token
from paperworks.page.web.deps import CheckedForm, Page, ThePage, Viewer, check_rate, render

router = APIRouter(include_in_schema=False)


async def _plain_form(request: Request) -> FormData:
    return await request.form(max_fields=10, max_files=0)


PlainForm = Annotated[FormData, Depends(_plain_form)]


@router.get("/digest")
def form(request: Request, page: ThePage, user: Viewer) -> Response:
    """The form that asks for a digest."""
    return _show_form(request, page, user)


@router.post("/digest")
def subscribe(request: Request, page: ThePage, given: CheckedForm, user: Viewer) -> Response:
    """Send the mail that asks for consent. The answer is the same whether the address is known or not."""
    address, frequency = str(given.get("email", "")), str(given.get("frequency", "daily"))
    tags = [str(tag) for tag in given.getlist("tag")]
    try:
        email = normal_address("email", address)
        check_rate(request, MAIL_FROM)
        check_rate(request, MAIL_TO, email)
        ask_for_consent(page.database, page.settings, page.mailer, email, frequency, tags)
    except InputError as error:
        return _show_form(request, page, user, str(error), address, frequency, tags, 422)
    except (smtplib.SMTPException, OSError):
        said = "The mail server did not take the mail. Try again later."
        return _show_form(request, page, user, said, address, frequency, tags, 502)
    return render(request, "digest/asked.html", email=email, frequency=frequency)


@router.get("/digest/confirm/{token}")
def ask_to_confirm(request: Request, page: ThePage, token: str) -> Response:
    """A button, not the deed: mail scanners follow links."""
    asked = read_token(page.settings, "confirm", token)
    return render(request, "digest/confirm.html", token=token, asked=asked)


@router.post("/digest/confirm/{token}")
def confirm(request: Request, page: ThePage, given: CheckedForm, token: str) -> Response:
    """Begin the subscription."""
    row = confirm_subscription(page.database, page.settings, token)
    return render(request, "digest/confirmed.html", subscription=row)


@router.get("/digest/unsubscribe/{token}")
def ask_to_end(request: Request, page: ThePage, token: str) -> Response:
    """A button, not the deed."""
    read_token(page.settings, "unsubscribe", token)
    return render(request, "digest/unsubscribe.html", token=token)


@router.post("/digest/unsubscribe/{token}")
def end(request: Request, page: ThePage, form: PlainForm, token: str) -> Response:
    """End the subscription. The link is the proof: mail programs post to it without a form of ours (RFC 8058)."""
    row = end_subscription(page.database, page.settings, token)
    if form.get("List-Unsubscribe") == "One-Click":
        return PlainTextResponse("Unsubscribed.\n")
    return render(request, "digest/ended.html", subscription=row)


def _show_form(
    request: Request,
    page: Page,
    user: User | None,
    error: str = "",
    email: str = "",
    frequency: str = "daily",
    tags: list[str] | None = None,
    status: int = 200,
) -> Response:
    with page.database.reading() as session:
        known = tag_counts(session)
    return render(
        request,
        "digest/form.html",
        status,
        error=error,
        tags=known,
        configured=page.mailer.configured,
        email=email or (user.email if user is not None and user.email else ""),
        frequency=frequency,
        chosen=tags or [],
    )
