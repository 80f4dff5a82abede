"""The folders of this machine that an assistant may name, and the options of a run checked against them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from paperworks.errors import InputError
from paperworks.runs.config import Config, File, command_line_only, names_file, names_place

MOST_ENTRIES = 200_000
"""A folder with more entries is refused: its links could not be checked in a moment."""


class AllowedFolders:
    """Resolves paths that an assistant names, and refuses those outside the allowed folders.

    Links are followed before a path is judged, and a folder is refused if a link in it leads outside. The check is made
    when a run is asked for; who can write into an allowed folder can still change it afterwards.

    Parameters
    ----------
    folders : existing folders; empty if the assistant may use bundled input only.

    Raises
    ------
    InputError : one of ``folders`` is no folder.
    """

    def __init__(self, folders: Sequence[Path] = ()) -> None:
        for folder in folders:
            if not folder.is_dir():
                raise InputError("allow", str(folder), "an existing folder")
        self.folders = tuple(folder.resolve() for folder in folders)

    def existing(self, field: str, text: str) -> Path:
        """The file or folder of that name, absolute and without links. Relative names are looked up in each folder.

        Raises InputError for a path that is outside, or that does not exist.
        """
        named = Path(text).expanduser()
        found = [path for path in self._candidates(named) if path.exists()]
        path = self._inside(field, text, found[0] if found else self._candidates(named)[0])
        if not path.exists():
            raise InputError(field, f"{text!r}, which does not exist", f"a file or folder below {self}")
        for link in _links(path, field):
            if not self._contains(link.resolve()):
                raise InputError(field, f"{link}, a link that leads outside", f"a folder without links out of {self}")
        return path

    def new(self, field: str, text: str) -> Path:
        """A path for a new folder below the allowed ones. Raises InputError if it is outside or taken."""
        path = self._inside(field, text, self._candidates(Path(text).expanduser())[0])
        if path.exists():
            raise InputError(field, f"{text!r}, which exists", "the name of a new folder")
        return path

    def __str__(self) -> str:
        return " or ".join(map(str, self.folders)) or "no folder (start the server with --allow FOLDER)"

    def _candidates(self, named: Path) -> list[Path]:
        return [named] if named.is_absolute() or not self.folders else [folder / named for folder in self.folders]

    def _inside(self, field: str, text: str, path: Path) -> Path:
        try:
            resolved = path.resolve()
        except (OSError, RuntimeError, ValueError) as error:
            raise InputError(field, f"{text!r} ({error})", f"a path below {self}") from None
        if not self._contains(resolved):
            raise InputError(field, f"{text!r}, which is outside", f"a path below {self}")
        return resolved

    def _contains(self, path: Path) -> bool:
        return any(path.is_relative_to(folder) for folder in self.folders)


def _links(path: Path, field: str) -> Iterator[Path]:
    seen = 0
    for parent, folders, files in os.walk(path):
        seen += len(folders) + len(files)
        if seen > MOST_ENTRIES:
            raise InputError(field, f"{path}, which has more than {MOST_ENTRIES:,} entries", "a smaller folder")
        for name in (*folders, *files):
            entry = Path(parent, name)
            if entry.is_symlink():
                yield entry


def checked_options(kind: type[Config], options: Mapping[str, Any], folders: AllowedFolders) -> dict[str, Any]:
    """The options with paths made absolute; values that only the owner of the machine may set are refused.

    Unknown names pass: ``build_config`` refuses them with the nearest right one.

    Raises
    ------
    InputError : a path outside the allowed folders, text that names a place for an option that reads no file, and an
        option for the command line only.
    """
    checked: dict[str, Any] = {}
    for name, value in options.items():
        info = kind.model_fields.get(name)
        if info is None:
            checked[name] = value
            continue
        if command_line_only(info):
            raise InputError(name, "an option for the command line only", "other options; the owner runs this one")
        file = names_file(info)
        checked[name] = _each(value, lambda text, n=name, f=file: _checked(n, text, f, folders))
    return checked


def _each(value: Any, check: Any) -> Any:
    if isinstance(value, str):
        return check(value)
    if isinstance(value, (list, tuple)):
        return [_each(item, check) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _each(item, check) for key, item in value.items()}
    return value


def _checked(name: str, text: str, file: File | None, folders: AllowedFolders) -> str:
    if "\x00" in text:
        raise InputError(name, "a null character", "text")
    if file is None:
        if names_place(text):
            raise InputError(name, repr(text), "a value, not a path or an address")
        return text
    if text in file.bundled or (file.also and re.fullmatch(file.also, text)):
        return text
    return str(folders.existing(name, text))
