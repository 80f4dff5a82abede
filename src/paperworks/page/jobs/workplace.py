"""The folder of a run that is not done: a store of its own, which the run fills and this process does not trust.

Whoever wrote the file that a run reads may have made the run do what he wants. So nothing below this folder is opened
through a link, and a finished run is moved to the others without links, pipes and paths of this machine.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import IO

from paperworks.page.jobs.storage import work_folder
from paperworks.page.sandbox.bubblewrap import ROOT
from paperworks.page.settings import Settings
from paperworks.runs.files import new_folder
from paperworks.runs.store import RunRecord, Store

REPORTED = ("report.json", "report.html", "run.json", "config.json", "events.jsonl")
"""Files of a run that a reader is shown."""
_UPLOAD = re.compile(rf"(?:{ROOT}/)?uploads/[0-9a-f]{{32}}/(?:unpacked/?)?")


class Workplace:
    """The folder of one job. ``store`` holds its run until it is done; ``run_id`` is its name, once it has one."""

    def __init__(self, settings: Settings, job_id: str) -> None:
        self.root = work_folder(settings, job_id)
        self.store = Store(self.root)
        self.run_id: str | None = None
        self._settings = settings

    @property
    def places(self) -> tuple[Path, Path]:
        """Where the run may be: it works, or it has finished."""
        return self.store.working, self.store.runs

    def make(self) -> None:
        """Make the folder, for this user only."""
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)

    def remove(self) -> None:
        """Remove the folder with everything in it."""
        shutil.rmtree(self.root, ignore_errors=True)

    def request_cancel(self, run_id: str) -> None:
        """Ask the run to stop at its next check."""
        with suppress(OSError), open_below(self.root, ("working", run_id, "cancel"), os.O_WRONLY | os.O_CREAT):
            pass

    def drop_links(self) -> None:
        """Remove everything that is neither a file nor a folder: what is opened afterwards is what it is called."""
        for place, folders, names in os.walk(self.root):
            for name in (*folders, *names):
                path = os.path.join(place, name)
                with suppress(FileNotFoundError):
                    if not (stat.S_ISREG(mode := os.lstat(path).st_mode) or stat.S_ISDIR(mode)):
                        os.unlink(path)

    def hand_over(self, run_id: str, store: Store) -> RunRecord:
        """Move a finished run to the others, and remove the rest of this folder."""
        self.drop_links()
        folder = self.root / "runs" / run_id
        hide = PathHider(self._settings, store)
        for name in REPORTED:
            path = folder / name
            if path.is_file():
                text = path.read_text(encoding="utf-8", errors="replace")
                path.write_text(hide(text), encoding="utf-8")
        store.runs.mkdir(parents=True, exist_ok=True)
        target = store.runs / run_id
        try:
            os.rename(folder, target)
        except OSError:  # another file system
            with new_folder(target, "run") as aside:
                shutil.copytree(folder, aside, dirs_exist_ok=True)
        self.remove()
        return store.find(run_id)


class PathHider:
    """Takes the places of this machine out of texts that readers see."""

    def __init__(self, settings: Settings, store: Store) -> None:
        work = re.escape(str(settings.folder / "work")) + "/[0-9a-f]{32}"
        own = [str(place) for place in (settings.folder, store.root, Path.home()) if len(place.parts) > 1]
        known = {*own, *(json.dumps(place)[1:-1] for place in own)}  # as they stand in JSON
        places = "|".join(re.escape(place) for place in sorted(known, key=len, reverse=True))
        self._places = re.compile(rf"(?:{work}|{places})(?:/|\b)")

    def __call__(self, text: str) -> str:
        """The text with names of uploads in place of their paths, and without the folders of the page."""
        return _UPLOAD.sub("", self._places.sub("", text))


def open_below(root: Path, parts: Iterable[str], flags: int = os.O_RDONLY) -> IO[bytes]:
    """Open a file below a folder without following a link anywhere on the way.

    Raises FileNotFoundError, or OSError for a link and for what is no plain file.
    """
    *folders, name = parts
    above = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for folder in folders:
            below = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
            os.close(above)
            above = below
        found = os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600, dir_fd=above)
    finally:
        os.close(above)
    if not stat.S_ISREG(os.fstat(found).st_mode):
        os.close(found)
        raise OSError(f"{name} is no plain file")
    return os.fdopen(found, "rb" if flags & os.O_ACCMODE == os.O_RDONLY else "wb")
