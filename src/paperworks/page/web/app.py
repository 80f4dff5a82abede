"""The application: settings in, FastAPI out."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

from fastapi import Depends, FastAPI
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response

from paperworks import catalog
from paperworks.page.community.accounts import local_user
from paperworks.page.database import Database, open_database
from paperworks.page.database.connection import WEB_BUSY_SECONDS
from paperworks.page.feed import seed_catalogue
from paperworks.page.feed.submissions import import_submissions
from paperworks.page.loops import run_loop
from paperworks.page.mail import Mailer
from paperworks.page.settings import Settings
from paperworks.page.web.assets import Assets
from paperworks.page.web.deps import Page, no_other_site
from paperworks.page.web.errors import add_handlers
from paperworks.page.web.security import Guard
from paperworks.page.web.templating import open_templates
from paperworks.runs.recipe import load_recipe
from paperworks.runs.store import Store
from paperworks.version import __version__

if TYPE_CHECKING:
    from paperworks.page.search import SearchIndex

log = logging.getLogger("paperworks.page.web")
INDEX_SECONDS = 1.0
"""How often a number is read that tells whether the feed changed."""
INDEXED_AT_A_TIME = 256
"""So many entries are encoded before it is read again: what is newest is indexed first."""
SUBMISSION_SECONDS = 10.0

VIEWS = (
    "feed",
    "search",
    "paper",
    "discussion",
    "reactions",
    "collections",
    "tags",
    "results",
    "comparisons",
    "submit",
    "moderation",
    "accounts",
    "about",
    "syndication",
    "hub",
    "jobs",
    "digest",
)
"""Modules of ``views``; each has a ``router``. The order is that in which routes are tried."""

API_TEXT = """\
Papers, in the routes and shapes of the Hugging Face Hub's paper endpoints:
`huggingface_hub.HfApi(endpoint=...)` reads this page with `list_daily_papers`, `list_papers`, `paper_info` and
`read_paper`."""


def create_app(
    settings: Settings,
    *,
    database: Database | None = None,
    store: Store | None = None,
    search: SearchIndex | None = None,
    mailer: Mailer | None = None,
    seed: bool = True,
    index: bool = True,
) -> FastAPI:
    """The page as an ASGI application. What is not given is made from the settings.

    With ``seed`` the catalogue's papers are put into the feed; with ``index`` the search index follows the feed in the
    background, and papers that readers submitted are brought. Of several processes that serve one page, one does so.
    """
    if search is None:
        from paperworks.page.search import open_search
    database = database or open_database(settings.database_url, busy_seconds=WEB_BUSY_SECONDS)
    if seed:
        seed_catalogue(database)
    with database.session() as session:
        user = None if settings.public else local_user(session)
    assets = Assets()
    names = [name for name in VIEWS if importlib.util.find_spec(f"paperworks.page.web.views.{name}")]
    page = Page(
        settings=settings,
        database=database,
        store=store or Store(),
        search=search or open_search(database),
        mailer=mailer or Mailer(settings),
        templates=open_templates(assets),
        assets=assets,
        papers={paper.slug: paper for paper in catalog.papers()},
        local_user=user,
        parts=frozenset(names),
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        threading.Thread(target=_prepare, args=(page,), name="preparations", daemon=True).start()
        stop = threading.Event()
        if index:
            follow_feed(page.database, page.search, settings, stop)
        yield
        stop.set()

    app = FastAPI(
        title="Paperworks",
        version=__version__,
        description=API_TEXT,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        dependencies=[Depends(no_other_site)],
    )
    app.state.page = page
    app.add_middleware(GZipMiddleware, minimum_size=600, compresslevel=3)
    app.add_middleware(Guard, settings=settings)
    add_handlers(app)

    def static(request: Request, name: str) -> Response:
        found = assets.respond(request, name)
        return found if found is not None else Response(status_code=404)

    app.add_api_route("/static/{name}", static, methods=["GET"], include_in_schema=False, response_model=None)
    for name in names:
        app.include_router(importlib.import_module(f"paperworks.page.web.views.{name}").router)
    return app


def follow_feed(database: Database, search: SearchIndex, settings: Settings, stop: threading.Event) -> None:
    """Start the threads that index what is new in the feed, and bring what readers submitted, until ``stop`` is set."""
    loops = (
        ("the search index", partial(search.follow, INDEXED_AT_A_TIME), INDEX_SECONDS),
        ("submissions", lambda: bool(import_submissions(database, settings)), SUBMISSION_SECONDS),
    )
    for what, turn, seconds in loops:
        threading.Thread(target=run_loop, args=(what, turn, stop, seconds), name=what, daemon=True).start()


def _prepare(page: Page) -> None:
    """What the first readers should not wait for: the encoder, and the recipes that the forms are made from."""
    try:
        page.search.search("first", limit=1)
    except Exception:
        log.exception("the search does not answer")
    for paper in page.papers.values():
        if paper.has_recipe:
            with suppress(Exception):  # a paper that another package brings may be broken; its form says so
                load_recipe(paper.slug, f"{paper.module}.recipe")
