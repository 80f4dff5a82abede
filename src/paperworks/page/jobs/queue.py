"""The queue of jobs: asking for a run, cancelling it, and how a worker takes the next one."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import and_, func, or_, select, update

from paperworks import catalog
from paperworks.errors import InputError
from paperworks.page.database import Database, Entry, Job, now, rows_changed
from paperworks.page.jobs.forms import read_form
from paperworks.page.jobs.storage import remove_unshared_uploads, require_room
from paperworks.page.jobs.workplace import Workplace
from paperworks.page.settings import Settings
from paperworks.runs.config import build_config
from paperworks.runs.recipe import load_recipe
from paperworks.runs.store import RunRecord, Store

STALE_SECONDS = 20.0
"""A running job whose worker has given no sign for this long is taken by another."""
ATTEMPTS = 3
"""A job that outlived this many workers is given up: it may be what kills them."""
WAITING_PER_USER = 5


def create_job(
    database: Database,
    settings: Settings,
    slug: str,
    values: Mapping[str, str],
    files: Mapping[str, str],
    user_id: int | None,
    uploads: Sequence[str] = (),
) -> Job:
    """Check a form's values and queue the run. ``files`` are the paths of uploads, as ``save_upload`` gives them.

    Raises InputError naming the option, for a paper that is not here, and for a user with too many waiting runs or no
    room left.
    """
    paper = catalog.find(slug)
    if not paper.has_recipe:
        raise InputError("paper", f"{paper.slug}, which cannot be run here yet", "a paper that works here")
    paper.require_extra()
    recipe = load_recipe(paper.slug, f"{paper.module}.recipe")
    options = read_form(recipe.config, values, files, settings.uploads_allowed)
    build_config(recipe.config, options)  # bad options are told now, not when the worker starts
    with database.session() as session:
        entry = session.scalar(select(Entry).where(Entry.slug == paper.slug))
        if entry is None:
            raise InputError("paper", f"{paper.slug}, which is not in the feed", "a paper of the feed")
        waiting = session.scalar(
            select(func.count()).where(Job.user_id == user_id, Job.status.in_(("queued", "running")))
        )
        if (waiting or 0) >= WAITING_PER_USER:
            raise InputError("run", f"{waiting} of yours that wait or run", f"fewer than {WAITING_PER_USER} at a time")
        require_room(session, settings, user_id, "run")
        job = Job(
            id=secrets.token_hex(16),
            entry_id=entry.id,
            user_id=user_id,
            slug=paper.slug,
            config=dict(options),
            uploads=list(uploads),
        )
        session.add(job)
    return job


def cancel_job(database: Database, settings: Settings, job_id: str) -> None:
    """Ask for a job to end: at once if it waits, at its next check if it runs. Its uploads and files go then."""
    with database.session() as session:
        at_once = (
            update(Job)
            .where(Job.id == job_id, Job.status == "queued")
            .values(status="cancelled", finished=now(), message="cancelled before it started")
        )
        waited = rows_changed(session, at_once) > 0
        if not waited:
            session.execute(update(Job).where(Job.id == job_id, Job.status == "running").values(cancel_requested=True))
        job = session.get(Job, job_id, populate_existing=True)
    if job is None:
        return
    if waited:
        Workplace(settings, job_id).remove()  # of an earlier attempt
        remove_unshared_uploads(database, settings, job)
    elif job.status == "running" and job.run_id is not None:
        Workplace(settings, job_id).request_cancel(job.run_id)


def claim_job(database: Database, worker: str, moment: datetime) -> Job | None:
    """Take the oldest job that waits, or that a dead worker left; None when there is none.

    Two workers cannot take one job: the row is changed only if it is still as it was read.
    """
    stale = moment - timedelta(seconds=STALE_SECONDS)
    free = or_(Job.status == "queued", and_(Job.status == "running", Job.heartbeat < stale))
    while True:
        with database.session() as session:
            job = session.scalar(select(Job).where(free).order_by(Job.created, Job.id).limit(1))
            if job is None:
                return None
            unchanged = and_(
                Job.id == job.id,
                Job.status == job.status,
                Job.worker.is_(None) if job.worker is None else Job.worker == job.worker,
                Job.heartbeat.is_(None) if job.heartbeat is None else Job.heartbeat == job.heartbeat,
            )
            given_up = job.attempts >= ATTEMPTS
            changes: dict[str, Any] = {"worker": worker, "heartbeat": moment}
            if given_up:
                changes |= {
                    "status": "failed",
                    "finished": moment,
                    "message": f"given up: {job.attempts} workers ended while they ran it",
                }
            else:
                changes |= {
                    "status": "running",
                    "attempts": job.attempts + 1,
                    "started": job.started or moment,
                }
            taken = rows_changed(session, update(Job).where(unchanged).values(**changes))
            if taken and not given_up:
                session.refresh(job)
                return job


def heartbeat(database: Database, job_id: str, worker: str, moment: datetime) -> bool:
    """Say that the worker still works on the job; returns whether the job is to be cancelled or was taken away."""
    with database.session() as session:
        own = update(Job).where(Job.id == job_id, Job.worker == worker, Job.status == "running")
        mine = rows_changed(session, own.values(heartbeat=moment))
        return not mine or bool(session.scalar(select(Job.cancel_requested).where(Job.id == job_id)))


def end_job(database: Database, job_id: str, worker: str, status: str, message: str, size: int = 0) -> bool:
    """Write how a job ended, and count a finished run for its paper: once, in one transaction.

    ``size`` is what it keeps on the disk, bytes. Returns False where the job is no longer this worker's.
    """
    with database.session() as session:
        own = update(Job).where(Job.id == job_id, Job.worker == worker, Job.status == "running")
        ended = rows_changed(
            session, own.values(status=status, message=message, finished=now(), heartbeat=None, bytes=size)
        )
        if ended and status == "finished":
            entry_id = session.scalar(select(Job.entry_id).where(Job.id == job_id))
            session.execute(update(Entry).where(Entry.id == entry_id).values(runs=Entry.runs + 1))
        return bool(ended)


def job_record(store: Store, job: Job) -> RunRecord | None:
    """The run of a job in the store of runs, or None while there is none."""
    if job.run_id is None:
        return None
    try:
        return store.find(job.run_id)
    except InputError:
        return None
