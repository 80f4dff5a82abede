"""``paperworks page``: web servers, workers that execute runs, and the clock that refreshes trends and sends digests.

This process only watches over them: every web server and every worker is a process of its own, so that a page is
rendered on each core at the same time. One that dies is started again; all end with this process, even by SIGKILL.
The clock runs here, and so exactly once.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from datetime import datetime

from sqlalchemy import delete

from paperworks.errors import InputError
from paperworks.page.access import access_link
from paperworks.page.community.accounts import local_user
from paperworks.page.database import Database, RateCount, Session, now, open_database
from paperworks.page.digest import send_digests
from paperworks.page.feed import seed_catalogue
from paperworks.page.feed.trend import refresh_trends
from paperworks.page.jobs import Worker, check_confinement, clean
from paperworks.page.loops import run_loop
from paperworks.page.mail import Mailer
from paperworks.page.sandbox.confinement import find_confinement
from paperworks.page.settings import ENVIRONMENT_PREFIX, Settings, environment_of, load_settings
from paperworks.runs.processes import ChildProcess, end_with_parent, python_module
from paperworks.runs.store import Store

CLOCK_SECONDS = 60.0
CLEAN_SECONDS = 3600.0
RESTART_SECONDS = 2.0
STOP_SECONDS = 10.0
GRACE_SECONDS = 3
BACKLOG = 2048
MOST_CONNECTIONS = 4000
DESCRIPTORS_KEPT = 200
"""For the database, its files and whatever a library opens."""

log = logging.getLogger("paperworks.page.server")


def serve(settings: Settings, ready: Callable[[str], None] = lambda address: None) -> None:
    """Serve the page until SIGINT or SIGTERM. ``ready`` gets the address once it answers.

    Raises InputError for a port that is taken, a database that cannot be opened, for a public page that can send no
    mail, and for one that takes uploads without confinement, unless the settings say that it shall.
    """
    check_mail(settings)
    check_confinement(settings)
    keep_private(settings)
    held = _hold_port(settings)
    port = held.getsockname()[1]
    database = open_database(settings.database_url)
    seed_catalogue(database)
    if not settings.public:
        with database.session() as session:
            local_user(session)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    count = settings.web_processes
    for_runs = environment_of(settings)
    # Each web server has its share of the cores: more threads than those only wait for each other.
    threads = os.environ.get("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count)))
    for_web = for_runs | {f"{ENVIRONMENT_PREFIX}PORT": str(port), "OMP_NUM_THREADS": threads}
    kept = [("web", "first" if n == 0 else "another", for_web) for n in range(count)]
    kept += [("runs", "", for_runs)] * settings.run_workers
    helpers = [threading.Thread(target=_keep, args=(*what, stop)) for what in kept]
    for helper in helpers:
        helper.start()
    store = Store()
    due: list[tuple[str, Callable[[], object], float]] = [
        ("the refresh of trends", lambda: refresh(database, now()), CLOCK_SECONDS),
        ("the digest", lambda: send_due_digests(database, settings, now()), CLOCK_SECONDS),
        ("the removal of old runs", lambda: clean(database, store, settings, now()), CLEAN_SECONDS),
    ]
    clocks = [threading.Thread(target=_clock, args=(*what, stop), daemon=True) for what in due]
    for clock in clocks:
        clock.start()
    try:
        if _answers(settings.host, port, stop):
            address = settings.address() if settings.port or settings.public else f"http://{settings.host}:{port}"
            ready(address if settings.public else access_link(settings, address))
        stop.wait()
    finally:
        stop.set()
        for helper in helpers:
            helper.join()
        held.close()
        for clock in clocks:
            clock.join(STOP_SECONDS)


def check_mail(settings: Settings) -> None:
    """Raise InputError for a public page without mail that was not asked for: nobody could sign up there."""
    if settings.public and not settings.no_mail and not Mailer(settings).configured:
        raise InputError(
            "smtp_url",
            "no mail server or no sender",
            f"{ENVIRONMENT_PREFIX}SMTP_URL and {ENVIRONMENT_PREFIX}MAIL_FROM, since a public page confirms accounts by "
            "mail; or --no-mail for a page on which nobody can sign up",
        )


def keep_private(settings: Settings) -> None:
    """Make the page's folder, and what this process and its children make from now on, its user's only.

    Others on the machine could otherwise read the database, the key and the uploads.
    """
    os.umask(0o077)
    settings.folder.mkdir(parents=True, exist_ok=True)
    settings.folder.chmod(0o700)
    for made_before in settings.folder.glob("page.sqlite*"):
        made_before.chmod(0o700 if made_before.is_dir() else 0o600)


def work(settings: Settings) -> None:
    """One worker until SIGINT or SIGTERM, or until the page that started it is gone."""
    keep_private(settings)
    database = open_database(settings.database_url)
    worker = Worker(database, Store(), settings)
    confinement = find_confinement()
    if settings.uploads_allowed and not confinement.confines:
        log.warning("%s", confinement.said)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    end_with_parent(stop.set)
    # Not in the main thread, where the engine would take a signal as the wish to cancel the run. A run that is not done
    # when this process ends is left as it is: its child ends too, and the next worker resumes it.
    working = threading.Thread(target=worker.run_forever, daemon=True)
    working.start()
    code = 0
    while not stop.wait(0.5):
        if not working.is_alive():  # whoever watches over this process starts another
            code = 1
            break
    os._exit(code)


def answer(settings: Settings, first: bool) -> None:
    """One web server until SIGINT or SIGTERM, or until the page that started it is gone. The first keeps the index."""
    import uvicorn

    from paperworks.page.web.app import create_app
    from paperworks.page.web.connections import ConnectionLimits, http_protocol

    keep_private(settings)
    limits = ConnectionLimits(settings.connections_per_address, settings.trusted_proxies if settings.public else ())
    app = create_app(settings, seed=False, index=first)
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
        backlog=BACKLOG,
        http=http_protocol(limits),
        limit_concurrency=_most_connections(),
        forwarded_allow_ips=list(settings.trusted_proxies),
    )
    server = uvicorn.Server(config)

    def leave() -> None:
        server.should_exit = True
        time.sleep(GRACE_SECONDS + 1)
        os._exit(0)

    end_with_parent(leave)
    server.run(sockets=[_listening(settings)])
    # A thread that still prepares the index in compiled code would bring the process down with a signal at its end.
    os._exit(0)


def _most_connections() -> int:
    """Connections of one web server at the same time: fewer than the descriptors that the process may have."""
    try:
        import resource
    except ModuleNotFoundError:
        return MOST_CONNECTIONS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_CONNECTIONS + DESCRIPTORS_KEPT
    able = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < able:
        resource.setrlimit(resource.RLIMIT_NOFILE, (able, hard))
    return max(1, able - DESCRIPTORS_KEPT)


def refresh(database: Database, moment: datetime) -> None:
    """Trends, and rows that have had their time."""
    with database.session() as session:
        refresh_trends(session, moment)
        session.execute(delete(Session).where(Session.expires < moment))
        session.execute(delete(RateCount).where(RateCount.window < int(moment.timestamp()) - 2 * 86400))


def send_due_digests(database: Database, settings: Settings, moment: datetime) -> None:
    """The digests that are due at a moment."""
    mailer = Mailer(settings)
    if mailer.configured and moment.hour >= settings.digest_hour:
        from paperworks.page.search import open_search

        with closing(open_search(database)) as search:
            send_digests(database, settings, mailer, "daily", moment, vectors=search.vectors)
            if moment.isoweekday() >= settings.digest_weekday:
                send_digests(database, settings, mailer, "weekly", moment, vectors=search.vectors)


def _clock(what: str, work: Callable[[], object], seconds: float, stop: threading.Event) -> None:
    def turn() -> bool:
        work()
        return False

    run_loop(what, turn, stop, seconds)


def _family(settings: Settings) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in settings.host else socket.AF_INET


def _hold_port(settings: Settings) -> socket.socket:
    """A socket that has the port and does not listen: it keeps other programs from it while web servers come and go."""
    # A socket that does not share finds out whether another program, or another page, has the port.
    try:
        with socket.socket(_family(settings)) as alone:
            alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            alone.bind((settings.host, settings.port))
            port = alone.getsockname()[1]
        return _bound(settings, port)
    except OSError:
        raise InputError("port", settings.port, f"a port of {settings.host} that is free") from None


def _bound(settings: Settings, port: int) -> socket.socket:
    """A socket of its own for each web server: the system spreads connections over those that share a port.

    (With one socket for all, the first process to wake up would take all connections that wait.)
    """
    bound = socket.socket(_family(settings))
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if hasattr(socket, "SO_REUSEPORT"):
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bound.bind((settings.host, port))
    return bound


def _listening(settings: Settings) -> socket.socket:
    bound = _bound(settings, settings.port)
    bound.listen(BACKLOG)
    bound.setblocking(False)
    return bound


def _answers(host: str, port: int, stop: threading.Event) -> bool:
    """Wait until something listens on the port; False if the page was ended before."""
    place = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    while not stop.wait(0.05):
        try:
            socket.create_connection((place, port), timeout=1).close()
            return True
        except OSError:
            continue
    return False


def _keep(kind: str, name: str, environment: Mapping[str, str], stop: threading.Event) -> None:
    """Keep one process of a kind running until the page ends."""
    command = python_module("paperworks.page.server", kind, name)
    while not stop.is_set():
        with ChildProcess(command, environment=environment, inherit_output=True, patience=STOP_SECONDS) as child:
            for _ in child.watch(0.2):
                if stop.is_set():
                    break
        if not stop.wait(0.5):
            log.warning("a process (%s) ended with %s; starting another", kind, child.ending)
            stop.wait(RESTART_SECONDS)


def _main(kind: str = "runs", name: str = "") -> None:
    if kind == "web":
        answer(load_settings(), first=name == "first")
    else:
        work(load_settings())


if __name__ == "__main__":
    _main(*sys.argv[1:])
