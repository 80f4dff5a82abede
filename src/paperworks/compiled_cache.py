"""A place for numba's cache of compiled code where its own ones cannot be written."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "NUMBA_CACHE_DIR"


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
