"""Functions in processes of their own, which a test may kill: forked from a server that has imported what is slow.

A fork of pytest's process could inherit the locks of its threads; a new interpreter imports torch and transformers
again, for seconds each time. The server is started once in a pytest worker, and ends with it.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import psutil

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
"""Imported by the server. A module that is not installed is left out."""

_at_start: dict[psutil.Process, float] = {}
"""Processor seconds of a server before the first function."""


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit code (minus the signal that killed it), and what it wrote."""

    code: int
    output: str
    errors: str


def run(function: Callable[..., object], *args: Any, timeout: float = 120) -> Ended:
    """Call a function of a module in a process of its own, in this process's environment and folder.

    Raises TimeoutError, after killing the process, where it takes more than ``timeout`` seconds.
    """
    with tempfile.TemporaryDirectory() as folder:
        process = start(function, *args, folder=Path(folder))
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


def start(function: Callable[..., object], *args: Any, folder: Path) -> multiprocessing.process.BaseProcess:
    """Start a function in a process of its own, which writes to ``output`` and ``errors`` in a folder."""
    processes = multiprocessing.get_context("forkserver")
    if not _at_start:
        processes.set_forkserver_preload(list(SLOW))
        ready = processes.Process(target=int)
        ready.start()
        ready.join()
        server = psutil.Process(_server())
        _at_start[server] = _seconds(server)
    process = processes.Process(target=_work, args=(folder, dict(os.environ), os.getcwd(), function, args))
    process.start()
    return process


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
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    function(*args)


def _server() -> int:
    pid = forkserver._forkserver._forkserver_pid
    assert pid is not None
    return int(pid)


def _seconds(server: psutil.Process) -> float:
    """Of a server and of the children that it has waited for."""
    try:
        times = server.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(sum(times[:4]))
