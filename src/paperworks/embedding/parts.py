"""Parts of files: bytes of JSON lines, row groups of Parquet, rows of ``.npy``; listed, and read one at a time."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from paperworks.embedding.rows import read_rows
from paperworks.embedding.sharded_rows import map_file
from paperworks.errors import InputError
from paperworks.parameters import check_whole

TEXTS, VECTORS = (".jsonl", ".ndjson", ".parquet"), (".npy", ".parquet")
PART_BYTES = 64 * 2**20
"""About what a part has of a file."""

TextOf = str | Callable[[dict[str, Any]], str]
"""The column with the text, or a function from a record to its text."""


@dataclass(frozen=True)
class Part:
    """A range of a file: bytes (a line belongs to the part in which it begins), row groups, or rows."""

    path: str
    start: int
    stop: int

    @property
    def kind(self) -> str:
        return Path(self.path).suffix.lower()


def list_parts(source: str | Path | Sequence[str | Path], kinds: Sequence[str], size: int = PART_BYTES) -> list[Part]:
    """The parts of a file, of the files of a folder in the order of their names, or of a list of files.

    Raises InputError where a file is missing, of another kind, or cannot be read, or where there is none.
    """
    check_whole("part_bytes", size, 1)
    given = [source] if isinstance(source, (str, Path)) else list(source)
    files: list[Path] = []
    for path in (Path(one).expanduser().resolve() for one in given):
        found = sorted(p for p in path.iterdir() if p.suffix.lower() in kinds) if path.is_dir() else [path]
        files += [file for file in found if not file.name.startswith(".")]
        for file in found:
            if not file.is_file() or file.suffix.lower() not in kinds:
                raise InputError("source", str(file), f"an existing file of {', '.join(kinds)}")
    if not files:
        raise InputError("source", f"no file in {', '.join(map(str, given))}", f"files of {', '.join(kinds)}")
    parts = [part for file in files for part in _parts_of(file, size)]
    if not parts:
        raise InputError("source", f"{len(files)} files without rows", "one row or more")
    return parts


def read_texts(part: Part, text: TextOf) -> Iterator[str]:
    """The texts of a part. Raises InputError that names the file and the record."""
    for where, record in _records(part, text):
        if callable(text):
            value: Any = text(record)
        elif text in record:
            value = record[text]
        else:
            columns = ", ".join(list(record)[:12]) or "no column"
            raise InputError("text", f"{where}: {columns}", f"the column {text!r}")
        if value is None or (isinstance(value, float) and value != value):
            value = ""
        if not isinstance(value, str):
            raise InputError("text", f"{where}: {type(value).__name__}", "a text")
        yield value


def read_vectors(part: Part, column: str = "vector") -> np.ndarray:
    """The vectors of a part: float32 [n, d]. Raises InputError for what is none, and for NaN."""
    if part.kind == ".npy":
        return read_rows(map_file(part.path, "source"), slice(part.start, part.stop), part.path)
    values = _column(part, column)
    try:
        vectors = np.stack([np.asarray(value, np.float32) for value in values]) if values else np.empty((0, 0))
    except (ValueError, TypeError) as error:
        raise InputError(part.path, f"column {column!r} ({error})", "vectors of one length") from None
    if vectors.ndim != 2:
        raise InputError(part.path, f"column {column!r} of shape {vectors.shape}", "a vector in each row")
    return read_rows(vectors, slice(None), part.path) if len(vectors) else np.empty((0, 0), np.float32)


def _parts_of(path: Path, size: int) -> list[Part]:
    kind = path.suffix.lower()
    if kind == ".npy":
        rows = map_file(path, "source")
        step = max(1, size // max(rows.shape[1] * rows.dtype.itemsize, 1))
        return [Part(str(path), at, min(at + step, len(rows))) for at in range(0, len(rows), step)]
    if kind == ".parquet":
        found, begin, held = [], 0, 0
        about = _parquet(path).metadata
        for group in range(about.num_row_groups):
            held += about.row_group(group).total_byte_size
            if held >= size or group == about.num_row_groups - 1:
                found.append(Part(str(path), begin, group + 1))
                begin, held = group + 1, 0
        return found
    total = path.stat().st_size
    return [Part(str(path), at, min(at + size, total)) for at in range(0, total, size)]


def _records(part: Part, text: TextOf) -> Iterator[tuple[str, dict[str, Any]]]:
    """Records of a part with the place of each in words."""
    if part.kind == ".parquet":
        if isinstance(text, str):
            for number, value in enumerate(_column(part, text)):
                yield f"{part.path}, row {number} of row group {part.start}", {text: value}
            return
        for number, record in enumerate(_table(part).to_pylist()):
            yield f"{part.path}, row {number} of row group {part.start}", record
        return
    with open(part.path, "rb") as file:
        if part.start:
            file.seek(part.start - 1)
            file.readline()  # what began in the part before
        while (at := file.tell()) < part.stop and (line := file.readline()):
            line = line.removeprefix(b"\xef\xbb\xbf")
            if not line.strip():
                continue
            where = f"{part.path}, line at byte {at}"
            try:
                record = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise InputError("source", f"{where}: not JSON ({error})", "an object in each line") from None
            if not isinstance(record, dict):
                raise InputError("source", f"{where}: {type(record).__name__}", "an object in each line")
            yield where, record


def _parquet(path: str | Path) -> Any:
    import pyarrow.parquet as pq
    from pyarrow import ArrowException

    try:
        return pq.ParquetFile(path)
    except (ArrowException, OSError) as error:
        raise InputError("source", f"{path}, which cannot be read ({error})", "a Parquet file") from None


def _table(part: Part, columns: list[str] | None = None) -> Any:
    return _parquet(part.path).read_row_groups(list(range(part.start, part.stop)), columns=columns)


def _column(part: Part, name: str) -> list[Any]:
    names = _parquet(part.path).schema_arrow.names
    if name not in names:
        raise InputError("source", f"{part.path} with columns {', '.join(names[:12])}", f"the column {name!r}")
    return _table(part, [name]).column(0).to_pylist()
