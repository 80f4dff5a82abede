"""Confinement by bubblewrap: the run sees a file system made for it, its own processes, and no network."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path

ROOT = "/paperworks"
"""Where the run's folder is in the confinement: error texts and reports name no place of the server."""
SHARED_MEMORY_BYTES = 2**30
TEMPORARY_BYTES = 2**26
NOBODY = "65534"
DEVICES = ("/dev/nvidia*", "/dev/dri", "/dev/kfd")
NO_NAMESPACES = ("--unshare-user", "--disable-userns")
PROBE_SECONDS = 20


def command(root: Path, readable: Sequence[Path], shown: Mapping[Path, Path], hidden: Iterable[Path]) -> list[str]:
    """The beginning of a command that runs the rest of it in the confinement.

    ``root`` is the folder to write; ``readable`` are shown under their own names, ``shown`` under others.
    """
    program = shutil.which("bwrap")
    assert program is not None, "used where why_not() says why not"
    words = [program, "--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    words += ["--uid", NOBODY, "--gid", NOBODY, "--hostname", "run", *(NO_NAMESPACES if _can_disable() else ())]
    words += ["--size", str(TEMPORARY_BYTES), "--tmpfs", "/tmp"]  # TMPDIR is in the run's folder, which has the room
    for path in readable:
        if path.is_symlink() and len(path.parts) == 2:  # /bin is a link to usr/bin
            words += ["--symlink", os.readlink(path), str(path)]
        else:
            words += ["--ro-bind", str(path.resolve()), str(path)]
    words += ["--proc", "/proc", "--dev", "/dev", "--size", str(SHARED_MEMORY_BYTES), "--tmpfs", "/dev/shm"]
    devices = [device for pattern in DEVICES for device in sorted(Path("/").glob(pattern.lstrip("/")))]
    for device in devices:
        words += ["--dev-bind", str(device), str(device)]
    words += ["--ro-bind-try", "/sys/devices/system", "/sys/devices/system"]
    if devices:
        words += ["--ro-bind-try", "/sys", "/sys"]
    for path in hidden:
        if any(path.is_relative_to(seen) for seen in readable):
            words += ["--size", "4096", "--perms", "0000", "--tmpfs", str(path)]
    words += ["--bind", str(root), ROOT]
    for place, folder in shown.items():
        words += ["--ro-bind", str(folder), str(place)]
    return [*words, "--remount-ro", "/", "--chdir", ROOT, "--"]


@cache
def why_not() -> str:
    """Why bubblewrap cannot be used here, or an empty text."""
    program = shutil.which("bwrap")
    if program is None:
        return "bubblewrap is not installed (Debian: apt-get install bubblewrap)"
    try:
        tried = _try(program)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"bubblewrap does not start: {error}"
    if tried.returncode:
        last = tried.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no message"]
        return f"the kernel refuses bubblewrap: {last[0]}"
    return ""


@cache
def _can_disable() -> bool:
    """Whether a run can be kept from making namespaces of its own."""
    program = shutil.which("bwrap")
    try:
        return program is not None and _try(program, *NO_NAMESPACES).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _try(program: str, *options: str) -> subprocess.CompletedProcess[bytes]:
    words = [program, "--unshare-all", "--uid", NOBODY, "--gid", NOBODY, *options, "--ro-bind", "/", "/"]
    words += ["--proc", "/proc", "--dev", "/dev", "true"]
    return subprocess.run(words, capture_output=True, timeout=PROBE_SECONDS, check=False, stdin=subprocess.DEVNULL)
