"""``paperworks page ...`` and ``paperworks digest ...``."""

from __future__ import annotations

import json as jsonlib
import os
import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from paperworks.errors import InputError

Json = Annotated[bool, Parameter(name="--json", negative="", help="print JSON")]


def page_app() -> App:
    """The page: serve it, work for it, back it up."""
    app = App(
        name="page",
        help="The web page: find papers, discuss them, run them. 'paperworks page' serves it on this machine.",
        help_format="plaintext",
    )
    app.default(serve)
    app.command(worker, name="worker")
    app.command(token, name="token")
    app.command(check, name="check")
    app.command(clean, name="clean")
    app.command(backup, name="backup")
    app.command(restore, name="restore")
    return app


def digest_app() -> App:
    """Mailed digests."""
    app = App(name="digest", help="The mailed digests.", help_format="plaintext")
    app.command(send, name="send")
    return app


def serve(
    *,
    host: str | None = None,
    port: int | None = None,
    public: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    allowed_host: Annotated[list[str] | None, Parameter(negative="")] = None,
    base_url: str | None = None,
    database: str | None = None,
    folder: Path | None = None,
    uploads: bool | None = None,
    unconfined_uploads: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    keep_days: int | None = None,
    asks_token: Annotated[bool | None, Parameter(name="--token", negative="--no-token")] = None,
    browser: Annotated[bool, Parameter(show_default=False)] = True,
    no_mail: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    workers: int | None = None,
    run_workers: int | None = None,
) -> None:
    """Serve the page; Ctrl-C ends it, and runs that are not done go on at the next start.

    Every setting is also read from the environment as PAPERWORKS_PAGE_<NAME>: secrets (SECRET_KEY, SMTP_URL) only from
    there.

    Parameters
    ----------
    host
        address to listen on [127.0.0.1]
    port
        port to listen on; 0 takes a free one [8000]
    public
        accounts and log-in, for a page that others reach; needs SECRET_KEY and an allowed host
    allowed_host
        a host name under which the page is reached; repeat for more
    base_url
        the page's address in mails and feeds
    database
        SQLAlchemy URL; an SQLite file in the folder if not given
    folder
        where the page keeps its data
    uploads
        let readers run papers on files of their own [yes, unless public]
    unconfined_uploads
        take them on a public page even where runs cannot be confined (see 'paperworks page check')
    keep_days
        days after which runs and uploads are removed, 0 for never [never; 30 when public]
    asks_token
        ask the owner's browser once for the token of the printed link, without which others on this machine can only
        read [yes]
    browser
        open the page in a browser if it is started from a terminal
    no_mail
        a public page that sends no mail: nobody can sign up there
    workers
        processes that serve the page [1; one per core, at most 4, when public]
    run_workers
        processes that execute runs [1]
    """
    from paperworks.page.server import serve as run_server

    settings = _settings(
        host=host,
        port=port,
        public=public or None,
        allowed_hosts=tuple(allowed_host) if allowed_host else None,
        base_url=base_url,
        database=database,
        folder=folder,
        uploads=uploads,
        unconfined_uploads=unconfined_uploads or None,
        keep_days=keep_days,
        asks_token=asks_token,
        no_mail=no_mail or None,
        workers=workers,
        run_workers=run_workers,
    )

    def ready(address: str) -> None:
        print(f"Paperworks is at {address}  (Ctrl-C ends it)", flush=True)
        if browser and not settings.public and sys.stdout.isatty():
            import webbrowser

            webbrowser.open(address)

    run_server(settings, ready)


def worker(*, database: str | None = None, folder: Path | None = None) -> None:
    """Execute the page's runs in this process, for a server that was started with --run-workers 0.

    Parameters
    ----------
    database
        SQLAlchemy URL of the page
    folder
        the page's folder
    """
    from paperworks.page.server import work

    work(_settings(database=database, folder=folder))


def token(*, port: int | None = None, folder: Path | None = None) -> None:
    """Print the link that makes a browser the owner's, for a page without accounts.

    Parameters
    ----------
    port
        the port on which the page listens [8000]
    folder
        the page's folder
    """
    from paperworks.page.access import access_link

    settings = _settings(port=port, folder=folder)
    print(access_link(settings, settings.address()))


def check(*, public: Annotated[bool, Parameter(negative="", show_default=False)] = False, json: Json = False) -> int:
    """Say how this machine would serve the page: what keeps uploaded runs away from it, database, mail, room.

    Parameters
    ----------
    public
        check what a public page needs
    """
    from paperworks.page.check import check_page

    findings = check_page(_settings(public=public or None))
    if json:
        print(jsonlib.dumps([{"what": f.what, "fine": f.fine, "said": f.said} for f in findings], indent=1))
    else:
        for found in findings:
            print(f"{'ok ' if found.fine else 'NO '} {found.what}: {found.said}")
    return 0 if all(found.fine for found in findings) else 1


def clean(
    *,
    days: int | None = None,
    dry_run: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    database: str | None = None,
    folder: Path | None = None,
    json: Json = False,
) -> None:
    """Remove old runs, uploads that no run uses, and what a killed process left. The page does so by itself, hourly.

    Parameters
    ----------
    days
        age of the runs to remove, days; 0 for none [the setting KEEP_DAYS]
    dry_run
        only say what would be removed
    database
        SQLAlchemy URL of the page
    folder
        the page's folder
    """
    from dataclasses import asdict

    from paperworks.page.database import now, open_database
    from paperworks.page.jobs import clean as remove
    from paperworks.runs.store import Store

    if days is not None and days < 0:
        raise InputError("days", days, "0 or more")
    settings = _settings(database=database, folder=folder)
    removed = remove(open_database(settings.database_url), Store(), settings, now(), days, dry_run)
    if json:
        print(jsonlib.dumps(asdict(removed)))
    else:
        print(
            f"{'would remove' if dry_run else 'removed'} {removed.runs} runs, {removed.uploads} unused uploads and "
            f"{removed.leftovers} leftover folders: {removed.bytes:,} bytes"
        )


def backup(file: Path, *, database: str | None = None, folder: Path | None = None, json: Json = False) -> None:
    """Write one file with the page's database, uploads, key and runs, while it is served.

    Parameters
    ----------
    file
        a new .tar.gz file; it holds secrets
    database
        SQLAlchemy URL of the page
    folder
        the page's folder
    """
    from paperworks.page.backup import backup as make
    from paperworks.runs import no_progress
    from paperworks.runs.live import show_progress

    counts = make(_settings(database=database, folder=folder), file, progress=no_progress if json else show_progress)
    if json:
        print(jsonlib.dumps({"file": str(file), "files": counts}))
    else:
        held = ", ".join(f"{count} of {kind}" for kind, count in counts.items())
        print(f"{file}: {os.path.getsize(file):,} bytes; files: {held}")


def restore(file: Path, *, database: str | None = None, folder: Path | None = None) -> None:
    """Put a backup back, into a folder and a database without data.

    Parameters
    ----------
    file
        what 'paperworks page backup' made
    database
        SQLAlchemy URL of the page
    folder
        the page's folder, new or empty
    """
    from paperworks.page.backup import restore as put_back

    settings = _settings(database=database, folder=folder)
    put_back(settings, file)
    print(f"restored into {settings.folder}")


def send(
    *,
    frequency: str = "daily",
    dry_run: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    database: str | None = None,
    folder: Path | None = None,
    json: Json = False,
) -> int:
    """Send the digests that are due. Run it as often as you like: nobody gets one twice.

    Parameters
    ----------
    frequency
        daily or weekly
    dry_run
        print what would be sent, and send nothing
    database
        SQLAlchemy URL of the page
    folder
        the page's folder
    """
    from paperworks.page.database import open_database
    from paperworks.page.digest import send_digests
    from paperworks.page.digest.subscriptions import FREQUENCIES
    from paperworks.page.mail import Mailer
    from paperworks.page.search import open_search

    if frequency not in FREQUENCIES:
        raise InputError("frequency", repr(frequency), "daily or weekly")
    settings = _settings(database=database, folder=folder)
    mailer = Mailer(settings)
    if not dry_run and not mailer.configured:
        raise InputError(
            "smtp_url", "nothing", "an SMTP server and a sender (PAPERWORKS_PAGE_SMTP_URL, PAPERWORKS_PAGE_MAIL_FROM)"
        )
    pages = open_database(settings.database_url)
    search = open_search(pages)
    search.refresh()
    outcome = send_digests(pages, settings, mailer, frequency, dry_run=dry_run, vectors=search.vectors)
    if json:
        counted: dict[str, Any] = {
            "sent": len(outcome.sent),
            "already": len(outcome.already),
            "empty": len(outcome.empty),
            "unknown": len(outcome.unknown),
            "failed": [reason for _, reason in outcome.failed],
            "messages": [m.as_string() for m in outcome.messages],
        }
        print(jsonlib.dumps(counted, indent=1))
    elif dry_run:
        for message in outcome.messages:
            print(f"To: {message['To']}\nSubject: {message['Subject']}\n")
            body = message.get_body(("plain",))
            print(body.get_content() if body is not None else "")
        print(f"{len(outcome.messages)} would be sent, {len(outcome.empty)} have nothing new")
    else:
        print(
            f"{len(outcome.sent)} sent, {len(outcome.already)} sent before, {len(outcome.empty)} have nothing new, "
            f"{len(outcome.failed)} failed, {len(outcome.unknown)} unknown"
        )
    for address, reason in outcome.failed:
        print(f"paperworks: {address}: {reason}", file=sys.stderr)
    return 1 if outcome.failed else 0


def _settings(**given: Any) -> Any:
    from paperworks.page.settings import load_settings

    return load_settings(**given)
