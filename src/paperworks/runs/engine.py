"""Engines: where a run is executed. This process, or a child process with limits; ``runs.cluster`` has one for Ray."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from paperworks.errors import InputError
from paperworks.runs.claims import paper_claims
from paperworks.runs.config import build_config
from paperworks.runs.limits import LOOK_SECONDS, LimitWatch, RunLimits
from paperworks.runs.processes import ChildProcess, on_interrupt, python_module
from paperworks.runs.recipe import load_recipe
from paperworks.runs.report import Report
from paperworks.runs.run import Cancelled, EventTail, Listener, Run, stop_on_interrupt
from paperworks.runs.store import RunFailed, RunRecord, Store
from paperworks.runs.usage import UsageMeter, bytes_below, versions

if TYPE_CHECKING:
    from paperworks.runs.cluster.work import Cluster


class Engine(Protocol):
    """Executes a run that the store holds. All that an engine needs to send elsewhere is the run's folder."""

    def execute(self, store: Store, run_id: str, listener: Listener | None = None) -> RunRecord:
        """Execute to the end; returns the finished run.

        Raises InputError for input that cannot be used, Cancelled, or RunFailed. The run stays unfinished and can be
        executed again from its checkpoints. After an InputError a run without checkpoints, or created within ten
        seconds, is removed: there is nothing to go on from.
        """
        ...


class LocalEngine:
    """Executes runs in this process. Ctrl-C asks the run to stop at its next check; a second one stops it at once."""

    def execute(self, store: Store, run_id: str, listener: Listener | None = None) -> RunRecord:
        """See ``Engine.execute``."""
        try:
            return execute_here(store, run_id, listener)
        except InputError:
            store.discard_untouched(run_id)
            raise


@dataclass(frozen=True)
class Launch:
    """How a child process is started: its command, all of its environment, and the folder in which it starts.

    ``ended`` is called when the child and all that it started have ended, before anything that they wrote is read.
    """

    command: Sequence[str]
    environment: Mapping[str, str]
    folder: Path
    ended: Callable[[], None] = lambda: None


class ChildEngine:
    """Executes runs in a child process with limits.

    The child ends when this process does, even by SIGKILL; the run can then be executed again from its checkpoints.

    Parameters
    ----------
    seconds : wall-clock limit, None for none.
    memory_bytes : limit of the resident memory of the child and its children together, None for none. It is looked at
        every 50 ms, so a single huge allocation can pass it for that long.
    disk_bytes : limit of what the run's files and checkpoints take, None for none; looked at every second.
    launch : how the child for a run of a store is started, with the arguments of ``paperworks.runs.child``. It executes
        that in the end; by default it is just that, with this process's environment. A child that is launched has a
        store of its own: the disk limit is that of the whole store.
    """

    def __init__(
        self,
        seconds: float | None = None,
        memory_bytes: int | None = None,
        disk_bytes: int | None = None,
        launch: Callable[[Store, str], Launch] | None = None,
    ) -> None:
        self.limits = RunLimits(seconds, memory_bytes, disk_bytes)
        self.launch = launch

    def execute(self, store: Store, run_id: str, listener: Listener | None = None) -> RunRecord:
        """See ``Engine.execute``. RunFailed names the limit that was passed."""
        folder = store.working / run_id
        with store.claim(run_id):
            pass  # raises early if the run is unknown or busy
        events = EventTail(folder / "events.jsonl", store.runs / run_id / "events.jsonl", listener)
        interrupts: list[None] = []
        passed = ""
        process, ended = self._child(store, run_id)
        measured = (folder, store.state(run_id)) if self.launch is None else (store.root,)
        limits = LimitWatch(self.limits, *measured)
        with on_interrupt(lambda: interrupts.append(None)), process as child:
            for _ in child.watch(LOOK_SECONDS):
                events.forward()
                passed = limits.passed(child.pid)
                if passed or len(interrupts) > 1:
                    break
                if interrupts:
                    store.request_cancel(run_id)
        ended()
        events.forward()
        if (store.runs / run_id).is_dir():
            return store.find(run_id)
        if len(interrupts) > 1:
            raise KeyboardInterrupt
        if passed:
            failure = RunFailed(passed)
            store.stop(run_id, failure, limits.elapsed)
            raise failure
        error = store.error(run_id) or RunFailed(f"the run's process ended with {child.ending}")
        if isinstance(error, InputError):
            store.discard_untouched(run_id)
        raise error

    def _child(self, store: Store, run_id: str) -> tuple[ChildProcess, Callable[[], None]]:
        if self.launch is None:
            return ChildProcess(python_module("paperworks.runs.child", str(store.root), run_id)), lambda: None
        given = self.launch(store, run_id)
        child = ChildProcess(given.command, environment=given.environment, inherit=False, folder=given.folder)
        return child, given.ended


def execute_here(
    store: Store,
    run_id: str,
    listener: Listener | None = None,
    *,
    cluster: Cluster | None = None,
    places: Mapping[str, str | list[str]] | None = None,
) -> RunRecord:
    """Execute a run in this process; after any error it stays in the store, with the error.

    ``cluster`` is for recipes that divide their work. ``places`` are values of options that name files, where those
    files lie elsewhere than the run's options say; the report shows the options.
    """
    with store.claim(run_id) as folder:
        about = store.about(folder)
        meter = UsageMeter()
        run = Run(folder, state=store.state(run_id), listener=listener, resumed=(folder / "events.jsonl").exists())
        run.emit("started", resumed=run.resumed)
        try:
            recipe = load_recipe(about["slug"], about["module"])
            own = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            config = build_config(recipe.config, own | dict(places or {}))
            run.seed = config.seed
            run.cluster = cluster
            with meter, stop_on_interrupt(run, "stopping at the next checkpoint"):
                report = recipe.function(config, run)
            with stop_on_interrupt(run, "the report is being written"):
                _check_report(report, run)
                usage = {
                    "seconds": round(about["seconds"] + meter.seconds, 2),
                    "peak memory, bytes": meter.peak_bytes,
                    "files, bytes": bytes_below(run.files),
                    **dict(report.usage),
                    **versions(),
                }
                options = config.model_dump(mode="json") | {name: own[name] for name in places or {}}
                origin = {"paper": about["slug"], "run": run_id, "options": options}
                origin |= {"claims": claims} if (claims := paper_claims(recipe.module)) else {}
                run.emit("finished", text=report.headline)
                return store.finish(run_id, replace(report, usage=usage, origin=origin), meter.seconds)
        except Exception as error:
            with suppress(OSError):  # on a full disk the note fails as well: the first error is the one to raise
                store.stop(run_id, error, meter.seconds)
                if isinstance(error, Cancelled):
                    run.emit("cancelled")
                else:
                    kind = "input" if isinstance(error, InputError) else "error"
                    run.emit("failed", text=str(error) or type(error).__name__, error=kind)
            raise


def _check_report(report: object, run: Run) -> None:
    if not isinstance(report, Report):
        raise TypeError(f"a recipe must return a Report, not {type(report).__name__}")
    for file in report.files:
        if not (run.files / file.path).exists():
            raise FileNotFoundError(f"the report names {file.path!r}, which is not in the run's files")
