"""The store of runs.

    <root>/working/<id>/   a run that is not finished: run.json, config.json, events.jsonl, lock, files/
    <root>/state/<id>/     its checkpoints
    <root>/runs/<id>/      a finished run, moved here in one step: the same, with report.json, report.html, figures/
    <root>/index.sqlite    an index of the finished runs, made again from the folders when it is missing or differs

A run in ``working`` is *running* while a process holds its lock, which the system releases even when the process is
killed. A folder that is no run, or whose files cannot be read, is *damaged*: it is listed and can be removed, and it
keeps no other run from being used.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from paperworks.errors import InputError, PaperworksError, nearest
from paperworks.runs.config import Config
from paperworks.runs.files import new_folder, require_writable, write_text
from paperworks.runs.index import Row, RunIndex
from paperworks.runs.report import Report
from paperworks.runs.run import Cancelled, RunFailed

WORTH_RESUMING = 10.0
"""Seconds; a run that is refused sooner after it was created is not kept."""
CLAIM_SECONDS = 2.0
"""How long a run that is held is waited for: longer than the moment for which a listing holds it."""
_REMOVED = ".removed-"
Status = Literal["finished", "running", "waiting", "interrupted", "cancelled", "failed", "damaged"]


class RunBusy(PaperworksError):
    """Another process is executing this run."""


@dataclass(frozen=True)
class RunRecord:
    """What is known of a run without opening its report. ``started`` is ISO 8601, UTC; ``seconds`` is working time."""

    id: str
    slug: str
    status: Status
    started: str
    seconds: float | None
    headline: str
    metrics: Mapping[str, float]
    folder: Path

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready content."""
        return asdict(self) | {"folder": str(self.folder)}


def home() -> Path:
    """Where Paperworks keeps runs and inputs: ``$PAPERWORKS_HOME``, or the platform's folder for user data."""
    chosen = os.environ.get("PAPERWORKS_HOME")
    if chosen:
        return Path(chosen).expanduser()
    import platformdirs

    return Path(platformdirs.user_data_dir("paperworks"))


class Store:
    """Creates, finishes, lists and finds runs below ``root``. Any number of processes may use one store at once."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = (root if root is not None else home()).absolute()
        self.runs = self.root / "runs"
        self.working = self.root / "working"
        self.states = self.root / "state"
        self._index = RunIndex(self.root / "index.sqlite")

    def create(self, slug: str, module: str, config: Config, out: Path | None = None) -> str:
        """Make a run that waits to be executed, to be published to ``out`` if given; returns its id."""
        for folder in (self.runs, self.working, self.states):
            folder.mkdir(parents=True, exist_ok=True)
        now = datetime.now(UTC)
        run_id = f"{slug}-{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
        if (self.runs / run_id).exists() or (self.working / run_id).exists():
            return self.create(slug, module, config, out)
        about = {
            "id": run_id,
            "slug": slug,
            "module": module,
            "started": now.isoformat(timespec="seconds"),
            "seconds": 0.0,
            "out": None if out is None else str(out.absolute()),
        }
        with new_folder(self.working / run_id, "run") as folder:
            (folder / "run.json").write_text(json.dumps(about, indent=1), encoding="utf-8")
            (folder / "config.json").write_text(config.model_dump_json(indent=1), encoding="utf-8")
            (folder / "files").mkdir()
        return run_id

    @contextmanager
    def claim(self, run_id: str) -> Iterator[Path]:
        """Hold an unfinished run, so that no other process executes it; yields its folder. Raises RunBusy."""
        import filelock

        folder = self.working / run_id
        if not folder.is_dir():
            raise InputError("run", run_id, "an unfinished run" + nearest(run_id, self._ids(self.working)))
        lock = filelock.FileLock(folder / "lock")
        try:
            lock.acquire(timeout=CLAIM_SECONDS)
        except filelock.Timeout:
            raise RunBusy(f"run {run_id} is being executed by another process") from None
        try:
            (folder / "error.json").unlink(missing_ok=True)
            (folder / "cancel").unlink(missing_ok=True)
            yield folder
        finally:
            lock.release()

    def state(self, run_id: str) -> Path:
        """The folder of a run's checkpoints."""
        return self.states / run_id

    def about(self, folder: Path) -> dict[str, Any]:
        """What ``run.json`` in a run's folder says."""
        return json.loads((folder / "run.json").read_text(encoding="utf-8"))

    def finish(self, run_id: str, report: Report, seconds: float) -> RunRecord:
        """Write the report and move the run into place. The caller holds the claim."""
        folder = self.working / run_id
        report.save(folder)
        about = self.about(folder)
        about["seconds"] = round(about["seconds"] + seconds, 3)
        write_text(folder / "run.json", json.dumps(about, indent=1))
        return self.adopt(run_id)

    def adopt(self, run_id: str) -> RunRecord:
        """Move a run into place whose folder in ``working`` is that of a finished run. The caller holds the claim."""
        folder = self.working / run_id
        _sync(folder)
        self.runs.mkdir(parents=True, exist_ok=True)
        os.rename(folder, self.runs / run_id)
        shutil.rmtree(self.state(run_id), ignore_errors=True)
        (self.runs / run_id / "lock").unlink(missing_ok=True)
        record = self._finished(run_id)
        self._index.update(add=[_row(record)])
        return record

    def stop(self, run_id: str, error: Exception, seconds: float) -> None:
        """Note the error by which an execution ended without a report. The run stays, and can be resumed."""
        folder = self.working / run_id
        about = self.about(folder)
        about["seconds"] = round(about["seconds"] + seconds, 3)
        write_text(folder / "run.json", json.dumps(about, indent=1))
        noted = {
            "status": "cancelled" if isinstance(error, Cancelled) else "failed",
            "message": str(error) or type(error).__name__,
            "detail": "".join(traceback.format_exception(error)),
            "input": [error.field, error.found, error.expected] if isinstance(error, InputError) else None,
        }
        write_text(folder / "error.json", json.dumps(noted, indent=1))

    def error(self, run_id: str) -> PaperworksError | None:
        """The error by which the last execution of an unfinished run ended; None if it was killed, or never ended."""
        try:
            noted = json.loads((self.working / run_id / "error.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        if noted["status"] == "cancelled":
            return Cancelled(noted["message"])
        if noted["input"]:
            return InputError(*noted["input"])
        failure = RunFailed(noted["message"])
        failure.add_note(noted["detail"])
        return failure

    def discard_untouched(self, run_id: str) -> None:
        """Remove an unfinished run that has no checkpoint, or that was created within ``WORTH_RESUMING`` seconds.

        The time since it was created counts: the seconds that it has worked are lost with a process that is killed.
        """
        folder, state = self.working / run_id, self.state(run_id)
        if not folder.is_dir():
            return
        age = datetime.now(UTC) - datetime.fromisoformat(self.about(folder)["started"])
        if age.total_seconds() < WORTH_RESUMING or not any(path.is_file() for path in state.rglob("*")):
            self.remove(run_id)

    def remove(self, run_id: str) -> int:
        """Remove a run, finished or not, with its checkpoints; returns how many bytes that frees.

        It is gone in one step: a kill leaves the whole run, or a rest that the next listing clears away. Raises RunBusy
        while a process executes it.
        """
        size = self.size(run_id)
        if (self.working / run_id).is_dir():
            with self.claim(run_id) as folder:
                os.rename(folder, self.working / f"{_REMOVED}{run_id}")
        else:
            os.rename(self.runs / run_id, self.runs / f"{_REMOVED}{run_id}")
        self._sweep()
        return size

    def size(self, run_id: str) -> int:
        """Bytes that a run takes, checkpoints included."""
        places = (folder / run_id for folder in (self.runs, self.working, self.states))
        return sum(path.lstat().st_size for place in places for path in place.rglob("*") if not path.is_dir())

    def request_cancel(self, run_id: str) -> None:
        """Ask the process that executes a run, whichever it is, to stop at its next check."""
        (self.working / run_id / "cancel").touch()

    def publish(self, run_id: str, out: Path) -> None:
        """Copy what the user takes away (files, report.html, report.json) to ``out``, in one step.

        Raises InputError, which says where the result is, if ``out`` is taken or cannot be written.
        """
        folder = self.runs / run_id
        where = f"; the result is kept: paperworks open {run_id}, or paperworks resume {run_id} --out FOLDER"
        try:
            with new_folder(out, "out") as target:
                shutil.copytree(folder / "files", target, dirs_exist_ok=True)
                for name in ("report.html", "report.json"):
                    shutil.copy2(folder / name, target / name)
        except InputError as error:
            raise InputError("out", error.found, error.expected + where) from None
        except (OSError, shutil.Error) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise InputError("out", f"{out}, which cannot be written ({reason})", "another folder" + where) from None

    @staticmethod
    def require_writable(out: Path) -> None:
        """Raise InputError if a run could not be published to ``out`` now."""
        require_writable(out, "out")

    def records(self, slug: str | None = None) -> list[RunRecord]:
        """All runs, newest first, and after them the damaged ones (only where no slug is asked for)."""
        self._sweep()
        found = [*self._finished_records(), *self._unfinished_records()]
        chosen = [r for r in found if slug is None or r.slug == slug]
        return sorted(chosen, key=lambda r: (r.started, r.id), reverse=True)

    def find(self, reference: str) -> RunRecord:
        """The run with this id, with an id that starts or ends with it, or the newest (``last``)."""
        records = self.records()
        exact = [r for r in records if r.id == reference]
        records = [r for r in records if r.status != "damaged"]  # those only by their whole name
        if reference == "last" and records:
            return records[0]
        matches = exact or [
            r for r in records if reference and (r.id.startswith(reference) or r.id.endswith(reference))
        ]
        if len(matches) == 1:
            return matches[0]
        if matches:
            raise InputError(
                "run",
                f"{reference!r}, which fits {len(matches)} runs",
                f"one of {', '.join(r.id for r in matches[:5])}",
            )
        hint = nearest(reference, [r.id for r in records])
        raise InputError(
            "run",
            repr(reference),
            f"the id of a run{hint}; see 'paperworks runs'" if records else "a run; there are none yet",
        )

    def rebuild_index(self) -> int:
        """Make the index again from the folders; returns how many runs it holds."""
        records = [r for r in map(self._finished, self._ids(self.runs)) if r.status == "finished"]
        self._index.update(add=map(_row, records), remove=[row[0] for row in self._index.rows()])
        return len(records)

    def _finished_records(self) -> list[RunRecord]:
        if not self.runs.is_dir():
            return []
        present = set(self._ids(self.runs))
        rows = {row[0]: row for row in self._index.rows()}
        known = [
            RunRecord(row[0], row[1], "finished", *row[2:], self.runs / row[0])  # type: ignore[misc]
            for row in rows.values()
            if row[0] in present
        ]
        missing = [self._finished(run_id) for run_id in sorted(present - set(rows))]
        whole = [record for record in missing if record.status == "finished"]
        if whole or set(rows) - present:
            self._index.update(add=map(_row, whole), remove=set(rows) - present)
        return known + missing

    def _sweep(self) -> None:
        """Remove what a kill between two steps leaves behind: checkpoints of finished runs, rests of removed ones."""
        for run_id in self._ids(self.states):
            if (self.working / f"{_REMOVED}{run_id}").is_dir() or (self.runs / run_id).is_dir():
                shutil.rmtree(self.state(run_id), ignore_errors=True)
        for folder in (self.working, self.runs):
            for rest in folder.glob(f"{_REMOVED}*"):
                shutil.rmtree(rest, ignore_errors=True)

    def _unfinished_records(self) -> list[RunRecord]:
        records = []
        for run_id in self._ids(self.working):
            folder = self.working / run_id
            try:
                about = self.about(folder)
                status, message = self._status(folder)
                slug, started, seconds = about["slug"], about["started"], about["seconds"] or None
            except (OSError, ValueError, LookupError, TypeError) as error:
                if folder.is_dir():  # else it finished between the listing and the look
                    records.append(_damaged(folder, error))
                continue
            records.append(RunRecord(run_id, slug, status, started, seconds, message, {}, folder))
        return records

    def _status(self, folder: Path) -> tuple[Status, str]:
        import filelock

        lock = filelock.FileLock(folder / "lock")
        try:
            with lock.acquire(timeout=0):
                pass
        except filelock.Timeout:
            return "running", _last_event(folder)
        except OSError:
            pass  # a store that is only read: nobody executes its runs from here
        if (folder / "error.json").exists():
            error = json.loads((folder / "error.json").read_text(encoding="utf-8"))
            return error["status"], error["message"]
        return ("interrupted" if (folder / "events.jsonl").exists() else "waiting"), _last_event(folder)

    def _finished(self, run_id: str) -> RunRecord:
        folder = self.runs / run_id
        try:
            about = self.about(folder)
            report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
            slug, started, seconds = about["slug"], about["started"], about["seconds"]
            return RunRecord(
                run_id, slug, "finished", started, seconds, report["headline"], dict(report["metrics"]), folder
            )
        except (OSError, ValueError, LookupError, TypeError) as error:
            return _damaged(folder, error)

    @staticmethod
    def _ids(folder: Path) -> list[str]:
        if not folder.is_dir():
            return []
        return sorted(e.name for e in os.scandir(folder) if e.is_dir() and not e.name.startswith("."))


def _damaged(folder: Path, error: Exception) -> RunRecord:
    reason = (
        f"no {Path(error.filename).name}"
        if isinstance(error, FileNotFoundError)
        else f"{type(error).__name__}: {error}"
    )
    return RunRecord(folder.name, "", "damaged", "", None, f"{folder} is not a whole run ({reason})", {}, folder)


def _row(record: RunRecord) -> Row:
    return record.id, record.slug, record.started, record.seconds, record.headline, dict(record.metrics)


def _last_event(folder: Path) -> str:
    """The text of the last event that says what the run does or did."""
    try:
        lines = (folder / "events.jsonl").read_bytes().splitlines()[-50:]
    except FileNotFoundError:
        return "waiting"
    for line in reversed(lines):
        try:
            event = json.loads(line)
        except ValueError:
            continue  # the last line of a killed process may be cut off
        if event["kind"] == "progress":
            return f"{event['description']} {event['done']}/{event['total'] or '?'}"
        if event["kind"] == "step":
            return str(event["text"])
    return "started"


def _sync(folder: Path) -> None:
    """Flush a folder's files to the disk before the rename that says they are complete."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as handle:
                os.fsync(handle.fileno())
