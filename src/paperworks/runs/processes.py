"""Child processes under supervision, and what SIGINT and SIGTERM do while work is under way.

The parent starts ``ChildProcess(command)``, looks at it in ``for _ in child.watch(seconds)``, and leaves its ``with``
block: the child, and all that it started, has ended by then. The child calls ``end_with_parent()`` first, and so ends
when its parent does, even by SIGKILL.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import IO

PARENT = "PAPERWORKS_PARENT"
"""Environment variable by which a child knows the process that it ends with."""
PARENT_SECONDS = 0.5
_LAST_BYTES = 4096


class ChildProcess:
    """A child process that leads a session of its own and ends with its parent. A context manager.

    Parameters
    ----------
    command : program and arguments; ``python_module`` makes one of a module of this package.
    environment : variables that it gets besides this process's own.
    inherit : False gives it no others than those of ``environment``. It does not know its parent then: its command must
        end it with this process.
    folder : its working folder; this process's by default.
    output, errors : files for its standard output and standard error. By default the output is dropped, and of the
        errors only the end can be read (``last_words``).
    inherit_output : True lets it write where this process writes; ``output`` and ``errors`` do not count then, and
        there are no ``last_words``.
    patience : seconds that it has to end after SIGTERM when the block is left. 0 ends it by SIGKILL at once.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        inherit: bool = True,
        folder: Path | None = None,
        output: Path | None = None,
        errors: Path | None = None,
        inherit_output: bool = False,
        patience: float = 0.0,
    ) -> None:
        self._command = list(command)
        inherited = os.environ | {PARENT: str(os.getpid())} if inherit else {}
        self._environment = inherited | dict(environment or {})
        self._folder, self._output, self._errors = folder, output, errors
        self._inherit_output, self._patience = inherit_output, patience
        self._process: subprocess.Popen[bytes] | None = None
        self._said: IO[bytes] | None = None

    def __enter__(self) -> ChildProcess:
        if self._inherit_output:
            self._process = self._start(None, None)
            return self
        self._said = tempfile.TemporaryFile() if self._errors is None else self._errors.open("w+b")
        try:
            with Path(os.devnull if self._output is None else self._output).open("wb") as output:
                self._process = self._start(output, self._said)
        except BaseException:
            self._said.close()
            raise
        return self

    def _start(self, output: IO[bytes] | None, errors: IO[bytes] | None) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self._command,
            cwd=self._folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            start_new_session=True,
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()
        if self._said is not None:
            self._words = self._read_last()
            self._said.close()

    @property
    def pid(self) -> int:
        """The child's process id, which is also its group's."""
        assert self._process is not None, "used outside of its with block"
        return self._process.pid

    @property
    def code(self) -> int | None:
        """Its exit status, negative for a signal; None while it runs."""
        assert self._process is not None, "used outside of its with block"
        return self._process.poll()

    def watch(self, seconds: float) -> Iterator[None]:
        """Yield about every so many seconds until the child has ended of itself."""
        assert self._process is not None, "used outside of its with block"
        while True:
            try:
                self._process.wait(seconds)
                return
            except subprocess.TimeoutExpired:
                yield

    def end(self) -> None:
        """End the child and all that it started: SIGTERM and ``patience`` first, if there is any, then SIGKILL."""
        assert self._process is not None, "used outside of its with block"
        if self._patience and self._process.poll() is None:
            self._signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(self._patience)
        self._signal(signal.SIGKILL)  # also where the child has ended: what it started may live on
        self._process.wait()

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError, PermissionError):  # the group is empty, or holds only the ended child
            os.killpg(self.pid, number)

    @property
    def last_words(self) -> str:
        """The last line of its standard error; empty if there is none."""
        if self._said is None:
            return ""
        words = self._words if self._said.closed else self._read_last()
        lines = words.strip().splitlines()
        return lines[-1] if lines else ""

    def _read_last(self) -> str:
        assert self._said is not None
        size = os.fstat(self._said.fileno()).st_size
        # pread: the child writes at the offset that it shares with this process
        return os.pread(self._said.fileno(), _LAST_BYTES, max(0, size - _LAST_BYTES)).decode(errors="replace")

    @property
    def ending(self) -> str:
        """How it ended, in words: ``signal 9 (SIGKILL)`` or ``code 3: no space left``."""
        code = self.code
        if code is None:
            return "it runs"
        if code < 0:
            return f"signal {-code} ({signal.Signals(-code).name})"
        return f"code {code}" + (f": {self.last_words}" if self.last_words else "")


def python_module(module: str, *arguments: str) -> list[str]:
    """The command that runs a module of this package in another Python process."""
    return [sys.executable, "-m", module, *arguments]


def end_with_parent(ended: Callable[[], None] | None = None) -> None:
    """In a child: end this process, and what it started, once the parent that started it is gone.

    ``ended`` replaces the ending (SIGKILL to the whole group). Does nothing in a process that no ``ChildProcess``
    started.
    """
    parent = os.environ.pop(PARENT, None)  # popped, so that a grandchild does not take it for its own
    if parent is not None:
        threading.Thread(target=_watch_parent, args=(int(parent), ended or _end_group), daemon=True).start()


def _watch_parent(parent: int, ended: Callable[[], None]) -> None:
    while os.getppid() == parent:
        time.sleep(PARENT_SECONDS)
    ended()


def _end_group() -> None:
    os.killpg(0, signal.SIGKILL)


@contextmanager
def on_interrupt(handle: Callable[[], None]) -> Iterator[None]:
    """Call ``handle`` for each SIGINT and SIGTERM while the block lasts. Signals reach only the main thread.

    An exception that ``handle`` raises comes out of the block.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handler(number: int, frame: FrameType | None) -> None:
        handle()

    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)
