"""Errors as pages that look like the page, and as JSON for the API."""

from __future__ import annotations

import logging

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from paperworks.errors import InputError, PaperworksError
from paperworks.page.community.limits import LimitReached
from paperworks.page.database import is_unavailable
from paperworks.page.database.connection import RETRY_SECONDS
from paperworks.page.jobs.workplace import PathHider
from paperworks.page.web.deps import get_page, render
from paperworks.page.web.security import security_headers

log = logging.getLogger("paperworks.page.web")

TITLES = {
    400: "That cannot be read",
    401: "Log in first",
    403: "That is not allowed",
    404: "Nothing is here",
    405: "That is not how this works",
    413: "That is too large",
    415: "That is not a form",
    422: "That does not fit",
    429: "Too often",
    500: "Something broke",
    502: "Another server did not answer",
    503: "Not available",
}
SAID = {
    404: "No paper and no page has this address. It may have been hidden, or the address may have a slip in it.",
    503: "The database is locked, full or away. Nothing was changed; try again in a few seconds.",
    405: "This address takes another kind of request.",
    500: "It is our fault, and it was written down. Try again; if it happens again, tell the owner of this page.",
}


def add_handlers(app: FastAPI) -> None:
    """Answer every error with a page, or with JSON below ``/api/``."""
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(LimitReached, _limit)
    app.add_exception_handler(PaperworksError, _paperworks)
    app.add_exception_handler(SQLAlchemyError, _database)
    app.add_exception_handler(Exception, _broken)


def error_page(request: Request, status: int, said: str = "", headers: dict[str, str] | None = None) -> Response:
    """The page of an error; JSON for the API, a line for parts of pages and for what is no page."""
    said = said or SAID.get(status, "")
    if request.url.path.startswith("/api/") or request.url.path == "/openapi.json":
        return JSONResponse({"error": said or TITLES.get(status, "error")}, status, headers)
    if "hx-request" in request.headers or request.url.path.endswith((".md", ".bib", ".atom", ".xml", ".txt")):
        return PlainTextResponse(said or TITLES.get(status, "error"), status, headers)
    title = TITLES.get(status, f"Error {status}")
    return render(request, "error.html", status, headers, status=status, title=title, said=said)


def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    if error.status_code < 400:
        return Response(status_code=error.status_code, headers=headers)
    detail = error.detail if isinstance(error.detail, str) else ""
    plain = detail in ("Not Found", "Method Not Allowed", "Unauthorized", "Forbidden")
    return error_page(request, error.status_code, "" if plain else detail, headers)


def _validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    name = str(first["loc"][1]) if len(first["loc"]) > 1 else "request"
    wanted = first["msg"].removeprefix("Input should be ")
    return error_page(request, 422, str(InputError(name, repr(first.get("input"))[:60], wanted)))


def _limit(request: Request, error: Exception) -> Response:
    assert isinstance(error, LimitReached)
    said = str(error)
    return error_page(request, 429, said[0].upper() + said[1:] + ".", {"Retry-After": str(error.wait)})


def _paperworks(request: Request, error: Exception) -> Response:
    """Bad input names the field; anything else that a user can act on says what it is."""
    page = get_page(request)
    said = PathHider(page.settings, page.store)(str(error))
    return error_page(request, 422 if isinstance(error, InputError) else 409, said)


def _database(request: Request, error: Exception) -> Response:
    """503 while the database cannot be used; other errors of the database are faults of the page."""
    if not is_unavailable(error):
        raise error
    request.state.user = None  # who asks stands in the database
    log.warning("a request found no database: %s", str(error).partition("\n")[0])
    return error_page(request, 503, headers={"Retry-After": str(RETRY_SECONDS)})


def _broken(request: Request, error: Exception) -> Response:
    # Outside all middleware: the headers that every answer has are added here.
    headers = security_headers(get_page(request).settings)
    try:
        return error_page(request, 500, headers=headers)
    except Exception:  # the database itself may be what broke
        return PlainTextResponse(f"{TITLES[500]}. {SAID[500]}\n", 500, headers)
