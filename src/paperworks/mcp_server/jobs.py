"""Runs as jobs: started at once, executed in child processes a few at a time, followed and cancelled by their ids."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from paperworks.errors import InputError, PaperworksError
from paperworks.runs import Config, Engine, RunRecord, Store

MOST_WAITING = 20
END_SECONDS = 10.0


class Jobs:
    """Executes runs of a store in the background.

    A run that is stopped, or that this process leaves unfinished, stays in the store and can be resumed.

    Parameters
    ----------
    store : the store of runs.
    engine : what executes a run, with the limits on it.
    at_once : how many runs are executed at a time; the others wait.
    """

    def __init__(self, store: Store, engine: Engine, at_once: int = 1) -> None:
        if at_once < 1:
            raise InputError("jobs", at_once, "1 or more")
        self.store = store
        self._engine = engine
        self._pool = ThreadPoolExecutor(at_once, thread_name_prefix="run")
        self._futures: dict[str, Future[None]] = {}
        self._lock = threading.Lock()

    def start(self, slug: str, module: str, config: Config) -> str:
        """Make a run and execute it as soon as there is room; returns its id. Raises InputError if too many wait."""
        with self._lock:
            self._require_room()
            run_id = self.store.create(slug, module, config)
            self._submit(run_id)
        return run_id

    def resume(self, run: str) -> str:
        """Execute an unfinished run again, from its checkpoints; returns its id.

        Raises InputError if it runs, waits or is finished.
        """
        with self._lock:
            run_id = self._id(run)
            status = "waiting" if self._waits(run_id) else self.store.find(run_id).status
            if status in ("finished", "running", "damaged") or self._waits(run_id):
                raise InputError("run", f"{run_id}, which is {status}", "a run that failed or was stopped")
            self._require_room()
            self._submit(run_id)
        return run_id

    def cancel(self, run: str) -> str:
        """Ask a run to stop at its next check; one that never began is removed. Returns its id.

        Raises InputError if it has ended.
        """
        with self._lock:
            run_id = self._id(run)
            future = self._futures.get(run_id)
            if future is not None and not future.cancelled() and future.cancel():
                self.store.discard_untouched(run_id)
                return run_id
        record = self.store.find(run_id)
        if record.status not in ("running", "waiting"):
            raise InputError("run", f"{run_id}, which is {record.status}", "a run that is running or waiting")
        self.store.request_cancel(run_id)
        return run_id

    def status(self, run: str) -> dict[str, Any]:
        """What is known of a run: id, paper, status, its last message or headline, seconds, and main figures.

        ``run`` is its id, the beginning or end of it, or ``last``.

        Raises InputError for a run that is not there; the reason why, if it was removed because of its input.
        """
        run_id = self._id(run)
        future = self._futures.get(run_id)
        try:
            found = describe(self.store.find(run_id))
        except InputError:
            # Refused input leaves no run in the store: its error says why. The engine is just about to raise it.
            if future is not None and not future.cancelled():
                future.result(END_SECONDS)
            raise
        if self._waits(run_id) and found["status"] not in ("running", "finished"):
            found["status"] = "waiting"
        return found

    def close(self) -> None:
        """Ask every run to stop, and wait until each has."""
        with self._lock:
            for run_id, future in self._futures.items():
                if not future.cancel() and not future.done():
                    with suppress(OSError):
                        self.store.request_cancel(run_id)
        self._pool.shutdown(wait=True)

    def _id(self, run: str) -> str:
        return run if run in self._futures else self.store.find(run).id

    def _waits(self, run_id: str) -> bool:
        future = self._futures.get(run_id)
        return future is not None and not future.done()

    def _require_room(self) -> None:
        waiting = sum(not future.done() for future in self._futures.values())
        if waiting >= MOST_WAITING:
            raise InputError("run", f"{waiting} unfinished runs", f"fewer than {MOST_WAITING}; wait, or cancel one")

    def _submit(self, run_id: str) -> None:
        self._futures[run_id] = self._pool.submit(self._execute, run_id)

    def _execute(self, run_id: str) -> None:
        # What ends a run without a report is noted in the store; only refused input leaves no run that could say it.
        try:
            self._engine.execute(self.store, run_id)
        except InputError:
            raise
        except PaperworksError:
            pass


def describe(record: RunRecord) -> dict[str, Any]:
    """A run for an assistant."""
    return {
        "run": record.id,
        "paper": record.slug,
        "status": record.status,
        "message": record.headline,
        "started": record.started,
        "seconds": record.seconds,
        "metrics": dict(record.metrics),
    }
