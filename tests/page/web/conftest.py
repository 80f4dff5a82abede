"""Two pages for the whole session, one local and one public, each with its database; and servers of them."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from functools import partial
from pathlib import Path

import pytest
import uvicorn
from argon2 import PasswordHasher
from fastapi import FastAPI
from jinja2 import Environment
from web_helpers import LOCAL, PASSWORD, PUBLIC, Browser, CompiledTemplates, Mailbox, WordEncoder, become_member

from paperworks.embedding.text import PACKAGE
from paperworks.page.access import access_link
from paperworks.page.community import accounts
from paperworks.page.database import Database, Entry, EntryTag, now, open_database
from paperworks.page.feed import refresh_trends
from paperworks.page.search import open_search
from paperworks.page.settings import Settings, load_settings
from paperworks.page.web import templating
from paperworks.page.web.app import create_app
from paperworks.runs import Store

DAY = date(2026, 11, 20)
EXTRA = 45


def add_papers(database: Database) -> None:
    """Papers beside the catalogue's: some without an arXiv id, one hidden, one whose texts try to be markup."""
    with database.session() as session:
        for n in range(EXTRA):
            session.add(
                Entry(
                    key=f"test:{n}",
                    arxiv=f"2611.{n:05d}" if n % 3 else None,
                    title=f"Imported paper number {n} of interest",
                    abstract=f"What paper {n} says about gardens. " * 12,
                    authors=[f"Author {n}", "Ada Lovelace"],
                    author_count=2,
                    organisation="Garden Institute" if n % 2 else None,
                    published=DAY - timedelta(days=n),
                    listed=DAY - timedelta(days=n // 3),
                    upvotes_elsewhere=n,
                    tags=[EntryTag(tag="garden"), EntryTag(tag=f"bed-{n % 5}")],
                )
            )
        session.add(Entry(key="test:hidden", arxiv="2611.99999", title="A hidden paper", listed=DAY, hidden=True))
        session.add(
            Entry(
                key="test:markup",
                arxiv="2611.88888",
                title="<script>alert(1)</script> & \"quotes\" of 'x'",
                abstract='<img src=x onerror="alert(1)"> \x0b ]]> &amp;',
                organisation='"><svg onload=alert(1)>',
                url="https://example.org/a?b=<c>",
                listed=DAY - timedelta(days=40),
                tags=[EntryTag(tag='"x" <y>')],
            )
        )
        session.add(
            Entry(
                key="test:formula",
                arxiv="2611.77777",
                title=r"Sorting in $\mathcal{O}(n^2)$ & more",
                abstract=r"We show $\frac{1}{2}\sum_i x_i < \text{<b>}$.",
                listed=DAY - timedelta(days=100),
                withdrawn=True,
            )
        )
        session.flush()
        refresh_trends(session, now())


def make_app(settings: Settings, mailer: Mailbox, root: Path) -> FastAPI:
    database = open_database(settings.database_url)
    add_papers(database)
    search = open_search(database, WordEncoder())
    app = create_app(settings, database=database, store=Store(root), search=search, mailer=mailer)
    search.refresh()
    return app


@pytest.fixture(scope="session", autouse=True)
def compiled_templates() -> Iterator[None]:
    """The templates are compiled for the first page alone: half of the time that a page takes to be made."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(templating, "Environment", partial(Environment, bytecode_cache=CompiledTemplates()))
        yield


@pytest.fixture(scope="session")
def mailbox() -> Mailbox:
    return Mailbox()


@pytest.fixture
def make_page() -> Callable[..., FastAPI]:
    """Make a page of a test's own: ``make_page(settings, mailer, root of the store)``."""
    return make_app


@pytest.fixture(scope="session")
def local_app(tmp_path_factory: pytest.TempPathFactory, mailbox: Mailbox) -> FastAPI:
    folder = tmp_path_factory.mktemp("local")
    return make_app(load_settings(folder=folder), mailbox, folder / "store")


@pytest.fixture(scope="session")
def public_app(tmp_path_factory: pytest.TempPathFactory, mailbox: Mailbox) -> FastAPI:
    folder = tmp_path_factory.mktemp("public")
    settings = load_settings(
        folder=folder,
        public=True,
        secret_key="a secret of a test, long enough to be one",
        allowed_hosts=("papers.example", "localhost"),
        base_url=PUBLIC,
    )
    return make_app(settings, mailbox, folder / "store")


@pytest.fixture
def local(local_app: FastAPI) -> Browser:
    """The reader of a page on their own machine."""
    return Browser(local_app, LOCAL)


@pytest.fixture
def visitor(public_app: FastAPI) -> Browser:
    """Somebody without an account, on a public page."""
    return Browser(public_app, PUBLIC)


@pytest.fixture(scope="session", autouse=True)
def real_hasher() -> Iterator[PasswordHasher]:
    """The hasher of passwords, which is meant to be slow; a quick one stands in its place."""
    real = accounts._hasher
    accounts._hasher = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)
    yield real
    accounts._hasher = real


@pytest.fixture(scope="session")
def password_hash(real_hasher: PasswordHasher) -> str:
    """The hash of PASSWORD."""
    return accounts._hasher.hash(PASSWORD)


@pytest.fixture
def member(public_app: FastAPI, password_hash: str) -> Browser:
    """Somebody who is logged in, on a public page."""
    browser = Browser(public_app, PUBLIC)
    become_member(browser, password_hash)
    return browser


@pytest.fixture(scope="session")
def serve() -> Iterator[Callable[[FastAPI], str]]:
    """Serve an application on a free port of this machine until the session ends; returns its address."""
    servers: list[tuple[uvicorn.Server, threading.Thread]] = []

    def start(app: FastAPI) -> str:
        server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", lifespan="off"))
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        servers.append((server, thread))
        deadline = time.monotonic() + 20
        while not server.started and time.monotonic() < deadline:
            time.sleep(0.02)
        return f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"

    yield start
    for server, _ in servers:
        server.should_exit = True
    for _, thread in servers:
        thread.join(timeout=5)


@pytest.fixture
def without_encoder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that start from now on have no sentence encoder, which brings torch: seconds of every web server."""
    folder = tmp_path_factory.mktemp("without")
    (folder / "sitecustomize.py").write_text(f"import sys\nsys.modules[{PACKAGE!r}] = None\n", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]))


@pytest.fixture(scope="session")
def local_server(local_app: FastAPI, serve: Callable[[FastAPI], str]) -> str:
    """The address of a running server of the local page."""
    return serve(local_app)


@pytest.fixture(scope="session")
def local_link(local_app: FastAPI, local_server: str) -> str:
    """The link that makes a browser the owner's on the local page."""
    return access_link(local_app.state.page.settings, local_server)


@pytest.fixture(scope="session")
def public_server(public_app: FastAPI, serve: Callable[[FastAPI], str]) -> str:
    """The address of a running server of the public page: http on localhost, which browsers trust like https."""
    return serve(public_app).replace("127.0.0.1", "localhost")
