"""How this machine would serve the page: what an owner should know before others reach it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import make_url, text

from paperworks.errors import InputError
from paperworks.page.database import open_database
from paperworks.page.mail import Mailer
from paperworks.page.sandbox.confinement import find_confinement
from paperworks.page.settings import Settings
from paperworks.runs.store import home


@dataclass(frozen=True)
class CheckResult:
    """One thing that was looked at. ``fine`` is False for what the owner should change."""

    what: str
    fine: bool
    said: str


def check_page(settings: Settings) -> list[CheckResult]:
    """Look at confinement, database, mail, room on the disk and the modes of the folders. Changes nothing."""
    return list(_checks(settings))


def _checks(settings: Settings) -> Iterator[CheckResult]:
    confinement = find_confinement()
    risky = settings.uploads_allowed and settings.public and not settings.unconfined_uploads
    yield CheckResult("confinement", confinement.confines or not risky, confinement.said)
    uploads = f"at most {settings.upload_bytes:,} bytes each" if settings.uploads_allowed else "not taken"
    yield CheckResult("uploads", True, uploads)
    days = settings.days_kept
    yield CheckResult(
        "kept", True, f"runs and uploads are removed after {days} days" if days else "until they are deleted"
    )
    yield _database(settings)
    mail = Mailer(settings).configured
    said = "sent" if mail else "not configured (PAPERWORKS_PAGE_SMTP_URL, PAPERWORKS_PAGE_MAIL_FROM)"
    yield CheckResult("mail", mail or not settings.public or settings.no_mail, said)
    room = shutil.disk_usage(_existing(settings.folder)).free
    enough = room > settings.run_disk_bytes + settings.upload_bytes
    yield CheckResult("room", enough, f"{room:,} bytes are free where the page keeps its data")
    yield _private(settings.folder)


def _database(settings: Settings) -> CheckResult:
    url = make_url(settings.database_url)
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").exists():
        return CheckResult("database", True, "SQLite, made at the first start")
    try:
        database = open_database(settings.database_url, migrate=False)
        with database.reading() as session:
            session.execute(text("SELECT 1"))
        database.close()
    except InputError as error:
        return CheckResult("database", False, error.found)
    return CheckResult("database", True, f"{url.get_backend_name()} answers")


def _private(folder: Path) -> CheckResult:
    open_to_others = [place for place in (folder, *folder.glob("page.sqlite*")) if _mode(place) & 0o077]
    if open_to_others:
        return CheckResult("folder", False, f"others can reach {open_to_others[0]}; starting the page changes that")
    return CheckResult("folder", True, f"{folder} is for this user only" if folder.exists() else f"{folder}, made then")


def _mode(path: Path) -> int:
    return path.stat().st_mode if path.exists() else 0


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path if path.is_dir() else home()
