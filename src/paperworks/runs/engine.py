"""Engines: where a run is executed. This process, or a child process with limits; Ray fits behind the same protocol."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from paperworks.errors import InputError, PaperworksError
from paperworks.runs.config import build_config
from paperworks.runs.recipe import load_recipe
from paperworks.runs.report import Report
from paperworks.runs.run import Cancelled, Listener, Run
from paperworks.runs.store import RunRecord, Store
from paperworks.runs.usage import UsageMeter, bytes_below, versions


class RunFailed(PaperworksError):
    """A run ended without a report; the message says why."""


class Engine(Protocol):
    """Executes a run that the store holds. All that an engine needs to send elsewhere is the run's folder."""

    def execute(self, store: Store, run_id: str, listener: Listener | None = None) -> RunRecord:
        """Execute to the end; returns the finished run.

        Raises InputError for input that cannot be used, Cancelled, or RunFailed. In each case the run stays unfinished
        and can be executed again from its checkpoints.
        """
        ...


class LocalEngine:
    """Executes runs in this process. Ctrl-C asks the run to stop at its next check; a second one stops it at once."""

    def execute(self, store: Store, run_id: str, listener: Listener | None = None) -> RunRecord:
        """See ``Engine.execute``."""
        with store.claim(run_id) as folder:
            about = store.about(folder)
            recipe = load_recipe(about["slug"], about["module"])
            config = build_config(recipe.config, json.loads((folder / "config.json").read_text(encoding="utf-8")))
            state = store.state(run_id)
            run = Run(
                folder,
                seed=config.seed,
                state=state,
                listener=listener,
                resumed=(folder / "events.jsonl").exists(),
            )
            meter = UsageMeter()
            run.emit("started", resumed=run.resumed)
            try:
                with meter, _stop_on_signal(run):
                    report = recipe.function(config, run)
                _check_report(report, run)
            except Cancelled as error:
                store.stop(run_id, "cancelled", str(error), meter.seconds)
                run.emit("cancelled")
                raise
            except Exception as error:
                message = str(error) or type(error).__name__
                kind = "input" if isinstance(error, InputError) else "error"
                store.stop(run_id, "failed", message, meter.seconds, traceback.format_exc())
                run.emit("failed", text=message, error=kind)
                raise
            usage = {
                "seconds": round(about["seconds"] + meter.seconds, 2),
                "peak memory, bytes": meter.peak_bytes,
                "files, bytes": bytes_below(run.files),
                **dict(report.usage),
                **versions(),
            }
            origin = {"paper": about["slug"], "run": run_id, "options": config.model_dump(mode="json")}
            run.emit("finished", text=report.headline)
            return store.finish(run_id, replace(report, usage=usage, origin=origin), meter.seconds)


class ChildEngine:
    """Executes runs in a child process with limits.

    Parameters
    ----------
    seconds : wall-clock limit, None for none.
    memory_bytes : limit of the resident memory of the child and its children together, None for none. It is looked at
        every 50 ms, so a single huge allocation can pass it for that long.
    disk_bytes : limit of what the run's files and checkpoints take, None for none; looked at every second.

    The child ends when this process does, even by SIGKILL; the run can then be executed again from its checkpoints.
    """

    def __init__(
        self, seconds: float | None = None, memory_bytes: int | None = None, disk_bytes: int | None = None
    ) -> None:
        if seconds is not None and seconds <= 0:
            raise InputError("time limit", seconds, "more than 0 seconds")
        if memory_bytes is not None and memory_bytes <= 0:
            raise InputError("memory limit", memory_bytes, "more than 0 bytes")
        if disk_bytes is not None and disk_bytes <= 0:
            raise InputError("disk limit", disk_bytes, "more than 0 bytes")
        self.seconds = seconds
        self.memory_bytes = memory_bytes
        self.disk_bytes = disk_bytes

    def execute(self, store: Store, run_id: str, listener: Listener | None = None) -> RunRecord:
        """See ``Engine.execute``. RunFailed names the limit that was passed."""
        folder = store.working / run_id
        with store.claim(run_id):
            pass  # raises early if the run is unknown or busy
        events = _Tail(folder / "events.jsonl", store.runs / run_id / "events.jsonl", listener)
        command = [sys.executable, "-m", "paperworks.runs.child", str(store.root), run_id, str(os.getpid())]
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
        )
        errors: list[bytes] = []
        assert child.stderr is not None
        reader = threading.Thread(target=lambda stream: errors.append(stream.read()), args=(child.stderr,), daemon=True)
        reader.start()
        verdict = ""
        asked = False
        try:
            with _Interrupts() as interrupts:
                started = looked = time.monotonic()
                while child.poll() is None:
                    time.sleep(0.05)
                    events.forward()
                    if interrupts.count and not asked:
                        asked = True
                        store.request_cancel(run_id)
                    if interrupts.count > 1:
                        break
                    verdict = self._over(child.pid, time.monotonic() - started)
                    if not verdict and time.monotonic() - looked > 1:
                        verdict = self._over_disk(folder, store.state(run_id))
                        looked = time.monotonic()
                    if verdict:
                        break
        finally:
            _kill_group(child)
        reader.join(timeout=5)
        events.forward()
        if (store.runs / run_id).is_dir():
            return store.find(run_id)
        if verdict:
            store.stop(run_id, "failed", verdict, time.monotonic() - started)
            raise RunFailed(verdict)
        raise self._failure(store.working / run_id, child.returncode, b"".join(errors).decode(errors="replace"))

    def _over(self, pid: int, elapsed: float) -> str:
        if self.seconds is not None and elapsed > self.seconds:
            return (
                f"time limit: found more than {self.seconds:g} seconds; expected the run to end before (--time-limit)"
            )
        if self.memory_bytes is not None:
            used = _tree_bytes(pid)
            if used > self.memory_bytes:
                return (
                    f"memory limit: found {used / 2**20:.0f} MiB in use; "
                    f"expected at most {self.memory_bytes / 2**20:.0f} MiB (--memory-limit)"
                )
        return ""

    def _over_disk(self, *folders: Path) -> str:
        if self.disk_bytes is None:
            return ""
        used = sum(bytes_below(folder) for folder in folders if folder.is_dir())
        if used <= self.disk_bytes:
            return ""
        return f"disk limit: found {used / 2**20:.0f} MiB written; expected at most {self.disk_bytes / 2**20:.0f} MiB"

    @staticmethod
    def _failure(folder: Path, code: int, stderr: str) -> PaperworksError:
        try:
            error = json.loads((folder / "error.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            if code < 0:
                return RunFailed(f"the run's process was ended by signal {-code} ({signal.Signals(-code).name})")
            last = stderr.strip().splitlines()[-1:] or ["no message"]
            return RunFailed(f"the run's process ended with code {code}: {last[0]}")
        if error["status"] == "cancelled":
            return Cancelled(error["message"])
        failure = RunFailed(error["message"])
        if error["detail"]:
            failure.add_note(error["detail"])
        return failure


def _check_report(report: object, run: Run) -> None:
    if not isinstance(report, Report):
        raise TypeError(f"a recipe must return a Report, not {type(report).__name__}")
    for file in report.files:
        if not (run.files / file.path).exists():
            raise FileNotFoundError(f"the report names {file.path!r}, which is not in the run's files")


@contextmanager
def _stop_on_signal(run: Run) -> Iterator[None]:
    """In the main thread: the first SIGINT or SIGTERM asks the run to stop, the second interrupts it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if run.cancelled:
            raise KeyboardInterrupt
        run.cancel()
        run.emit("stopping", text="stopping at the next checkpoint; once more stops at once")

    before = {s: signal.signal(s, handle) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Interrupts:
    """Counts SIGINTs and SIGTERMs instead of raising, while a child works."""

    def __init__(self) -> None:
        self.count = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> _Interrupts:
        def handle(number: int, frame: FrameType | None) -> None:
            self.count += 1

        if threading.current_thread() is threading.main_thread():
            self._before = {s: signal.signal(s, handle) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


class _Tail:
    """Hands the lines that another process appends to an events file to a listener."""

    def __init__(self, path: Path, moved: Path, listener: Listener | None) -> None:
        self._path, self._moved, self._listener = path, moved, listener
        self._offset = path.stat().st_size if path.exists() else 0

    def forward(self) -> None:
        if self._listener is None:
            return
        for path in (self._path, self._moved):
            try:
                with path.open("rb") as handle:
                    handle.seek(self._offset)
                    new = handle.read()
            except FileNotFoundError:
                continue
            whole = new[: new.rfind(b"\n") + 1]
            self._offset += len(whole)
            for line in whole.splitlines():
                self._listener(json.loads(line))
            return


def _tree_bytes(pid: int) -> int:
    import psutil

    total = 0
    try:
        parent = psutil.Process(pid)
        for process in [parent, *parent.children(recursive=True)]:
            try:
                total += process.memory_info().rss
            except psutil.NoSuchProcess:
                continue
    except psutil.NoSuchProcess:
        return 0
    return total


def _kill_group(child: subprocess.Popen[bytes]) -> None:
    """End the child and whatever it started (it leads its own session)."""
    if child.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
    child.wait()
