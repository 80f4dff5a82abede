"""Functions in processes of their own, which a test may kill: forked from a server that has imported what is slow.

A fork of pytest's process could inherit the locks of its threads; a new interpreter imports torch and transformers
again, for seconds each time. A server is started once in a pytest worker, and ends with it. There are two: one has
imported paperworks as well; the other, ``BARE``, only what transformers imports, for tests of who imports what first.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import runpy
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import forkserver
from pathlib import Path
from typing import IO, Any

import psutil
import pytest

SLOW = (
    "pytest",
    "torch",
    "accelerate",
    "transformers.models.auto.modeling_auto",
    "transformers.models.llama.modeling_llama",
    "sklearn.datasets",
    "paperworks.cli.app",
    "paperworks.pruning",
    "paperworks.structure",
    "paperworks.training",
)
"""Imported by the server (tests/forked_imports.py)."""
BARE = ("pytest", "accelerate", "scipy.optimize", "sympy", "torch.distributed.fsdp", "torch.distributed.tensor")
"""What transformers imports for seconds, without transformers."""

_at_start: dict[psutil.Process, float] = {}
"""Processor seconds of a server before the first function."""


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit code (minus the signal that killed it), and what it wrote."""

    code: int
    output: str
    errors: str


def run(function: Callable[..., object], *args: Any, timeout: float = 120, imported: Sequence[str] = SLOW) -> Ended:
    """Call a function of a module in a process of its own, in this process's environment and folder.

    ``imported``, SLOW or BARE, are the modules that the process has from its server.

    Raises TimeoutError, after killing the process, where it takes more than ``timeout`` seconds.
    """
    with tempfile.TemporaryDirectory() as folder:
        process = start(function, *args, folder=Path(folder), imported=imported)
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise TimeoutError(f"{function.__name__} took more than {timeout:g} s")
        output, errors = (Path(folder, name).read_text(encoding="utf-8") for name in ("output", "errors"))
        return Ended(process.exitcode, output, errors)


def paperworks(*words: str) -> None:
    """The command line, as a function to run."""
    from paperworks.cli import main

    sys.argv = ["paperworks", *words]
    sys.exit(main())


def code(text: str, *words: str) -> None:
    """Python code, as a function to run; ``words`` are its arguments."""
    sys.argv = ["-c", *words]
    exec(compile(text, "<code>", "exec"), {"__name__": "__main__"})


def start(
    function: Callable[..., object], *args: Any, folder: Path, imported: Sequence[str] = SLOW
) -> multiprocessing.process.BaseProcess:
    """Start a function in a process of its own, which writes to ``output`` and ``errors`` in a folder."""
    return _fork(_server(tuple(imported)), _work, folder, dict(os.environ), os.getcwd(), function, args)


def _fork(
    server: forkserver.ForkServer, function: Callable[..., object], *args: Any
) -> multiprocessing.process.BaseProcess:
    """Start a function in a process of a server. (multiprocessing itself knows of one server alone.)"""
    process = multiprocessing.get_context("forkserver").Process(target=function, args=args)
    only, forkserver.connect_to_new_process = forkserver.connect_to_new_process, server.connect_to_new_process
    try:
        process.start()
    finally:
        forkserver.connect_to_new_process = only
    return process


class Waiting:
    """A process forked from this one, which waits for the command of an interpreter that this one is to start.

    It takes the place of ``subprocess.Popen`` for ``python -m MODULE`` and ``python -u FILE``, and has imported what
    this process had when it was made: before this process starts threads, whose locks it would inherit.
    """

    def __init__(self) -> None:
        self._tell, told = socket.socketpair()
        forks = multiprocessing.get_context("fork")
        self._process = forks.Process(target=_wait_for_command, args=(told, os.getpid()), daemon=True)
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def begin(
        self,
        args: Sequence[str],
        env: Mapping[str, str],
        stdout: IO[Any] | None = None,
        stderr: IO[Any] | None = None,
        **_: object,
    ) -> Waiting:
        """Run the command in a session of its own; without files it writes where this process does."""
        streams = [number if file is None else file.fileno() for number, file in ((1, stdout), (2, stderr))]
        socket.send_fds(self._tell, [json.dumps([list(args), dict(env)]).encode()], streams)
        return self

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int | None:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("a forked process", timeout or 0.0)
        return self._process.exitcode

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode


def _wait_for_command(told: socket.socket, parent: int) -> None:
    told.settimeout(0.5)
    message = b""
    while not message and os.getppid() == parent:
        with suppress(TimeoutError):
            message, streams, *_ = socket.recv_fds(told, 2**20, 2)
    if not message:
        return
    (_, flag, what, *words), environment = json.loads(message)
    os.setsid()
    for number, stream in zip((1, 2), streams, strict=True):
        os.dup2(stream, number)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [what, *words]
    _renew_threads()
    {"-m": runpy.run_module, "-u": runpy.run_path}[flag](what, run_name="__main__")


def seconds() -> float:
    """Processor seconds of all functions that have ended, without the server's start."""
    return sum(_seconds(server) - before for server, before in _at_start.items())


def _work(
    folder: Path, environment: Mapping[str, str], place: str, function: Callable[..., object], args: tuple[Any, ...]
) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(place)
    for name, stream in (("output", sys.stdout), ("errors", sys.stderr)):
        written = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(written, stream.fileno())
    _renew_threads()
    function(*args)


def _renew_threads() -> None:
    """torch makes its pool of threads anew at the first use after a fork.

    Two threads that do so at once, as those that load weights, may find none ("Invalid thread pool!").
    """
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@lru_cache
def _server(imported: tuple[str, ...]) -> forkserver.ForkServer:
    """A server that has imported modules; what that took is noted."""
    server = forkserver.ForkServer()
    server.set_forkserver_preload(["forked_imports"])
    places = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(places))
        patch.setenv("FORKED_IMPORTS", " ".join(imported))
        ready = _fork(server, _require_imports)
        ready.join()
    assert ready.exitcode == 0, "the server has not imported what it should have"
    process = psutil.Process(server._forkserver_pid)  # type: ignore[attr-defined]
    _at_start[process] = _seconds(process)
    return server


def _require_imports() -> None:
    sys.exit("forked_imports" not in sys.modules)


def _seconds(server: psutil.Process) -> float:
    """Of a server and of the children that it has waited for."""
    try:
        times = server.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(sum(times[:4]))
