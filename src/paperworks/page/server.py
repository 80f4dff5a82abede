"""``paperworks page``: the web server, its workers, and the clock that refreshes trends and sends due digests."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from datetime import datetime

from sqlalchemy import delete

from paperworks.page.database import Database, RateCount, Session, now, open_database
from paperworks.page.digest import send_digests
from paperworks.page.feed.trend import refresh_trends
from paperworks.page.jobs import Worker
from paperworks.page.mail import Mailer
from paperworks.page.settings import Settings, environment_of
from paperworks.runs.store import Store

CLOCK_SECONDS = 60.0
RESTART_SECONDS = 2.0

log = logging.getLogger("paperworks.page.server")


def serve(settings: Settings, ready: Callable[[str], None] = lambda address: None) -> None:
    """Serve the page until SIGINT or SIGTERM. ``ready`` gets the address once it answers.

    Workers are processes of their own: one that dies is started again, and all end with the server, even by SIGKILL.
    """
    import uvicorn

    from paperworks.page.web.app import create_app

    if settings.public and not Mailer(settings).configured:
        log.warning("no mail server is set (SMTP_URL, MAIL_FROM): nobody can sign up")
    app = create_app(settings)
    config = uvicorn.Config(
        app, host=settings.host, port=settings.port, log_level="warning", access_log=False, server_header=False,
        timeout_graceful_shutdown=3,
    )  # fmt: skip
    server = uvicorn.Server(config)
    stop = threading.Event()
    helpers = [threading.Thread(target=_announce, args=(server, settings, ready, stop), daemon=True)]
    helpers += [
        threading.Thread(target=_keep_worker, args=(settings, stop), daemon=True) for _ in range(settings.workers)
    ]
    for helper in helpers:
        helper.start()
    try:
        server.run()
    finally:
        stop.set()
        for helper in helpers:
            helper.join(timeout=10)


def work(settings: Settings, parent: int | None = None) -> None:
    """One worker until SIGINT or SIGTERM, or until the process ``parent`` is gone; it also keeps the page's clock."""
    database = open_database(settings.database_url)
    worker = Worker(database, Store(), settings)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    threading.Thread(target=_clock, args=(database, settings), daemon=True).start()
    # Not in the main thread, where the engine would take a signal as the wish to cancel the run. A run that is not done
    # when this process ends is left as it is: its child ends too, and the next worker resumes it.
    threading.Thread(target=worker.run_forever, daemon=True).start()
    while not stop.wait(0.5):
        if parent is not None and os.getppid() != parent:
            break
    os._exit(0)


def tick(database: Database, settings: Settings, moment: datetime) -> None:
    """What is due at a moment: trends, mails, and rows that have had their time."""
    with database.session() as session:
        refresh_trends(session, moment)
        session.execute(delete(Session).where(Session.expires < moment))
        session.execute(delete(RateCount).where(RateCount.window < int(moment.timestamp()) - 2 * 86400))
    mailer = Mailer(settings)
    if mailer.configured and moment.hour >= settings.digest_hour:
        from paperworks.page.search import open_search

        with closing(open_search(database)) as search:
            send_digests(database, settings, mailer, "daily", moment, vectors=search.vectors)
            if moment.isoweekday() >= settings.digest_weekday:
                send_digests(database, settings, mailer, "weekly", moment, vectors=search.vectors)


def _clock(database: Database, settings: Settings) -> None:
    while True:
        try:
            tick(database, settings, now())
        except Exception:
            log.exception("the page's clock missed a minute")
        time.sleep(CLOCK_SECONDS)


def _announce(server: object, settings: Settings, ready: Callable[[str], None], stop: threading.Event) -> None:
    while not stop.is_set():
        if getattr(server, "started", False):
            port = server.servers[0].sockets[0].getsockname()[1]  # type: ignore[attr-defined]
            ready(settings.address() if settings.port or settings.public else f"http://{settings.host}:{port}")
            return
        time.sleep(0.05)


def _keep_worker(settings: Settings, stop: threading.Event) -> None:
    command = [sys.executable, "-m", "paperworks.page.server", str(os.getpid())]
    while not stop.is_set():
        child = subprocess.Popen(command, env=os.environ | environment_of(settings), stdin=subprocess.DEVNULL)
        while child.poll() is None and not stop.wait(0.2):
            pass
        if child.poll() is None:
            child.terminate()
            child.wait()
            return
        log.warning("a worker ended with code %s; starting another", child.returncode)
        stop.wait(RESTART_SECONDS)


if __name__ == "__main__":
    from paperworks.page.settings import load_settings

    work(load_settings(), int(sys.argv[1]) if len(sys.argv) > 1 else None)
