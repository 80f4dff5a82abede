"""What a job does, as events that a browser can follow and take up again where it lost them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paperworks.page.database import Database, Job
from paperworks.page.jobs.storage import ENDED
from paperworks.page.jobs.workplace import PathHider, open_below
from paperworks.page.settings import Settings
from paperworks.runs.store import Store

POLL_SECONDS = 0.3


@dataclass(frozen=True)
class JobEvent:
    """``kind``: ``status`` (of the job) or ``run`` (a line of the run's events); ``position``: where to go on."""

    position: int
    kind: str
    content: dict[str, Any]


class JobWatch:
    """Looks at a job again and again. ``after`` is the position of the last event that was seen."""

    def __init__(self, database: Database, store: Store, settings: Settings, job_id: str, after: int = 0) -> None:
        self._database, self._store, self._job_id = database, store, job_id
        self._places: list[tuple[Path, tuple[str, ...]]] = [
            (settings.folder, ("work", job_id, kind)) for kind in ("working", "runs")
        ]
        self._places.append((store.root, ("runs",)))
        self._hide = PathHider(settings, store)
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
        new = self._read(job.run_id)
        last = max((n for n, event in enumerate(new) if event["kind"] == "progress"), default=-1)
        found = [
            JobEvent(self._position, "run", event)
            for n, event in enumerate(new)
            if event["kind"] != "progress" or n == last
        ]
        status = "cancelling" if job.status == "running" and job.cancel_requested else job.status
        if status != self._shown:
            self._shown = status
            found.append(JobEvent(self._position, "status", {"status": status, "message": job.message}))
        self.ended = job.status in ENDED
        return found

    def _read(self, run_id: str | None) -> list[dict[str, Any]]:
        if run_id is None:
            return []
        for root, parts in self._places:
            try:
                with open_below(root, (*parts, run_id, "events.jsonl")) as handle:
                    handle.seek(self._position)
                    new = handle.read()
            except OSError:
                continue  # it is elsewhere by now, or no plain file
            whole = new[: new.rfind(b"\n") + 1]
            self._position += len(whole)
            return [event for line in whole.splitlines() if (event := self._event(line)) is not None]
        return []

    def _event(self, line: bytes) -> dict[str, Any] | None:
        """An event as it is shown; None for half a line of a killed process, on which the next one wrote."""
        try:
            event = json.loads(self._hide(line.decode("utf-8", errors="replace")))
        except ValueError:
            return None
        return event if isinstance(event, dict) and isinstance(event.get("kind"), str) else None


def job_events(database: Database, store: Store, settings: Settings, job_id: str, after: int = 0) -> Iterator[JobEvent]:
    """Events of a job after a position (bytes of its events file), until it ends."""
    watch = JobWatch(database, store, settings, job_id, after)
    while not watch.ended:
        yield from watch.poll()
        if not watch.ended:
            time.sleep(POLL_SECONDS)
