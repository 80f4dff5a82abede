"""Writing that a kill cannot leave half done: beside the final name first, then moved into place."""

from __future__ import annotations

import glob
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from paperworks.errors import InputError


def write_text(path: Path, text: str) -> None:
    """Replace a file's text in one step: a reader sees the old text or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        with aside.open("w", encoding="utf-8") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def require_free(path: Path, field: str) -> None:
    """Raise InputError if ``path`` exists and is anything but an empty folder."""
    if path.is_symlink() or (path.exists() and not (path.is_dir() and not any(path.iterdir()))):
        kind = "a folder with files in it" if path.is_dir() else "something that exists"
        raise InputError(field, f"{path}, {kind}", "a new or an empty folder (nothing is overwritten)")


@contextmanager
def new_folder(path: Path, field: str = "folder") -> Iterator[Path]:
    """A folder to fill, which appears under its name ``path`` only when the block ends without an error.

    Raises InputError if ``path`` is taken, before the block or by someone else during it.
    """
    require_free(path, field)
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path)
    aside = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.partial")
    aside.mkdir()
    try:
        yield aside
        try:
            os.rename(aside, path)  # replaces an empty folder, refuses a filled one
        except OSError:
            require_free(path, field)
            raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _sweep(path: Path) -> None:
    """Remove what processes that no longer live left beside ``path`` when they were killed."""
    import psutil

    for left in path.parent.glob(f".{glob.escape(path.name)}.*-*.partial"):
        owner = left.name.rsplit(".", 2)[-2].split("-")[0]
        if owner.isdigit() and not psutil.pid_exists(int(owner)):
            shutil.rmtree(left, ignore_errors=True)
