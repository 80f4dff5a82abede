"""What runs on a node: an actor that holds copies of folders, and a child process that works in them.

Nothing here imports Ray: the caller makes an actor of ``WorkHost``. It sends the folders, starts the child, and asks
again and again what has changed (``look``). So the caller's folders follow those of the node, and when the node is lost
the work goes on elsewhere from what the caller has.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from paperworks.runs.files import PARTIAL, remove
from paperworks.runs.limits import LOOK_SECONDS, LimitWatch, RunLimits
from paperworks.runs.processes import ChildProcess, python_module
from paperworks.version import __version__

HELD = ".held"
"""Folder of hard links to the files that the caller is about to read."""
NOT_COPIED = ("lock",)
STEADY_LOOKS = 5
"""How often a look is repeated that met a change while it was taken."""
CHILD_ENVIRONMENT = {"PYTHONSAFEPATH": "1"}
"""Nothing is imported from the folder in which the child works."""
Stamp = tuple[int, int, int]
"""Size, time of the last change in ns, and inode of a file."""


@dataclass(frozen=True)
class Look:
    """What has changed in a host's folders since the last look.

    ``changed`` are paths relative to the root with their sizes, in the order in which they were written, and ``files``
    all files that are there; ``places`` are those folders in which the child works that are there. ``ended`` is empty
    while the child runs, then how it ended, with its exit ``code``.
    ``passed`` names the limit that it passed, if it did.
    """

    changed: list[tuple[str, int]] = field(default_factory=list)
    files: frozenset[str] = frozenset()
    places: frozenset[str] = frozenset()
    ended: str = ""
    code: int | None = None
    passed: str = ""


class WorkHost:
    """Folders below a temporary root, and the child that works in them. Used by one caller."""

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="paperworks-"))
        self._sent: dict[str, Stamp] = {}
        self._places: list[str] = []
        self._ended = ""
        self._code: int | None = None
        self._passed = ""
        self._watcher: threading.Thread | None = None
        self._stop = threading.Event()

    def about(self) -> dict[str, str]:
        """The version of this package, the place of the root, and the node's address."""
        ray = sys.modules.get("ray")
        node = platform.node() if ray is None else ray.util.get_node_ip_address()
        return {"version": __version__, "root": str(self.root), "node": node}

    def make(self, folders: Sequence[str]) -> None:
        """Make the folders below the root in which the child works."""
        self._places += folders
        for folder in folders:
            self._below(folder).mkdir(parents=True, exist_ok=True)

    def write(self, path: str, data: bytes, append: bool = False) -> None:
        """Write, or add to, a file below the root."""
        target = self._below(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("ab" if append else "wb") as out:
            out.write(data)

    def start(self, module: str, arguments: Sequence[str], limits: RunLimits, measured: Sequence[str]) -> None:
        """Start ``python -m module arguments`` in the root.

        ``{root}`` in an argument stands for the root. ``measured`` are the folders that the disk limit is for.
        """
        self._sent = self._listing()
        given = [argument.replace("{root}", str(self.root)) for argument in arguments]
        child = ChildProcess(python_module(module, *given), environment=CHILD_ENVIRONMENT, folder=self.root)
        started = threading.Event()
        self._watcher = threading.Thread(
            target=self._watch, args=(child, limits, [self.root / name for name in measured], started), daemon=True
        )
        self._watcher.start()
        started.wait()

    def look(self, anew: Sequence[str] = ()) -> Look:
        """What has changed since the last look; the changed files can be read until the next one.

        The files are as they were together at one moment. While they change too quickly for that, nothing is said to
        have changed. Files of the folders ``anew`` count as changed.
        """
        ended = self._ended  # first: what the child wrote before it ended is in the listing
        remove(self.root / HELD)
        for path in [path for path in self._sent if path.startswith(tuple(f"{place}/" for place in anew))]:
            del self._sent[path]
        for _ in range(STEADY_LOOKS):
            before, places = self._listing(), self._present()
            changed = [path for path, stamp in before.items() if self._sent.get(path) != stamp]
            if self._hold(changed) and self._listing() == before and self._present() == places:
                self._sent = before
                ordered = sorted(changed, key=lambda path: before[path][1])
                sizes = [(path, before[path][0]) for path in ordered]
                return Look(sizes, frozenset(before), places, ended, self._code if ended else None, self._passed)
            remove(self.root / HELD)
        return Look(files=frozenset(self._sent), places=self._present())

    def read(self, path: str, offset: int, length: int) -> bytes:
        """A part of a file that the last look said to have changed."""
        with (self.root / HELD / path).open("rb") as handle:
            handle.seek(offset)
            return handle.read(length)

    def touch(self, path: str) -> None:
        """Make an empty file, if its folder is there."""
        with suppress(OSError):
            self._below(path).touch()

    def close(self) -> None:
        """End the child, and remove the root."""
        self._stop.set()
        if self._watcher is not None:
            self._watcher.join()
        shutil.rmtree(self.root, ignore_errors=True)

    def _watch(
        self, child: ChildProcess, limits: RunLimits, measured: Sequence[Path], started: threading.Event
    ) -> None:
        try:
            with child:
                started.set()
                watch = LimitWatch(limits, *measured)
                for _ in child.watch(LOOK_SECONDS):
                    self._passed = watch.passed(child.pid)
                    if self._passed or self._stop.is_set():
                        break
            self._code, self._ended = child.code, child.ending
        except Exception as error:  # such as a node without room for another process
            self._ended = f"{type(error).__name__}: {error}"
        finally:
            started.set()

    def _below(self, path: str) -> Path:
        target = (self.root / path).resolve()
        if not target.is_relative_to(self.root.resolve()):
            raise ValueError(f"{path} is outside the root")
        return target

    def _hold(self, paths: Sequence[str]) -> bool:
        for path in paths:
            held = self.root / HELD / path
            held.parent.mkdir(parents=True, exist_ok=True)
            try:
                if path.endswith(".jsonl"):  # grows in place: a link would grow with it
                    shutil.copyfile(self.root / path, held)
                else:
                    os.link(self.root / path, held)
            except FileNotFoundError:
                return False
            except OSError:  # a file system without hard links
                shutil.copyfile(self.root / path, held)
        return True

    def _present(self) -> frozenset[str]:
        return frozenset(place for place in self._places if (self.root / place).is_dir())

    def _listing(self) -> dict[str, Stamp]:
        return {str(path.relative_to(self.root)): stamp for path, stamp in files_below(self.root, HELD)}


def files_below(root: Path, *left_out: str) -> Iterator[tuple[Path, Stamp]]:
    """The whole files below a folder, and their stamps; without links, locks and what is being written aside."""
    for place, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if name not in left_out and not name.endswith(PARTIAL))
        for name in sorted(names):
            if name in NOT_COPIED or name.endswith(PARTIAL):
                continue
            path = Path(place, name)
            with suppress(FileNotFoundError):
                status = path.lstat()
                if not path.is_symlink():
                    yield path, (status.st_size, status.st_mtime_ns, status.st_ino)


def listing_digest(path: Path) -> str:
    """Names, sizes and times of change of a file, or of all files of a folder, in one figure."""
    digest = hashlib.sha256()
    if path.is_dir():
        for below, (size, changed, _) in files_below(path):
            digest.update(f"{below.relative_to(path)}\0{size}\0{changed}\n".encode())
    else:
        status = path.stat()
        digest.update(f"{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()
