"""Copies of what was read from the database, to start quickly: folders by version, beside an SQLite file."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from paperworks.errors import InputError
from paperworks.runs.files import new_folder

FORMAT = 2
"""Of the files in a copy: copies of another format are not read."""


class Snapshots:
    """The copies of one index.

    Parameters
    ----------
    database : the SQLite file; None for none, which keeps no copies.
    index : a name for the index: which database's, and of which vectors.
    """

    def __init__(self, database: str | None, index: str) -> None:
        self._folder = Path(f"{database}.search") / f"{index.replace('/', '-')}-{FORMAT}" if database else None

    def __bool__(self) -> bool:
        return self._folder is not None

    def versions(self) -> dict[int, Path]:
        """The folder of each version that is kept whole."""
        if self._folder is None or not self._folder.is_dir():
            return {}
        return {int(p.name): p for p in self._folder.glob("[0-9]*") if p.name.isdigit()}

    def save(self, version: int, write: Callable[[Path], None]) -> None:
        """Keep what ``write`` puts into a folder as this version, instead of older ones."""
        if self._folder is None:
            return
        try:
            with new_folder(self._folder / str(version)) as aside:
                write(aside)
        except (OSError, InputError):
            return  # a full or read-only disk, or another process was first: the next start reads the database
        for old, place in self.versions().items():
            if old < version:
                shutil.rmtree(place, ignore_errors=True)
