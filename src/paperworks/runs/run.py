"""What a recipe is handed besides its options: folders, progress, seeded generators, and whether to stop."""

from __future__ import annotations

import json
import logging
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from paperworks.errors import PaperworksError
from paperworks.parameters import check_seed
from paperworks.runs.files import remove
from paperworks.runs.processes import on_interrupt

if TYPE_CHECKING:
    import numpy as np
    import torch

    from paperworks.runs.cluster.work import Cluster

T = TypeVar("T")
Event = dict[str, Any]
Listener = Callable[[Event], None]

PROGRESS_SECONDS = 0.25
"""A progress event is written at most this often (and at the first and last item)."""


class Cancelled(PaperworksError):
    """The user asked the run to stop. Its folder stays, and ``paperworks resume`` goes on from its last checkpoint."""

    def __init__(self, message: str = "the run was asked to stop") -> None:
        super().__init__(message)


class RunFailed(PaperworksError):
    """A run ended without a report; the message says why."""


class Progress(Protocol):
    """The signature of ``Run.progress``, which library functions take as an optional argument."""

    def __call__(self, iterable: Iterable[T], description: str, total: int | None = None) -> Iterable[T]:
        """Iterate over ``iterable`` and report each item as one step of ``description``."""
        ...


def no_progress(iterable: Iterable[T], description: str, total: int | None = None) -> Iterable[T]:
    """A ``Progress`` that reports nothing."""
    return iterable


class Run:
    """One execution of a recipe or of a study.

    Attributes
    ----------
    files : folder for what the user takes away. It is moved into place when the run finishes.
    state : folder for checkpoints. It outlives a kill, comes back on resume, and goes when the run finishes.
    seed : the run's seed.
    log : a ``logging.Logger`` whose records become events.
    resumed : whether an earlier attempt left state behind.
    cluster : machines to which a recipe may give parts of its work, or None.
    """

    def __init__(
        self,
        folder: Path,
        *,
        seed: int = 0,
        state: Path | None = None,
        listener: Listener | None = None,
        resumed: bool = False,
    ) -> None:
        check_seed("seed", seed)
        self.folder = folder
        self.files = folder / "files"
        self.state = state if state is not None else folder / "state"
        self.seed = seed
        self.resumed = resumed
        self.cluster: Cluster | None = None
        for needed in (self.files, self.state):
            needed.mkdir(parents=True, exist_ok=True)
        self._listener = listener
        self._stop = threading.Event()
        self._last_look = 0.0
        self._write_lock = threading.Lock()
        self._events = folder / "events.jsonl"
        self.log = logging.getLogger(f"paperworks.run.{folder.name}")
        self.log.setLevel(logging.INFO)
        self.log.propagate = False
        self.log.handlers[:] = [_EventHandler(self)]

    def emit(self, kind: str, **content: Any) -> None:
        """Append one event to ``events.jsonl`` and hand it to the listener."""
        event = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "kind": kind, **content}
        with self._write_lock, self._events.open("a", encoding="utf-8") as out:
            out.write(json.dumps(event, default=str) + "\n")
        if self._listener is not None:
            self._listener(event)

    def step(self, text: str) -> None:
        """Say in one line what the run does now."""
        self.check()
        self.emit("step", text=text)

    def progress(self, iterable: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
        """Iterate, reporting each finished item; raises ``Cancelled`` before the next item once a stop is asked for."""
        if total is None and isinstance(iterable, Sized):
            total = len(iterable)
        last = 0.0
        done = 0
        self.emit("progress", description=description, done=0, total=total)
        for item in iterable:
            self.check()
            yield item
            done += 1
            now = time.monotonic()
            if now - last >= PROGRESS_SECONDS:
                last = now
                self.emit("progress", description=description, done=done, total=total)
        self.emit("progress", description=description, done=done, total=done)

    def output(self, name: str) -> Path:
        """A free path below ``files`` for a file or folder that the recipe makes in one step.

        What an earlier attempt of this run left there is removed: a run may replace its own files, and only those.
        """
        path = self.files / name
        remove(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def cancel(self) -> None:
        """Ask this run, in this process, to stop at its next check."""
        self._stop.set()

    @property
    def cancelled(self) -> bool:
        """Whether a stop was asked for, here or through a ``cancel`` file that another process put into the folder."""
        if not self._stop.is_set():
            now = time.monotonic()
            if now - self._last_look >= PROGRESS_SECONDS:
                self._last_look = now
                if (self.folder / "cancel").exists():
                    self._stop.set()
        return self._stop.is_set()

    def check(self) -> None:
        """Raise ``Cancelled`` if a stop was asked for."""
        if self.cancelled:
            raise Cancelled()

    def _stream(self, name: str) -> list[int]:
        return [self.seed, zlib.crc32(name.encode())]

    def rng(self, name: str) -> np.random.Generator:
        """The numpy generator of the named stream: name and seed decide its numbers, whatever else was drawn."""
        import numpy as np

        return np.random.default_rng(self._stream(name))

    def torch_rng(self, name: str) -> torch.Generator:
        """The torch generator (CPU) of the named stream."""
        import numpy as np
        import torch

        state = np.random.SeedSequence(self._stream(name)).generate_state(1, np.uint64)[0]
        return torch.Generator().manual_seed(int(state) & (2**63 - 1))


@contextmanager
def stop_on_interrupt(run: Run, doing: str) -> Iterator[None]:
    """While the block lasts, the first SIGINT or SIGTERM asks the run to stop, and the second one interrupts it.

    After the first, the run says what it is ``doing``. Threads other than the main one get no signals.
    """

    def handle() -> None:
        if run.cancelled:
            raise KeyboardInterrupt
        run.cancel()
        run.emit("stopping", text=f"{doing}; once more stops at once")

    with on_interrupt(handle):
        yield


class _EventHandler(logging.Handler):
    """Log records of the run's logger become events of kind ``log``."""

    def __init__(self, run: Run) -> None:
        super().__init__(logging.INFO)
        self._run = run

    def emit(self, record: logging.LogRecord) -> None:
        self._run.emit("log", level=record.levelname.lower(), text=record.getMessage())


class EventTail:
    """Hands the lines that another process appends to an events file to a listener.

    ``moved`` is where the file stands when its run has finished.
    """

    def __init__(self, path: Path, moved: Path, listener: Listener | None) -> None:
        self._path, self._moved, self._listener = path, moved, listener
        self._offset = path.stat().st_size if path.exists() else 0

    def forward(self) -> None:
        """Hand over the whole lines that are new."""
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
