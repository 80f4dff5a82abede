"""What uploads and runs take, how much is left, and how they are removed.

    uploads/<id>/     a reader's file, or what its archive held
    work/<job>/       a run that is not done: a store of its own, which is all that the run may write
    (store of runs)   a finished run

Files are removed before their row: who is killed in between can remove the rest once more.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session as OrmSession

from paperworks.errors import InputError
from paperworks.page.database import Database, Job, Upload
from paperworks.page.settings import Settings
from paperworks.runs.store import RunBusy, Store
from paperworks.runs.usage import bytes_below

ENDED = ("finished", "failed", "cancelled")
ABANDONED_SECONDS = 3600
"""A folder that no row names is removed when it is older: its row may be about to be written."""
UNUSED_DAYS = 1
"""An upload that no run uses is removed after this."""
_ID = re.compile(r"[0-9a-f]{32}")


@dataclass
class Cleaned:
    """What a cleaning removed, or would remove."""

    runs: int = 0
    uploads: int = 0
    leftovers: int = 0
    bytes: int = 0


def upload_folder(settings: Settings, upload_id: str) -> Path:
    """Where an upload is kept."""
    if not _ID.fullmatch(upload_id):
        raise ValueError(f"not the id of an upload: {upload_id!r}")
    return settings.folder / "uploads" / upload_id


def work_folder(settings: Settings, job_id: str) -> Path:
    """The folder of a run while it is not done."""
    if not _ID.fullmatch(job_id):
        raise ValueError(f"not the id of a job: {job_id!r}")
    return settings.folder / "work" / job_id


def room_left(session: OrmSession, settings: Settings, user_id: int | None) -> int:
    """Bytes that a user may still store; negative beyond the quota."""
    everybody = _used(session, None)
    own = _used(session, user_id) if user_id is not None else 0
    return min(settings.bytes_per_account - own, settings.total_bytes - everybody)


def _used(session: OrmSession, user_id: int | None) -> int:
    total = 0
    for table, column in ((Upload, Upload.stored), (Job, Job.bytes)):
        query = select(func.coalesce(func.sum(column), 0))
        if user_id is not None:
            query = query.where(table.user_id == user_id)
        total += int(session.scalar(query) or 0)
    return total


def require_room(session: OrmSession, settings: Settings, user_id: int | None, field: str) -> int:
    """Bytes that a user may still store; raises InputError where there are none."""
    left = room_left(session, settings, user_id)
    if left <= 0:
        raise InputError(
            field,
            "no room left for your files and runs",
            f"at most {settings.bytes_per_account:,} bytes of them: delete some of your runs",
        )
    return left


def remove_job(database: Database, store: Store, settings: Settings, job_id: str) -> None:
    """Remove a run with its files, its uploads that no other run uses, and its row. One that runs is ended by that."""
    with database.reading() as session:
        job = session.get(Job, job_id)
        if job is None:
            return
        unshared = _unshared(session, job)
    remove_run_files(store, settings, job)
    remove_uploads(database, settings, unshared)
    with database.session() as session:
        session.execute(delete(Job).where(Job.id == job_id))


def remove_run_files(store: Store, settings: Settings, job: Job) -> None:
    """Remove what a run made. The worker of one that still runs removes the rest when it ends."""
    shutil.rmtree(work_folder(settings, job.id), ignore_errors=True)
    if job.run_id is not None:
        with suppress(FileNotFoundError, RunBusy):
            store.remove(job.run_id)


def remove_unshared_uploads(database: Database, settings: Settings, job: Job) -> None:
    """Remove the uploads of a run that no other run uses."""
    with database.reading() as session:
        unshared = _unshared(session, job)
    remove_uploads(database, settings, unshared)


def remove_uploads(database: Database, settings: Settings, ids: Sequence[str]) -> None:
    """Remove uploads: files, then rows."""
    for upload_id in ids:
        shutil.rmtree(upload_folder(settings, upload_id), ignore_errors=True)
    if ids:
        with database.session() as session:
            session.execute(delete(Upload).where(Upload.id.in_(ids)))


def remove_account_files(database: Database, store: Store, settings: Settings, user_id: int) -> None:
    """Remove an account's uploads, and all runs that were made from them."""
    with database.reading() as session:
        jobs = [job.id for job in session.scalars(select(Job).where(Job.user_id == user_id)) if job.uploads]
        uploads = list(session.scalars(select(Upload.id).where(Upload.user_id == user_id)))
    for job_id in jobs:
        remove_job(database, store, settings, job_id)
    remove_uploads(database, settings, uploads)


def clean(
    database: Database,
    store: Store,
    settings: Settings,
    moment: datetime,
    days: int | None = None,
    dry_run: bool = False,
) -> Cleaned:
    """Remove runs that ended more than ``days`` ago (the settings' by default, 0 for none), and what nothing names.

    The latter are uploads without a run, and folders that a killed process left.
    """
    days = settings.days_kept if days is None else days
    cleaned = Cleaned()
    if days:
        for job_id in _expired(database, moment - timedelta(days=days)):
            cleaned.runs += 1
            cleaned.bytes += _job_bytes(database, store, settings, job_id)
            if not dry_run:
                remove_job(database, store, settings, job_id)
    unused = _unused_uploads(database, moment - timedelta(days=UNUSED_DAYS))
    cleaned.uploads = len(unused)
    cleaned.bytes += sum(bytes_below(upload_folder(settings, upload_id)) for upload_id in unused)
    if not dry_run:
        remove_uploads(database, settings, unused)
    for folder in list(_leftovers(database, settings)):
        cleaned.leftovers += 1
        cleaned.bytes += bytes_below(folder)
        if not dry_run:
            shutil.rmtree(folder, ignore_errors=True)
    return cleaned


def _expired(database: Database, before: datetime) -> list[str]:
    with database.reading() as session:
        ended = func.coalesce(Job.finished, Job.created) < before
        return list(session.scalars(select(Job.id).where(Job.status.in_(ENDED), ended)))


def _job_bytes(database: Database, store: Store, settings: Settings, job_id: str) -> int:
    with database.reading() as session:
        job = session.get(Job, job_id)
        if job is None:
            return 0
        unshared = _unshared(session, job)
    made = store.size(job.run_id) if job.run_id is not None else 0
    return made + sum(bytes_below(upload_folder(settings, upload_id)) for upload_id in unshared)


def _unshared(session: OrmSession, job: Job) -> list[str]:
    others = session.scalars(select(Job).where(Job.id != job.id, Job.user_id == job.user_id, Job.status != "cancelled"))
    used = {upload_id for other in others for upload_id in other.uploads}
    return [upload_id for upload_id in job.uploads if upload_id not in used]


def _unused_uploads(database: Database, before: datetime) -> list[str]:
    with database.reading() as session:
        old = list(session.scalars(select(Upload.id).where(Upload.created < before)))
        used = {upload_id for uploads in session.scalars(select(Job.uploads)) for upload_id in uploads}
    return [upload_id for upload_id in old if upload_id not in used]


def _leftovers(database: Database, settings: Settings) -> Iterator[Path]:
    with database.reading() as session:
        uploads = set(session.scalars(select(Upload.id)))
        working = set(session.scalars(select(Job.id).where(Job.status.not_in(ENDED))))
    for kind, named in (("uploads", uploads), ("work", working)):
        place = settings.folder / kind
        if not place.is_dir():
            continue
        for folder in place.iterdir():
            with suppress(FileNotFoundError):
                if folder.name not in named and folder.stat().st_mtime < time.time() - ABANDONED_SECONDS:
                    yield folder
