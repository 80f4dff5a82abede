"""What a job does, as events that a browser can follow and take up again where it lost them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from paperworks.page.database import Database, Job
from paperworks.runs.store import Store

ENDED = ("finished", "failed", "cancelled")
POLL_SECONDS = 0.3


@dataclass(frozen=True)
class JobEvent:
    """``kind``: ``status`` (of the job) or ``run`` (a line of the run's events); ``position``: where to go on."""

    position: int
    kind: str
    content: dict[str, Any]


class JobWatch:
    """Looks at a job again and again. ``after`` is the position of the last event that was seen."""

    def __init__(self, database: Database, store: Store, job_id: str, after: int = 0) -> None:
        self._database, self._store, self._job_id = database, store, job_id
        self._position = max(0, after)
        self._shown = ""
        self.ended = False

    def poll(self) -> list[JobEvent]:
        """What is new: of several progress events the newest. ``ended`` tells whether there will be more."""
        with self._database.reading() as session:
            job = session.get(Job, self._job_id)
        if job is None:
            self.ended = True
            return []
        # The status is read before the events: what was written before the end is given before it.
        new, self._position = _read(self._store, job.run_id, self._position)
        last = max((n for n, event in enumerate(new) if event["kind"] == "progress"), default=-1)
        found = [
            JobEvent(self._position, "run", event)
            for n, event in enumerate(new)
            if event["kind"] != "progress" or n == last
        ]
        if job.status != self._shown:
            self._shown = job.status
            found.append(JobEvent(self._position, "status", {"status": job.status, "message": job.message}))
        self.ended = job.status in ENDED
        return found


def job_events(database: Database, store: Store, job_id: str, after: int = 0) -> Iterator[JobEvent]:
    """Events of a job after a position (bytes of its events file), until it ends."""
    watch = JobWatch(database, store, job_id, after)
    while not watch.ended:
        yield from watch.poll()
        if not watch.ended:
            time.sleep(POLL_SECONDS)


def _read(store: Store, run_id: str | None, position: int) -> tuple[list[dict[str, Any]], int]:
    if run_id is None:
        return [], position
    for folder in (store.working, store.runs):
        try:
            with (folder / run_id / "events.jsonl").open("rb") as handle:
                handle.seek(position)
                new = handle.read()
        except FileNotFoundError:
            continue
        whole = new[: new.rfind(b"\n") + 1]
        events = []
        for line in whole.splitlines():
            try:
                events.append(json.loads(line))
            except ValueError:
                continue  # a killed process left half a line, and the next one wrote on
        return events, position + len(whole)
    return [], position
