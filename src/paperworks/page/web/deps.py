"""What every view uses.

    router = APIRouter()

    @router.get("/things", include_in_schema=False)
    def things(request: Request, page: Annotated[Page, Depends(get_page)]) -> Response:
        with page.database.reading() as session:
            ...
        return render(request, "things/list.html", things=found)

    @router.post("/things", include_in_schema=False)
    def add(request: Request, form: CheckedForm, user: SignedIn) -> Response:
        ...

``CheckedForm`` reads a form and refuses one without this page's token; ``SignedIn`` is the user, sent to the log-in if
there is none; ``Viewer`` is the user or None. Templates get ``user``, ``page``, ``csrf`` (``{{ csrf.field }}`` in every
form), ``is_htmx`` and the functions of ``addresses``.
"""

from __future__ import annotations

import hashlib
import ipaddress
import secrets
import threading
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from fastapi import Depends
from jinja2 import Environment
from markupsafe import Markup
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from paperworks.catalog import Paper
from paperworks.page.access import owner_cookie
from paperworks.page.cache import LRUCache
from paperworks.page.community.accounts import local_user, user_of_token
from paperworks.page.community.limits import Limit, LimitReached, hit
from paperworks.page.community.moderation import is_moderator
from paperworks.page.database import Database, User
from paperworks.page.mail import Mailer
from paperworks.page.settings import Settings
from paperworks.page.web.addresses import path_of_referer, safe_path, with_query
from paperworks.page.web.assets import Assets
from paperworks.page.web.evidence import Evidence
from paperworks.page.web.security import form_token, refuse, token_is_valid
from paperworks.runs.store import Store

if TYPE_CHECKING:
    from paperworks.page.search import SearchIndex

T = TypeVar("T")
SESSION_COOKIE = "paperworks-session"
OWNER_COOKIE = "paperworks-owner"
VISITOR_COOKIE = "paperworks-visitor"
TOKEN_FIELD = "csrf"
TOKEN_HEADER = "x-csrf-token"
MOST_FIELDS = 200
LOCAL_SECONDS = 2.0
AT_ONCE = 2
"""One interpreter renders one page at a time; with many at once each of them would wait for all the others."""
MOST_FRAGMENTS = 500
MOST_CARDS = 10_000


@dataclass
class Page:
    """What the server holds while it runs; ``request.app.state.page``."""

    settings: Settings
    database: Database
    store: Store
    search: SearchIndex
    mailer: Mailer
    templates: Environment
    assets: Assets
    papers: Mapping[str, Paper]
    """The catalogue, by slug."""
    local_user: User | None
    """The one user of a page without log-in; None when public."""
    parts: frozenset[str] = frozenset()
    """Names of the views that are there."""
    _cached: dict[str, tuple[float, Any]] = field(default_factory=dict)
    _fragments: LRUCache[Markup] = field(default_factory=lambda: LRUCache(MOST_FRAGMENTS))
    render_slots: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(AT_ONCE))
    """Taken while a list or a paper is read and rendered: readers who come at once are served in turn."""
    cards: LRUCache[tuple[Markup, Markup]] = field(default_factory=lambda: LRUCache(MOST_CARDS))
    """Papers of lists as HTML: see ``web.cards``."""

    @cached_property
    def key(self) -> bytes:
        """The key of signatures."""
        return self.settings.signing_key()

    @cached_property
    def evidence(self) -> dict[str, Evidence]:
        """What was measured of each paper of the catalogue, by slug."""
        return {slug: Evidence(paper) for slug, paper in self.papers.items()}

    def cached_value(self, name: str) -> Any:
        """The value that ``cached`` computed, or None if there is none or it has expired."""
        found = self._cached.get(name)
        return None if found is None or found[0] < time.monotonic() else found[1]

    def cached(self, name: str, seconds: float, compute: Callable[[], T]) -> T:
        """A value that many readers share, computed again when it is older than ``seconds``."""
        found = self._cached.get(name)
        if found is None or found[0] < time.monotonic():
            found = (time.monotonic() + seconds, compute())
            if len(self._cached) >= MOST_FRAGMENTS:
                self._cached.clear()
            self._cached[name] = found
        return found[1]

    @cached_property
    def figures(self) -> dict[str, tuple[Path, str]]:
        """The pictures of papers that ship one, by slug: the file, and its address, which changes with its content."""
        found = {}
        for slug, paper in self.papers.items():
            if (file := paper.figure) is not None:
                digest = hashlib.sha256(file.read_bytes()).hexdigest()[:12]
                found[slug] = file, f"/figures/{slug}.{digest}{file.suffix}"
        return found

    def figure_path(self, slug: str | None) -> str:
        """The address of a paper's picture; empty for a paper without one."""
        found = self.figures.get(slug or "")
        return found[1] if found else ""

    def fragment(self, template: str, **context: Hashable) -> Markup:
        """A part of a page that depends on nothing but ``context``: rendered once, and kept."""
        return self._fragments.get_or_compute(
            (template, *context.values()), lambda: Markup(self.templates.get_template(template).render(context))
        )

    def clear_cache(self) -> None:
        """Compute cached values again at their next use, after entries were added."""
        self._cached.clear()

    @property
    def owner_cookie_name(self) -> str:
        """The cookie of the owner of a page without accounts. Browsers send cookies to every port of a host."""
        return f"{OWNER_COOKIE}-{self.settings.port}"

    def cookie(self, name: str) -> str:
        """The full name of a cookie: ``__Host-`` ties it to one host and to https."""
        return f"__Host-{name}" if self.settings.public else name


def get_page(request: Request) -> Page:
    """The page's state."""
    return request.app.state.page


def current_user(request: Request) -> User | None:
    """Who asks, or None: the user of the session cookie, or the owner of a page without accounts. Read once."""
    page = get_page(request)
    if not hasattr(request.state, "user"):
        request.state.user = _read_user(page, request)
    return request.state.user


def _read_user(page: Page, request: Request) -> User | None:
    if page.settings.public:
        token = request.cookies.get(page.cookie(SESSION_COOKIE), "")
        if not token:
            return None
        with page.database.reading() as session:
            return user_of_token(session, token)
    if page.settings.asks_token and not secrets.compare_digest(
        request.cookies.get(page.owner_cookie_name, "").encode(), owner_cookie(page.key).encode()
    ):
        return None
    if page.settings.web_processes == 1:
        return page.local_user
    return page.cached("local user", LOCAL_SECONDS, lambda: _read_local(page))


def _read_local(page: Page) -> User:
    """Another process may have changed the name."""
    with page.database.reading() as session:
        return local_user(session)


def require_user(request: Request) -> User:
    """Who asks; without a log-in the reader is sent there, and back afterwards."""
    user = current_user(request)
    if user is None:
        page_to_come_back_to = request.url.path if request.method == "GET" else _where_from(request)
        place = with_query("/log-in", next=page_to_come_back_to)
        if is_htmx(request):
            raise HTTPException(401, headers={"HX-Redirect": place})
        raise HTTPException(303, headers={"Location": place})
    return user


async def no_other_site(request: Request) -> None:
    """Refuse what the guard refused; every route of the page depends on this."""
    refuse(request.scope)


async def checked_form(request: Request) -> FormData:
    """The form that was sent, on a page without accounts by its owner only; others are sent to the log-in.

    Refused (403) without a token that this page gave this visitor.
    """
    if not get_page(request).settings.public:
        require_user(request)
    return await checked_visitor_form(request)


async def checked_visitor_form(request: Request) -> FormData:
    """``checked_form`` of anybody: for the log-in itself."""
    form = await request.form(max_files=20, max_fields=MOST_FIELDS)
    token = request.headers.get(TOKEN_HEADER) or form.get(TOKEN_FIELD) or ""
    page = get_page(request)
    visitor = request.cookies.get(page.cookie(VISITOR_COOKIE), "")
    bound = _bound_to(request, visitor)
    if not visitor or not isinstance(token, str) or not token_is_valid(page.key, bound, token):
        raise HTTPException(403, "This form is out of date. Go back, reload the page and send it again.")
    return form


async def _the_page(request: Request) -> Page:
    return get_page(request)


async def _viewer(request: Request) -> User | None:
    page = get_page(request)
    if page.settings.public and request.cookies.get(page.cookie(SESSION_COOKIE)):
        return await run_in_threadpool(current_user, request)
    return current_user(request)


# Dependencies that wait for nothing are coroutines: a plain function would be sent to another thread and back.
Viewer = Annotated[User | None, Depends(_viewer)]
SignedIn = Annotated[User, Depends(require_user)]
VisitorForm = Annotated[FormData, Depends(checked_visitor_form)]
CheckedForm = Annotated[FormData, Depends(checked_form)]
ThePage = Annotated[Page, Depends(_the_page)]


class FormToken:
    """The token of this visitor's forms, made when a template asks for it."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self.new_visitor: str | None = None

    @cached_property
    def token(self) -> str:
        """The token."""
        page = get_page(self._request)
        visitor = self._request.cookies.get(page.cookie(VISITOR_COOKIE), "")
        if not visitor:
            visitor = self.new_visitor = secrets.token_urlsafe(24)
        return form_token(page.key, _bound_to(self._request, visitor))

    @property
    def field(self) -> Markup:
        """The token as a hidden field of a form."""
        return Markup('<input type="hidden" name="{}" value="{}">').format(TOKEN_FIELD, self.token)


def render(
    request: Request, template: str, status_code: int = 200, headers: Mapping[str, str] | None = None, **context: Any
) -> HTMLResponse:
    """A page from a template. HTML is never kept by shared caches: it may show who is logged in."""
    page = get_page(request)
    csrf = FormToken(request)
    user = current_user(request)
    own = {
        "request": request,
        "page": page,
        "user": user,
        "moderates": is_moderator(page.settings, user),
        "csrf": csrf,
        "is_htmx": is_htmx(request),
    }
    text = page.templates.get_template(template).render(context | own)
    answer = HTMLResponse(text, status_code=status_code, headers=dict(headers or {}))
    answer.headers.setdefault("Cache-Control", "private, no-cache")
    answer.headers.setdefault("Vary", "Cookie, HX-Request")
    if csrf.new_visitor:
        set_cookie(page, answer, VISITOR_COOKIE, csrf.new_visitor)
    return answer


def set_cookie(page: Page, answer: Response, name: str, value: str, max_age: int | None = None) -> None:
    """Set a cookie that scripts cannot read, that other sites' forms do not send, and that needs https when public."""
    full = page.owner_cookie_name if name == OWNER_COOKIE else page.cookie(name)
    answer.set_cookie(
        full, value, max_age=max_age, path="/", httponly=True, samesite="lax", secure=page.settings.public
    )


def is_htmx(request: Request) -> bool:
    """Whether htmx asks, and for a part of a page rather than for a page out of the browser's history."""
    return "hx-request" in request.headers and "hx-history-restore-request" not in request.headers


def redirect(path: str) -> RedirectResponse:
    """Go to a path of this page after a change."""
    return RedirectResponse(safe_path(path), status_code=303)


def back(request: Request) -> RedirectResponse:
    """Go back to the page on which the form was sent."""
    return redirect(_where_from(request))


def client_address(request: Request) -> str:
    """Whose address limits are counted for. Of an IPv6 address the network: one line has 2^64 addresses."""
    host = request.client.host if request.client else ""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, 64), strict=False))


def check_rate(request: Request, limit: Limit, who: str | None = None) -> None:
    """Count one use of a limit for ``who`` (``client_address`` if not given); raises LimitReached (429)."""
    page = get_page(request)
    if who is None:
        who = client_address(request)
    with page.database.session() as session:
        wait = hit(session, page.key, limit, who)
    if wait is not None:  # raised outside the transaction, which an exception would undo
        raise LimitReached(limit, wait)


def _bound_to(request: Request, visitor: str) -> tuple[str, str]:
    return visitor, request.cookies.get(get_page(request).cookie(SESSION_COOKIE), "")


def _where_from(request: Request) -> str:
    return path_of_referer(request.headers.get("referer"), request.headers.get("host", ""))
