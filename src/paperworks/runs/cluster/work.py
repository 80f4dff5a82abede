"""Work on a Ray cluster: folders that go to a node, what is done there, and how this machine's folders follow."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paperworks.runs.cluster.address import alive_nodes, join, require_room, require_version
from paperworks.runs.cluster.host import Look, WorkHost, files_below, listing_digest
from paperworks.runs.files import PARTIAL, remove
from paperworks.runs.limits import RunLimits

CHUNK_BYTES = 8 * 2**20
"""How much of a file travels at once."""
LOOK_SECONDS = 0.25
"""How often a node is asked what has changed."""
SILENT_SECONDS = 30.0
"""How long a node may not answer before what it does is given to another one."""
GROWING = "events.jsonl"
"""Name of files to which lines are added, and nothing else."""


@dataclass(frozen=True)
class Work:
    """A module that is run in copies of folders.

    Parameters
    ----------
    name : for messages.
    module, arguments : ``python -m module arguments``, started in the copies' root; ``{root}`` stands for that root.
    folders : folders by their places below the root. They are sent, and follow what happens there, also while it does.
        A file ``cancel`` that appears in one of them here is made there.
    inputs : files and folders by their places below the root, which are sent only.
    results : further folders of the root, that are there when the work has ended well, and where they go.
    cpus, gpus : what of a node is kept for it.
    limits : of the child that works.
    """

    name: str
    module: str
    arguments: Sequence[str]
    folders: Mapping[str, Path]
    inputs: Mapping[str, Path] = field(default_factory=dict)
    results: Mapping[str, Path] = field(default_factory=dict)
    cpus: float = 1.0
    gpus: float = 0.0
    limits: RunLimits = field(default_factory=RunLimits)


@dataclass(frozen=True)
class Ended:
    """How work ended: its process's exit ``code`` (None: it has none), how in words, and the limit it ``passed``."""

    code: int | None
    ending: str
    passed: str = ""


class Lost(Exception):
    """A node, or the process on it that held the work, is gone."""


class Silent(Lost):
    """It does not answer now; it may live."""


Step = Generator[Any, Any, Ended]
"""Work under way: it yields references of Ray, and is sent their values."""


class Cluster:
    """A Ray cluster that this process is in while the ``with`` block lasts.

    Parameters
    ----------
    address : ``HOST:PORT`` of its head; None for that of ``RAY_ADDRESS``, else for one of this machine alone.
    retries : how often work is given to another worker after its own was lost.
    """

    def __init__(self, address: str | None = None, retries: int = 3) -> None:
        self.address, self.retries = address, retries
        self._joined = False

    def __enter__(self) -> Cluster:
        self._joined = join(self.address)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._joined:
            import ray

            ray.shutdown()

    def execute(
        self,
        works: Iterable[Work],
        on_tick: Callable[[], None] = lambda: None,
        on_note: Callable[[Work, str], None] = lambda work, text: None,
        on_end: Callable[[Work, Ended], None] = lambda work, ended: None,
    ) -> dict[str, Ended]:
        """Do all of the work, as much of it at once as the cluster has room for; returns how each ended, by its name.

        ``on_tick`` is called some times a second; an exception that it raises ends all work and comes out here.
        ``on_note`` gets what happens to a work: where it runs, that its worker was lost; ``on_end`` each work that has
        ended, at once. What ended well is here, and is not done again when a node is lost.

        Raises InputError if no node has the CPUs and GPUs that a work asks for.
        """
        import ray

        works = list(works)
        for work in works:
            require_room(work.cpus, work.gpus)
        ended: dict[str, Ended] = {}
        tasks = [_Task(work, self.retries, on_note) for work in works]
        waiting = {task.advance(): task for task in tasks}
        pauses: list[tuple[float, _Task]] = []
        try:
            while waiting or pauses:
                ready: list[Any] = []
                if waiting:
                    ready, _ = ray.wait(list(waiting), num_returns=1, timeout=LOOK_SECONDS / 5)
                else:
                    time.sleep(LOOK_SECONDS / 5)
                now = time.monotonic()
                due = [task for when, task in pauses if when <= now]
                pauses = [(when, task) for when, task in pauses if when > now]
                for task, reference in [(waiting.pop(r), r) for r in ready] + [(task, None) for task in due]:
                    try:
                        following = task.advance(reference)
                    except StopIteration as stop:
                        ended[task.work.name] = stop.value
                        on_end(task.work, stop.value)
                        continue
                    if following is None:
                        pauses.append((now + LOOK_SECONDS, task))
                    else:
                        waiting[following] = task
                on_tick()
        finally:
            for task in tasks:
                task.drop()
        return ended


class _Task:
    """One work and the actor that holds it at present."""

    def __init__(self, work: Work, retries: int, on_note: Callable[[Work, str], None]) -> None:
        self.work = work
        self._retries, self._on_note = retries, on_note
        self._host: Any = None
        self._steps = self._all_attempts()
        self._started = False

    def advance(self, reference: Any = None) -> Any:
        """Go on, with the value of a reference if one is ready; returns the next one, or None for a pause."""
        import ray

        if reference is None:
            return next(self._steps)
        try:
            value = ray.get(reference)
        except ray.exceptions.RayTaskError:
            raise  # a fault of the host's code
        except ray.exceptions.RayError as error:
            kind = Silent if isinstance(error, ray.exceptions.ActorUnavailableError) else Lost
            return self._steps.throw(kind(str(error).partition("\n")[0] or type(error).__name__))
        return self._steps.send(value)

    def drop(self) -> None:
        """End what is under way on a node."""
        import ray

        if self._host is not None:
            with suppress(Exception):
                ray.kill(self._host)
            self._host = None

    def _all_attempts(self) -> Step:
        lost = ""
        for attempt in range(self._retries + 1):
            try:
                return (yield from self._attempt())
            except Lost as error:
                lost = str(error)
                self.drop()
                if attempt < self._retries:
                    self._on_note(self.work, f"its worker was lost ({lost}); another one goes on")
        return Ended(None, f"a lost worker, {self._retries + 1} times: {lost}")

    def _attempt(self) -> Step:
        work = self.work
        host = self._host = _actor(work)
        where = yield host.about.remote()
        require_version(f"the node {where['node']}", where["version"])  # it may have joined after the first look
        self._on_note(work, f"on the node {where['node']}")
        yield host.make.remote([*work.folders])
        for place, source in work.inputs.items():
            yield from self._send(host, place, source)
        for place, folder in work.folders.items():
            _cut_last_line(folder / GROWING)
            yield from self._send(host, place, folder)
        if any((folder / "cancel").exists() for folder in work.folders.values()):
            self.drop()
            return Ended(None, "it was cancelled before it began")
        yield host.start.remote(work.module, list(work.arguments), work.limits, [*work.folders])
        while True:
            for place, folder in work.folders.items():
                if (folder / "cancel").exists():  # again each time: a run removes it while it starts
                    yield host.touch.remote(f"{place}/cancel")
            look = yield from self._look(host)
            if look.places.issuperset(work.folders):  # else it finishes, and moves them away
                yield from self._follow(host, look, work.folders)
            if look.ended:
                break
            yield None
        if look.code == 0 and work.results:
            yield from self._follow(host, (yield host.look.remote([*work.results])), work.results)
        yield host.close.remote()
        self.drop()
        return Ended(look.code, look.ended, look.passed)

    def _look(self, host: Any) -> Generator[Any, Any, Look]:
        """A look; a node that does not answer for a moment is asked again."""
        since = time.monotonic()
        while True:
            try:
                return (yield host.look.remote())
            except Silent:
                if time.monotonic() - since > SILENT_SECONDS:
                    raise
            yield None

    def _send(self, host: Any, place: str, source: Path) -> Generator[Any, Any, None]:
        files = [(source, place)]
        if source.is_dir():
            yield host.make.remote([place])
            files = [(path, f"{place}/{path.relative_to(source)}") for path, _ in files_below(source)]
        for path, target in files:
            with path.open("rb") as handle:
                data = handle.read(CHUNK_BYTES)
                yield host.write.remote(target, data)
                while data := handle.read(CHUNK_BYTES):
                    yield host.write.remote(target, data, True)

    def _follow(self, host: Any, look: Look, folders: Mapping[str, Path]) -> Generator[Any, Any, None]:
        """Make this machine's folders what those of the host are.

        All that has changed is fetched first, and then put in place in the order in which it was written there: if this
        process is killed, the folder is as it was there at some moment.
        """
        fetched: list[tuple[Path, Path]] = []
        for place, folder in folders.items():
            for name, size in look.changed:
                if not name.startswith(f"{place}/"):
                    continue
                target = folder / name.removeprefix(f"{place}/")
                target.parent.mkdir(parents=True, exist_ok=True)
                grows = target.name == GROWING and target.exists() and target.stat().st_size <= size
                aside = target if grows else target.with_name(f".{target.name}{PARTIAL}")
                with aside.open("ab" if grows else "wb") as out:
                    while (at := out.tell()) < size:
                        out.write((yield host.read.remote(name, at, min(CHUNK_BYTES, size - at))))
                if not grows:
                    fetched.append((aside, target))
        for aside, target in fetched:
            os.replace(aside, target)
        for place, folder in folders.items():
            there = {name.removeprefix(f"{place}/") for name in look.files if name.startswith(f"{place}/")}
            for path, _ in list(files_below(folder)):
                if str(path.relative_to(folder)) not in there and path.name != "cancel":
                    remove(path)


def _actor(work: Work) -> Any:
    import ray

    kept = {"num_cpus": work.cpus, "num_gpus": work.gpus, "max_restarts": 0, "scheduling_strategy": "SPREAD"}
    return ray.remote(WorkHost).options(**kept).remote()


def seen_by_all(paths: Iterable[Path]) -> dict[Path, bool]:
    """Whether each file or folder is on every node of the cluster under the same path, as on a shared file system."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    digests = {str(path): listing_digest(path) for path in paths}
    if not digests:
        return {}
    asked = [
        ray.remote(num_cpus=0)(_sees)
        .options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False))
        .remote(digests)
        for node in alive_nodes()
    ]
    answers = ray.get(asked)
    return {Path(path): all(answer[path] for answer in answers) for path in digests}


def _sees(digests: Mapping[str, str]) -> dict[str, bool]:
    found = {}
    for path, digest in digests.items():
        try:
            found[path] = listing_digest(Path(path)) == digest
        except OSError:
            found[path] = False
    return found


def _cut_last_line(path: Path) -> None:
    """Without the end of a line that a lost worker had not finished."""
    with suppress(FileNotFoundError), path.open("r+b") as handle:
        handle.truncate(handle.read().rfind(b"\n") + 1)
