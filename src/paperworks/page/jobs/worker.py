"""The worker: takes jobs from the queue and executes their runs in child processes with limits.

    paperworks page worker          one worker in this process; the server starts as many as its settings say

A worker can be killed at any moment. Its child ends with it, the job's heartbeat grows old, and the next worker resumes
the run from its checkpoints.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeVar

from sqlalchemy import select, update

from paperworks import catalog
from paperworks.errors import InputError, PaperworksError
from paperworks.page.database import Database, Job, is_unavailable, now
from paperworks.page.jobs.queue import claim_job, end_job, heartbeat
from paperworks.page.jobs.storage import remove_unshared_uploads, room_left, upload_folder
from paperworks.page.jobs.workplace import PathHider, Workplace
from paperworks.page.loops import call_until_available, run_loop
from paperworks.page.sandbox.confinement import Confinement, Limits, find_confinement
from paperworks.page.settings import Settings
from paperworks.runs.cluster import RayEngine
from paperworks.runs.config import build_config
from paperworks.runs.engine import ChildEngine, Engine, Launch
from paperworks.runs.limits import RunLimits
from paperworks.runs.recipe import load_recipe
from paperworks.runs.run import Cancelled
from paperworks.runs.store import RunBusy, Store

BEAT_SECONDS = 2.0
IDLE_SECONDS = 0.5
FILE_FACTOR = 2
"""The kernel stops a file at this many times the disk limit; before that the engine says which limit was passed."""

OPTION = re.compile(r" \(--[a-z-]+\)")
"""The name of a flag in a message: a reader of the page has no command line."""
T = TypeVar("T")
log = logging.getLogger("paperworks.page.worker")


def check_confinement(settings: Settings) -> None:
    """Raise InputError for a public page that would take uploads whose runs are not confined, unless it shall."""
    if settings.public and settings.uploads_allowed and not settings.unconfined_uploads:
        if settings.ray_address:
            raise InputError(
                "ray_address",
                "a cluster, on whose nodes runs are not confined",
                "none on a public page that takes uploads; or --unconfined-uploads, if all who sign up are trusted",
            )
        found = find_confinement()
        if not found.confines:
            raise InputError(
                "uploads",
                found.said,
                "bubblewrap (Debian: apt-get install bubblewrap) or a kernel with Landlock, so that a misled "
                "recipe reaches nothing; or --unconfined-uploads, if all who sign up are trusted",
            )


class Worker:
    """Executes the page's jobs, one at a time."""

    def __init__(
        self, database: Database, store: Store, settings: Settings, confinement: Confinement | None = None
    ) -> None:
        self.name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        self._database = database
        self._store = store
        self._settings = settings
        self._confinement = confinement or find_confinement()
        self._hide = PathHider(settings, store)
        self._stop = threading.Event()

    def stop(self) -> None:
        """Take no further job; the one that runs is left to the next worker."""
        self._stop.set()

    def run_forever(self) -> None:
        """Work until ``stop``. No error ends it: what fails is tried again after a pause."""
        run_loop("the worker of runs", self.run_one, self._stop, IDLE_SECONDS)

    def run_one(self) -> bool:
        """Execute the next job, if there is one; returns whether there was."""
        job = claim_job(self._database, self.name, now())
        if job is None:
            return False
        workplace = Workplace(self._settings, job.id)
        status, message = self._execute(job, workplace)
        run_id = workplace.run_id
        size = self._store.size(run_id) if status == "finished" and run_id is not None else 0
        ended = self._patiently(lambda: end_job(self._database, job.id, self.name, status, message, size))
        if ended:
            workplace.remove()
            if status == "cancelled":
                self._patiently(lambda: remove_unshared_uploads(self._database, self._settings, job))
        else:
            self._remove_if_deleted(job.id, workplace)
        log.info("job %s: %s", job.id, status)
        return True

    def _execute(self, job: Job, workplace: Workplace) -> tuple[str, str]:
        try:
            run_id = self._run_of(job.id)
            if run_id is not None and (self._store.runs / run_id).is_dir():
                workplace.run_id = run_id
                return "finished", self._store.find(run_id).headline  # its worker died before it could say so
            workplace.make()
            if run_id is None or not any((place / run_id).is_dir() for place in workplace.places):
                run_id = self._create_run(job, workplace)
            workplace.run_id = run_id
            if not (workplace.store.runs / run_id).is_dir():
                workplace.drop_links()
                with self._watching(job.id, workplace, run_id):
                    self._run(job, workplace, run_id)
            return "finished", workplace.hand_over(run_id, self._store).headline
        except Cancelled:
            return "cancelled", "cancelled"
        except PaperworksError as error:
            if notes := "\n".join(getattr(error, "__notes__", ())):
                log.info("job %s failed: %s\n%s", job.id, error, notes)
            return "failed", OPTION.sub("", self._hide(str(error)))
        except Exception as error:
            if is_unavailable(error):
                raise  # the job is taken again when its heartbeat has grown old
            log.exception("job %s failed in the worker", job.id)
            return "failed", "an error of the page's worker; its log says more"

    def _run_of(self, job_id: str) -> str | None:
        def read() -> str | None:
            with self._database.reading() as session:
                return session.scalar(select(Job.run_id).where(Job.id == job_id))

        return self._patiently(read)

    def _create_run(self, job: Job, workplace: Workplace) -> str:
        """Make the run, noted before it starts."""
        paper = catalog.find(job.slug)
        recipe = load_recipe(paper.slug, f"{paper.module}.recipe")
        config = build_config(recipe.config, job.config)
        run_id = workplace.store.create(paper.slug, recipe.module, config)
        self._patiently(lambda: self._note_run(job.id, run_id))
        return run_id

    def _note_run(self, job_id: str, run_id: str) -> None:
        with self._database.session() as session:
            session.execute(update(Job).where(Job.id == job_id, Job.worker == self.name).values(run_id=run_id))

    def _run(self, job: Job, workplace: Workplace, run_id: str) -> None:
        settings = self._settings
        disk = max(1, min(settings.run_disk_bytes, self._patiently(lambda: self._room_of(job))))
        cores = os.cpu_count() or 1
        limits = Limits(seconds=int(settings.run_seconds * cores) + 60, file_bytes=max(FILE_FACTOR * disk, 2**20))
        uploads = {upload_id: upload_folder(settings, upload_id) for upload_id in job.uploads}
        hidden = [settings.folder, self._store.root]

        def launch(store: Store, run_id: str) -> Launch:
            launch = self._confinement.launch(store.root, run_id, uploads, limits, hidden)
            return replace(launch, ended=workplace.drop_links)

        engine: Engine = ChildEngine(settings.run_seconds, settings.run_memory_bytes, disk, launch)
        if settings.ray_address:
            run_limits = RunLimits(settings.run_seconds, settings.run_memory_bytes, disk)
            sent = {f"uploads/{upload_id}": folder for upload_id, folder in uploads.items()}
            engine = RayEngine(settings.ray_address, limits=run_limits, inputs=sent)
        for _ in range(20):
            try:
                engine.execute(workplace.store, run_id)
                return
            except RunBusy:  # the child of a killed worker needs a moment to notice
                time.sleep(0.5)
        raise InputError("run", "one that another process executes", "a free one")

    def _room_of(self, job: Job) -> int:
        with self._database.reading() as session:
            return room_left(session, self._settings, job.user_id)

    @contextmanager
    def _watching(self, job_id: str, workplace: Workplace, run_id: str) -> Iterator[None]:
        """While the block lasts: say that this worker lives, and hand on that the run is to end."""
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(BEAT_SECONDS):
                try:
                    to_end = heartbeat(self._database, job_id, self.name, now())
                except Exception as error:
                    log.warning("the database did not take a sign of life: %s", str(error).partition("\n")[0])
                    continue
                if to_end:
                    workplace.request_cancel(run_id)

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()

    def _remove_if_deleted(self, job_id: str, workplace: Workplace) -> None:
        """Remove what the run made, if its owner removed it meanwhile. (Else another worker has taken it.)"""

        def is_there() -> bool:
            with self._database.reading() as session:
                return session.get(Job, job_id) is not None

        if self._patiently(is_there):
            return
        run_id = workplace.run_id
        workplace.remove()
        if run_id is not None and (self._store.runs / run_id).is_dir():
            self._store.remove(run_id)

    def _patiently(self, call: Callable[[], T]) -> T:
        """Repeat what writes to the database until it can: the outcome of hours of work is not lost to a lock."""
        return call_until_available("the worker of runs", call, self._stop)
