"""Files that readers give. A name never becomes a path, nothing is unpickled or executed, archives cannot escape.

An upload is kept as ``uploads/<id>/<safe name>`` in the page's folder, an archive as what it held. A run finds it under
the same name in the folder in which it starts, wherever the page keeps it.
"""

from __future__ import annotations

import hashlib
import lzma
import re
import secrets
import shutil
import stat
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from paperworks.errors import InputError
from paperworks.page.database import Database, Upload
from paperworks.page.jobs.storage import require_room, upload_folder
from paperworks.page.settings import Settings
from paperworks.runs.files import new_folder
from paperworks.runs.usage import bytes_below

PLAIN_SUFFIXES = (
    "csv tsv txt json jsonl ndjson parquet npy npz png jpg jpeg gif webp bmp pgm idx ubyte gz xz bz2 zst "
    "safetensors model tsp md dat data arff toml mid midi musicxml mxl xml krn abc mei"
)
CODE_SUFFIXES = "py pyc pkl pickle pt pth bin ckpt joblib so dll exe sh bat h5 keras ipynb js"
PLAIN = frozenset(PLAIN_SUFFIXES.split())
CODE = frozenset(CODE_SUFFIXES.split())
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz")
UNPACKED_FACTOR = 5
"""An archive may unpack to at most this many times the largest upload, ..."""
UNPACKED_RATIO = 50
UNPACKED_FREE = 2**20
"""... this many times its own size and a little more, ..."""
MEMBERS = 20_000
"""... and this many files."""
NAME_BYTES, NAME_CHARACTERS = 200, 100

BROKEN = (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, NotImplementedError, RuntimeError)

_PICKLE = re.compile(rb"\A\x80[\x02-\x05]")
_ZIP = b"PK\x03\x04"


def save_upload(
    database: Database, settings: Settings, field: str, name: str, chunks: Iterable[bytes], user_id: int | None
) -> tuple[Upload, str]:
    """Keep a file; returns its row and the path that a recipe gets (for an archive: the folder of what it held).

    The path is relative to the folder in which a run starts: ``uploads/<id>/<name>``.

    Raises InputError naming ``field`` for an empty or too large file, one beyond the quotas, a kind that is not data,
    pickled objects, and archives that hold too much, links, or names outside themselves.
    """
    if not settings.uploads_allowed:
        raise InputError(field, "an upload", "a bundled input: this page takes no files")
    safe = safe_name(field, name)
    upload_id = secrets.token_hex(16)
    with database.reading() as session:
        room = require_room(session, settings, user_id, field)
    folder = upload_folder(settings, upload_id)
    with new_folder(folder, field) as aside:
        path = aside / safe
        size, digest = _write(field, path, chunks, min(settings.upload_bytes, room))
        target = path
        if is_archive(safe):
            most = min(UNPACKED_FACTOR * settings.upload_bytes, UNPACKED_RATIO * size + UNPACKED_FREE, room)
            target = _unpack(field, path, aside / "unpacked", most)
            path.unlink()
        else:
            refuse_code(field, path)
        reference = f"uploads/{upload_id}/{target.relative_to(aside).as_posix()}"
        stored = bytes_below(aside)
    upload = Upload(id=upload_id, user_id=user_id, name=safe, bytes=size, stored=stored, sha256=digest)
    try:
        with database.session() as session:
            require_room(session, settings, user_id, field)  # others may have sent files meanwhile
            session.add(upload)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return upload, reference


def reference_of(settings: Settings, upload: Upload) -> str:
    """The path under which a recipe gets an upload that is kept."""
    folder = upload_folder(settings, upload.id)
    if not is_archive(upload.name):
        return f"uploads/{upload.id}/{upload.name}"
    return f"uploads/{upload.id}/{_innermost(folder / 'unpacked').relative_to(folder).as_posix()}"


def safe_name(field: str, name: str) -> str:
    """The last part of a name, with a suffix of a kind of data that recipes read.

    Letters and digits of every script, ``.``, ``-``, ``_`` and single spaces are kept; anything else becomes ``_``.
    """
    last = PurePosixPath(unicodedata.normalize("NFC", name).replace("\\", "/")).name
    stem = re.sub(r"[^\w. -]+", "_", " ".join(last.split())).strip("._- ")
    while len(stem.encode()) > NAME_BYTES or len(stem) > NAME_CHARACTERS:
        stem = stem[1:]
    stem = stem.lstrip("._- ")
    if not stem:
        raise InputError(field, repr(name), "a file name with letters or digits")
    suffix = stem.rsplit(".", 1)[-1].lower() if "." in stem else ""
    if not is_archive(stem) and suffix not in PLAIN:
        raise InputError(
            field,
            f"a file of kind .{suffix}" if suffix else "a file without a suffix",
            f"data: one of .{', .'.join(sorted(PLAIN))}, or {', '.join(ARCHIVES)}",
        )
    return stem


def is_archive(name: str) -> bool:
    """Whether a file of this name is unpacked."""
    return name.lower().endswith(ARCHIVES)


def refuse_code(field: str, path: Path) -> None:
    """Raise InputError for pickled Python objects, whatever the file is called (torch's .pt is a zip of pickles)."""
    with path.open("rb") as handle:
        head = handle.read(4096)
    if _PICKLE.match(head):
        raise InputError(field, f"{path.name}, a pickle", "data without code, for example .npy, .csv or .safetensors")
    if head.startswith(_ZIP):
        try:
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
        except zipfile.BadZipFile:
            return
        if any(n.endswith((".pkl", ".pickle")) for n in names):
            raise InputError(field, f"{path.name}, which holds a pickle", "weights as .safetensors, arrays as .npy")
    if head.startswith(b"\x93NUMPY") and re.search(rb"'descr':\s*'\|?O", head):
        raise InputError(field, f"{path.name}, an array of Python objects", "an array of numbers")


def _write(field: str, path: Path, chunks: Iterable[bytes], limit: int) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    with path.open("xb") as out:
        for chunk in chunks:
            size += len(chunk)
            if size > limit:
                raise InputError(field, f"more than {limit} bytes", f"a file of at most {limit} bytes")
            digest.update(chunk)
            out.write(chunk)
    if size == 0:
        raise InputError(field, "an empty file", "a file with content")
    return size, digest.hexdigest()


def _unpack(field: str, archive: Path, into: Path, limit: int) -> Path:
    into.mkdir()
    room = limit
    seen = 0
    for name, stream in _members(field, archive):
        seen += 1
        if seen > MEMBERS:
            raise InputError(field, f"an archive of more than {MEMBERS} files", f"at most {MEMBERS}")
        parts = _inside(field, name)
        suffix = parts[-1].rsplit(".", 1)[-1].lower() if "." in parts[-1] else ""
        if suffix in CODE:
            raise InputError(field, f"an archive with {name!r}", "data and weights without code (.safetensors, .json)")
        if suffix not in PLAIN:
            continue  # a licence, a .gitattributes: nothing that a recipe reads
        target = into.joinpath(*parts)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            out = target.open("xb")
        except (FileExistsError, NotADirectoryError):
            raise InputError(field, f"an archive with the name {name!r} twice", "each name once") from None
        # Counted while it is written: the sizes that an archive declares may be false.
        with stream as source, out:
            for chunk in _chunks(field, source):
                room -= len(chunk)
                if room < 0:
                    raise InputError(field, f"an archive that unpacks to more than {limit} bytes", "a smaller one")
                out.write(chunk)
        refuse_code(field, target)
    if not any(into.iterdir()):
        raise InputError(field, "an archive without data files", "an archive with data")
    return _innermost(into)


def _innermost(folder: Path) -> Path:
    """The one folder in a folder, as archives of a folder have it, or the folder itself."""
    entries = list(folder.iterdir())
    return entries[0] if len(entries) == 1 and entries[0].is_dir() else folder


def _inside(field: str, name: str) -> list[str]:
    """The parts of a member's name, refused if they lead out of the archive's own folder."""
    path = PurePosixPath(name.replace("\\", "/"))
    parts = [p for p in path.parts if p != "."]
    if path.is_absolute() or not parts or ".." in parts or ":" in parts[0] or any("\x00" in p for p in parts):
        raise InputError(field, f"an archive with the member {name!r}", "members below the archive's own folder")
    if len(parts) > 30 or any(len(part) > 200 for part in parts):
        raise InputError(
            field, "an archive with a very long or deep name", "at most 30 parts of at most 200 characters"
        )
    return parts


def _chunks(field: str, source: IO[bytes]) -> Iterator[bytes]:
    try:
        while chunk := source.read(1 << 20):
            yield chunk
    except BROKEN as error:
        raise InputError(field, f"an archive that cannot be read ({error})", "a whole .zip or .tar file") from None


def _members(field: str, archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    try:
        if archive.name.lower().endswith(".zip"):
            with zipfile.ZipFile(archive) as zipped:
                for info in zipped.infolist():
                    if info.is_dir():
                        continue
                    if stat.S_ISLNK(info.external_attr >> 16) or info.flag_bits & 1:
                        raise InputError(field, f"a link or an encrypted member, {info.filename!r}", "plain files")
                    yield info.filename, zipped.open(info)
            return
        with tarfile.open(archive, "r:*") as tarred:
            for member in tarred:
                if member.isdir():
                    continue
                stream = tarred.extractfile(member) if member.isreg() else None
                if stream is None:
                    raise InputError(field, f"a member that is no plain file, {member.name!r}", "plain files")
                yield member.name, stream
    except BROKEN as error:
        raise InputError(field, f"an archive that cannot be read ({error})", "a whole .zip or .tar file") from None
