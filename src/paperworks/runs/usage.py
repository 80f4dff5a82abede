"""What a piece of work used: seconds, the peak of resident memory, bytes on disk, and the versions it ran with."""

from __future__ import annotations

import os
import platform
import sys
import threading
import time
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from paperworks.version import __version__

_meters: list[UsageMeter] = []
_meters_lock = threading.Lock()
_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


class UsageMeter:
    """Measure a ``with`` block: ``seconds`` and ``peak_bytes``, the highest resident memory of this process inside it.

    Linux keeps that high-water mark and lets a process reset it, so nothing is missed between samples; meters may be
    nested. Elsewhere the mark cannot be reset, and the peak is that of the whole process so far.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.peak_bytes = 0
        self.start_bytes = 0

    def __enter__(self) -> UsageMeter:
        with _meters_lock:
            _fold_peak()
            _reset_peak()
            self.start_bytes = self.peak_bytes = resident_bytes()  # the mark may lag behind by some pages
            _meters.append(self)
        self._started = time.monotonic()
        return self

    def __exit__(self, *exc: object) -> None:
        self.seconds = time.monotonic() - self._started
        with _meters_lock:
            _fold_peak()
            _meters.remove(self)

    def peek(self) -> int:
        """The peak so far, in bytes, while the block is still open."""
        with _meters_lock:
            _fold_peak()
        return self.peak_bytes


def _fold_peak() -> None:
    peak = _process_peak()
    for meter in _meters:
        meter.peak_bytes = max(meter.peak_bytes, peak)


def _reset_peak() -> None:
    with suppress(OSError):  # not Linux, or not allowed: the peak is then that of the whole process
        _CLEAR.write_text("5")


def _process_peak() -> int:
    try:
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def resident_bytes() -> int:
    """Resident memory of this process now, in bytes."""
    import psutil

    return int(psutil.Process().memory_info().rss)


def tree_bytes(pid: int) -> int:
    """Resident memory of a process and all that it started, in bytes; 0 once it has ended."""
    import psutil

    total = 0
    with suppress(psutil.NoSuchProcess):
        parent = psutil.Process(pid)
        for process in [parent, *parent.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                total += process.memory_info().rss
    return total


def bytes_below(folder: Path) -> int:
    """Bytes of all files below a folder."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):  # a run that is looked at while it works removes files
                total += os.lstat(os.path.join(parent, name)).st_size
    return total


def versions() -> dict[str, Any]:
    """The versions that matter for a measured figure, and the machine's cores."""
    found: dict[str, Any] = {
        "paperworks": __version__,  # of the code that runs; an older installation may stand beside it
        "python": platform.python_version(),
        "cores": os.cpu_count(),
    }
    for package in ("torch", "transformers", "numpy", "scikit-learn"):
        if package.replace("scikit-learn", "sklearn") in sys.modules:
            found[package] = metadata.version(package)
    return found
