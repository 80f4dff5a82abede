"""Settings that numba reads when it is imported: where compiled code is kept, and how many threads there are."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "NUMBA_CACHE_DIR"
THREADS, OPENMP_THREADS = "NUMBA_NUM_THREADS", "OMP_NUM_THREADS"


def share_threads() -> None:
    """Give numba as many threads as OMP_NUM_THREADS allows, unless NUMBA_NUM_THREADS says otherwise.

    numba does not read OMP_NUM_THREADS. Its first parallel loop sets the threads of OpenMP to the number of cores, for
    torch in the same process too. Where other processes need these cores, threads then wait for each other in busy
    loops: 33 times the processor time was measured for sums of a matrix.
    """
    allowed = os.environ.get(OPENMP_THREADS, "").split(",")[0].strip()
    if allowed.isdigit() and int(allowed) > 0:
        os.environ.setdefault(THREADS, str(min(int(allowed), os.cpu_count() or 1)))


def ensure_cache() -> None:
    """Give numba a folder of this process where neither the package nor the home can be written.

    numba keeps compiled code beside the package, else in the user's cache folder, and fails where it can do neither (no
    HOME, a read-only installation). The folder is private and ends with the process: what is compiled is code, and is
    not taken from a place that others can write to.
    """
    if os.environ.get(VARIABLE) or _writable(Path(__file__).parent) or _writable(_user_cache()):
        return
    import atexit
    import tempfile

    folder = tempfile.mkdtemp(prefix="paperworks-compiled-")
    os.environ[VARIABLE] = folder
    atexit.register(_remove, folder, os.getpid())


def _remove(folder: str, owner: int) -> None:
    import shutil

    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)


def _user_cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(home)


def _writable(folder: Path) -> bool:
    """Whether the folder, or the nearest one above it that exists, can be written to."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return os.access(folder, os.W_OK)
