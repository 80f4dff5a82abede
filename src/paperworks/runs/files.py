"""The one place that writes aside and moves: under its final name a file or folder is whole, or it is not there.

``replace_file``, ``write_text`` and ``write_bytes`` replace what stands under the name. ``new_file`` and ``new_folder``
refuse a name that is taken. What a killed process left aside is removed by the next writer of the same name.
"""

from __future__ import annotations

import glob
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from paperworks.errors import InputError

PARTIAL = ".partial"
"""Suffix of everything that is not yet in place."""
_LONGEST = 100
"""Characters of the final name that stand in the name aside, which must not be longer than a file system allows."""
_PROBE_BYTES = 2**16


@contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """A path beside ``path`` to write to. It replaces ``path`` in one step when the block ends without an error.

    A reader sees the old file or the new one, never a part. The folder is made if it is missing.
    """
    with _aside(path) as aside:
        yield aside
        _flush(aside)
        os.replace(aside, path)


@contextmanager
def new_file(path: Path, field: str = "path") -> Iterator[Path]:
    """A path beside ``path`` to write to. It gets the name ``path`` when the block ends without an error.

    Raises InputError, naming ``field``, if ``path`` is taken, before the block or by another process during it.
    """
    require_free(path, field)
    with _aside(path) as aside:
        yield aside
        _flush(aside)
        try:
            os.link(aside, path)  # unlike a rename, fails where the name was taken meanwhile
        except FileExistsError:
            require_free(path, field)
            raise
        except OSError:  # a file system without hard links
            require_free(path, field)
            os.rename(aside, path)


def write_bytes(path: Path, data: bytes) -> None:
    """Replace a file's content in one step."""
    with replace_file(path) as aside:
        aside.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Replace a file's text (UTF-8) in one step."""
    write_bytes(path, text.encode("utf-8"))


def require_free(path: Path, field: str) -> None:
    """Raise InputError if ``path`` exists and is anything but an empty folder."""
    if path.is_symlink() or (path.exists() and not (path.is_dir() and not any(path.iterdir()))):
        kind = "a folder with files in it" if path.is_dir() else "something that exists"
        raise InputError(field, f"{path}, {kind}", "a new or an empty folder (nothing is overwritten)")


def require_writable(path: Path, field: str) -> None:
    """Raise InputError if a folder named ``path`` could not be made now: taken, no permission, no room, no such name.

    It tries: a folder with a small file is made aside and removed, and so are the folders above that were missing.
    """
    missing = [parent for parent in path.absolute().parents if not parent.exists()]
    try:
        require_free(path, field)
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.mkdir()  # the name itself: it may be too long
            path.rmdir()
        with _aside(path) as aside:
            aside.mkdir()
            (aside / "probe").write_bytes(bytes(_PROBE_BYTES))
            _flush(aside / "probe")
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(field, f"{path}, which cannot be written ({reason})", "a folder that can be made") from None
    finally:
        for parent in missing:
            with suppress(OSError):
                parent.rmdir()


@contextmanager
def new_folder(path: Path, field: str = "folder") -> Iterator[Path]:
    """A folder to fill, which appears under its name ``path`` only when the block ends without an error.

    Raises InputError, naming ``field``, if ``path`` is taken, before the block or by another process during it.
    """
    require_free(path, field)
    with partial_folder(path) as aside:
        yield aside
        try:
            os.rename(aside, path)  # replaces an empty folder, refuses a filled one
        except OSError:
            require_free(path, field)
            raise


@contextmanager
def partial_folder(path: Path) -> Iterator[Path]:
    """A folder beside ``path`` for what is needed while ``path`` is made; it goes when the block ends."""
    with _aside(path) as aside:
        aside.mkdir()
        yield aside


def remove(path: Path) -> None:
    """Remove a file or a folder with all that it holds; nothing if it is not there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def _aside(path: Path) -> Iterator[Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path)
    aside = path.with_name(f".{path.name[:_LONGEST]}.{os.getpid()}-{secrets.token_hex(4)}{PARTIAL}")
    try:
        yield aside
    finally:
        with suppress(OSError):
            remove(aside)


def _flush(path: Path) -> None:
    with path.open("rb") as written:
        os.fsync(written.fileno())


def _sweep(path: Path) -> None:
    """Remove what processes that no longer live left beside ``path`` when they were killed."""
    import psutil

    for left in path.parent.glob(f".{glob.escape(path.name[:_LONGEST])}.*-*{PARTIAL}"):
        owner = left.name.removesuffix(PARTIAL).rpartition(".")[2].partition("-")[0]
        if owner.isdigit() and not psutil.pid_exists(int(owner)):
            with suppress(OSError):
                remove(left)
