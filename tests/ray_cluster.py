"""A Ray cluster of two nodes on this machine, one of which a test may kill."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import psutil

QUICK = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Ray's own is 15: beside the other tests its workers would get next to no processor time.
    "RAY_worker_niceness": "0",
    # A node that is gone is noticed within some seconds and not after half a minute.
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_initial_delay_ms": "500",
    "RAY_health_check_timeout_ms": "5000",
    "RAY_health_check_failure_threshold": "4",
}


class TwoNodes:
    """A head and a second node, each with ``cpus`` CPUs. A context manager."""

    def __init__(self, environment: Mapping[str, str], cpus: int = 1) -> None:
        self._environment = {**os.environ, **QUICK, **environment}
        self._cpus = cpus
        self._started: list[subprocess.Popen[bytes]] = []
        self._folder = tempfile.TemporaryDirectory(prefix="ray-")
        self.address = f"127.0.0.1:{free_port()}"

    def __enter__(self) -> TwoNodes:
        try:
            self.start("--head", f"--port={self.address.rpartition(':')[2]}", "--include-dashboard=false")
            self.start(f"--address={self.address}")
        except BaseException:
            self.__exit__()
            raise
        return self

    def start(self, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        """Start a node and wait until it says that it runs."""
        said = Path(self._folder.name) / f"node-{len(self._started)}"
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", *arguments]
        command += [f"--num-cpus={self._cpus}", "--object-store-memory=80000000", "--disable-usage-stats"]
        if "--head" in arguments:
            command.append(f"--temp-dir={self._folder.name}/r")
        with said.open("wb") as out:
            process = subprocess.Popen(
                command,
                env={**self._environment, **(environment or {})},
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        self._started.append(process)
        until = time.monotonic() + 60
        while b"Ray runtime started" not in said.read_bytes():
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"no node of Ray: {said.read_text()}")
            time.sleep(0.1)

    def kill(self, node: int) -> None:
        """End a node (0 is the head) and everything that runs on it at once, as a power cut does."""
        processes = self._tree(node)
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(processes, timeout=20)

    def runs_below(self, node: int, module: str) -> bool:
        """Whether a node runs ``python -m module`` now."""
        for process in self._tree(node):
            with suppress(psutil.Error):
                if module in process.cmdline():
                    return True
        return False

    def _tree(self, node: int) -> list[psutil.Process]:
        with suppress(psutil.NoSuchProcess):
            top = psutil.Process(self._started[node].pid)
            return [top, *top.children(recursive=True)]
        return []

    def __exit__(self, *exception: object) -> None:
        for node, process in reversed(list(enumerate(self._started))):
            self.kill(node)
            process.wait()
        self._folder.cleanup()


def free_port() -> int:
    """A port of the loopback interface that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
