"""Limits of a run in a child process: time, memory, and room on the disk."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from paperworks.errors import InputError
from paperworks.runs.usage import bytes_below, tree_bytes

LOOK_SECONDS, DISK_SECONDS = 0.05, 1.0
"""How often a child's time and memory, and its files, are looked at."""


@dataclass(frozen=True)
class RunLimits:
    """Limits of a child; None for none.

    Parameters
    ----------
    seconds : wall-clock limit.
    memory_bytes : limit of the resident memory of the child and its children together. It is looked at every 50 ms, so
        a single huge allocation can pass it for that long.
    disk_bytes : limit of what the run's files and checkpoints take; looked at every second.
    """

    seconds: float | None = None
    memory_bytes: int | None = None
    disk_bytes: int | None = None

    def __post_init__(self) -> None:
        for name, limit, unit in (
            ("time limit", self.seconds, "seconds"),
            ("memory limit", self.memory_bytes, "bytes"),
            ("disk limit", self.disk_bytes, "bytes"),
        ):
            if limit is not None and not limit > 0:
                raise InputError(name, limit, f"more than 0 {unit}")


class LimitWatch:
    """Looks whether a child passes its limits, from now on. ``folders`` are what the disk limit is for."""

    def __init__(self, limits: RunLimits, *folders: Path) -> None:
        self._limits, self._folders = limits, folders
        self._started = self._looked = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds since the watch began."""
        return time.monotonic() - self._started

    def passed(self, pid: int) -> str:
        """Which limit the child has passed, in words; empty for none."""
        limits = self._limits
        if limits.seconds is not None and self.elapsed > limits.seconds:
            return (
                f"time limit: found more than {limits.seconds:g} seconds; expected the run to end before (--time-limit)"
            )
        if limits.memory_bytes is not None:
            used = tree_bytes(pid)
            if used > limits.memory_bytes:
                return (
                    f"memory limit: found {used / 2**20:.0f} MiB in use; "
                    f"expected at most {limits.memory_bytes / 2**20:.0f} MiB (--memory-limit)"
                )
        return self._disk()

    def _disk(self) -> str:
        most = self._limits.disk_bytes
        if most is None or time.monotonic() - self._looked <= DISK_SECONDS:
            return ""
        self._looked = time.monotonic()
        written = sum(bytes_below(folder) for folder in self._folders if folder.is_dir())
        if written <= most:
            return ""
        return f"disk limit: found {written / 2**20:.0f} MiB written; expected at most {most / 2**20:.0f} MiB"
