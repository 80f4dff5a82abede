"""The worker: takes jobs from the queue and executes their runs in child processes with limits.

    paperworks page worker          one worker in this process; the server starts as many as its settings say

A worker can be killed at any moment. Its child ends with it, the job's heartbeat grows old, and the next worker resumes
the run from its checkpoints.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
import time
from pathlib import Path

from sqlalchemy import update

from paperworks import catalog
from paperworks.errors import InputError, PaperworksError
from paperworks.page.database import Database, Job, now
from paperworks.page.jobs.queue import beat, claim_job, end_job
from paperworks.page.settings import Settings
from paperworks.runs.config import build_config
from paperworks.runs.engine import ChildEngine
from paperworks.runs.recipe import load_recipe
from paperworks.runs.run import Cancelled
from paperworks.runs.store import RunBusy, RunRecord, Store

BEAT_SECONDS = 2.0
IDLE_SECONDS = 0.5

log = logging.getLogger("paperworks.page.worker")


class Worker:
    """Executes the page's jobs, one at a time."""

    def __init__(self, database: Database, store: Store, settings: Settings) -> None:
        self.name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        self._database = database
        self._store = store
        self._engine = ChildEngine(settings.run_seconds, settings.run_memory_bytes, settings.run_disk_bytes)
        self._stop = threading.Event()

    def stop(self) -> None:
        """Take no further job; the one that runs is left to the next worker."""
        self._stop.set()

    def run_forever(self) -> None:
        """Work until ``stop``."""
        while not self._stop.is_set():
            if not self.run_one():
                self._stop.wait(IDLE_SECONDS)

    def run_one(self) -> bool:
        """Execute the next job, if there is one; returns whether there was."""
        job = claim_job(self._database, self.name, now())
        if job is None:
            return False
        status, message = self._execute(job)
        if status:
            end_job(self._database, job.id, self.name, status, message)
            log.info("job %s: %s", job.id, status)
        return True

    def _execute(self, job: Job) -> tuple[str, str]:
        try:
            run_id = self._run_of(job)
            if (self._store.runs / run_id).is_dir():  # it finished, and its worker died before it could say so
                return "finished", self._store.find(run_id).headline
            ended = threading.Event()
            watcher = threading.Thread(target=self._watch, args=(job.id, run_id, ended), daemon=True)
            watcher.start()
            try:
                record = self._wait_for(run_id)
            finally:
                ended.set()
                watcher.join()
            return "finished", record.headline
        except Cancelled:
            return "cancelled", "cancelled"
        except PaperworksError as error:
            return "failed", str(error)
        except Exception:
            log.exception("job %s failed in the worker", job.id)
            return "failed", "an error of the page's worker; its log says more"

    def _run_of(self, job: Job) -> str:
        """The run of a job: the one that an earlier worker made, or a new one, noted before it starts."""
        if job.run_id is not None and (
            (self._store.working / job.run_id).is_dir() or (self._store.runs / job.run_id).is_dir()
        ):
            return job.run_id
        paper = catalog.find(job.slug)
        recipe = load_recipe(paper.slug, f"{paper.module}.recipe")
        config = build_config(recipe.config, job.config)
        run_id = self._store.create(paper.slug, recipe.module, config)
        with self._database.session() as session:
            session.execute(update(Job).where(Job.id == job.id, Job.worker == self.name).values(run_id=run_id))
        return run_id

    def _wait_for(self, run_id: str) -> RunRecord:
        for _ in range(20):
            try:
                return self._engine.execute(self._store, run_id)
            except RunBusy:  # the child of a killed worker needs a moment to notice
                time.sleep(0.5)
        raise InputError("run", "one that another process executes", "a free one")

    def _watch(self, job_id: str, run_id: str, ended: threading.Event) -> None:
        folder: Path = self._store.working / run_id
        while not ended.wait(BEAT_SECONDS):
            try:
                to_end = beat(self._database, job_id, self.name, now())
            except Exception:
                log.exception("the database did not take a sign of life")
                continue
            if to_end and folder.is_dir():
                self._store.request_cancel(run_id)
