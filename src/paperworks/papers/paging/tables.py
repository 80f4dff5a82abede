"""Traces in tables of text: what CSV-like formats have in common, and the formats themselves."""

from __future__ import annotations

import lzma
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow
from pyarrow import compute, csv

from paperworks.errors import InputError
from paperworks.papers.paging.trace import Trace, number_pages

UNREADABLE = (OSError, EOFError, lzma.LZMAError, pyarrow.ArrowException)
"""What reading a damaged file raises."""


class Part(NamedTuple):
    """Which of the file's requests are wanted."""

    skip: int
    limit: int | None

    @property
    def slice(self) -> slice:
        """As a slice of the file's requests."""
        return slice(self.skip, None if self.limit is None else self.skip + self.limit)


def open_file(path: Path) -> Any:
    """The file's bytes as a pyarrow stream, unpacked by its suffix."""

    try:
        if path.suffix == ".xz":
            return pyarrow.PythonFile(lzma.open(path), mode="r")
        return pyarrow.input_stream(str(path), compression="detect")
    except UNREADABLE as error:
        raise InputError("trace", f"{path} ({error})", "a readable file") from None


def size_note(path: Path, has_sizes: bool, ignore_size: bool) -> tuple[str, ...]:
    """What to tell about object sizes. Raises InputError if they must not be ignored."""
    if not has_sizes:
        return ()
    if not ignore_size:
        raise InputError(
            "ignore_size", f"False, and {path.name} has object sizes", "True: these algorithms are for unit-size pages"
        )
    return ("Object sizes are ignored: each object counts as one page.",)


def first_line(path: Path, preamble: int = 0) -> str:
    """The first line after so many, without its end."""
    try:
        with open_file(path) as stream:
            data = stream.read(1 << 16)
    except UNREADABLE as error:
        raise InputError("trace", f"{path} ({error})", "a file that unpacks") from None
    lines = data.decode("utf-8", "replace").splitlines()[preamble:]
    return lines[0] if lines else ""


def read_table(
    path: Path, part: Part, delimiter: str, preamble: int, chosen: Sequence[int], quoted: bool = False
) -> list[Any]:
    """The wanted columns as pyarrow arrays of bytes; a line with another number of fields is an error.

    ``preamble`` lines are left out at the start; ``quoted`` says that fields may stand in quotes.
    """
    fields = len(first_line(path, preamble).split(delimiter))
    if max(chosen) >= fields:
        raise InputError("trace", f"{path} with {fields} fields in its first line", f"at least {max(chosen) + 1}")
    unique = [str(i) for i in range(fields)]
    bad: list[Any] = []

    def note(row: Any) -> str:
        bad.append(row)
        return "skip"

    batches, rows = [], 0
    try:
        reader = csv.open_csv(
            open_file(path),
            csv.ReadOptions(use_threads=False, column_names=unique, skip_rows=preamble, block_size=1 << 22),
            csv.ParseOptions(
                delimiter=delimiter,
                quote_char='"' if quoted else False,
                ignore_empty_lines=False,
                invalid_row_handler=note,
            ),
            csv.ConvertOptions(
                column_types=dict.fromkeys(unique, pyarrow.binary()),
                include_columns=[str(i) for i in chosen],
                strings_can_be_null=False,
            ),
        )
        for batch in reader:
            batches.append(batch)
            rows += len(batch)
            if bad or (part.limit is not None and rows >= part.skip + part.limit):
                break
    except UNREADABLE as error:
        raise InputError("trace", f"{path} ({error})", "a table of text") from None
    if bad:
        row = bad[0]
        line = "" if row.number is None else f"line {row.number}: "
        raise InputError(
            f"{path}",
            f"{line}{row.actual_columns} fields in {str(row.text)[:80]!r}",
            f"{row.expected_columns} fields in every line",
        )
    table = pyarrow.Table.from_batches(batches) if batches else None
    if table is None or not len(table):
        raise InputError("trace", f"{path}, with no requests", "at least one request")
    stop = len(table) if part.limit is None else min(len(table), part.skip + part.limit)
    table = table.slice(part.skip, max(0, stop - part.skip))
    return [table.column(str(i)).combine_chunks() for i in chosen]


def text_of(value: bytes) -> str:
    """Bytes as text; those that are no UTF-8 are written out."""
    return value.decode("utf-8", "backslashreplace")


def _whole_numbers(path: Path, column: Any, name: str, line: int) -> np.ndarray:
    """A column as int64 [rows]; an entry that is not a whole number is an error with its line."""

    text = compute.utf8_trim_whitespace(column.cast(pyarrow.string(), safe=False))
    good = compute.match_substring_regex(text, r"^-?[0-9]{1,18}$").to_numpy(zero_copy_only=False)
    if not good.all():
        row = int((~good).argmax())
        raise InputError(f"{path}, line {line + row}", f"{name} {text[row].as_py()!r}", "a whole number")
    return text.cast(pyarrow.int64()).to_numpy(zero_copy_only=False)


def read_msr(path: Path, part: Part, page_bytes: int, operations: str) -> Trace:
    """MSR Cambridge block I/O: one request per page that an operation touches."""

    if operations not in ("all", "read", "write"):
        raise InputError("operations", repr(operations), "all, read or write")
    host, disk, kind, offset, size = read_table(path, part, ",", 0, [1, 2, 3, 4, 5])
    line = 1 + part.skip
    start = _whole_numbers(path, offset, "offset", line)
    length = _whole_numbers(path, size, "size", line)
    for name, values in (("offset", start), ("size", length)):
        if (values < 0).any():
            row = int((values < 0).argmax())
            raise InputError(f"{path}, line {line + row}", f"{name} {values[row]}", "0 or more bytes")
    word = compute.utf8_lower(compute.utf8_trim_whitespace(kind.cast(pyarrow.string(), safe=False)))
    known = compute.is_in(word, pyarrow.array(["read", "write"])).to_numpy(zero_copy_only=False)
    if not known.all():
        row = int((~known).argmax())
        raise InputError(f"{path}, line {line + row}", f"type {word[row].as_py()!r}", "Read or Write")
    if operations != "all":
        kept = compute.equal(word, operations).to_numpy(zero_copy_only=False)
        start, length = start[kept], length[kept]
        host, disk = host.filter(pyarrow.array(kept)), disk.filter(pyarrow.array(kept))
    first = start // page_bytes
    count = np.maximum(1, (start + length - 1) // page_bytes - first + 1)
    units = compute.binary_join_element_wise(host, disk, b".").dictionary_encode()
    unit = units.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    names = [text_of(v) for v in units.dictionary.to_pylist()]
    if len(first) and int(first.max() + count.max()) >= 1 << 44:
        raise InputError("page_bytes", page_bytes, "pages so large that a disk has fewer than 2**44")
    into = np.repeat(np.cumsum(count) - count, count)
    page = np.repeat(first, count) + (np.arange(count.sum()) - into)
    keys = np.repeat(unit, count) << 44 | page
    if not len(keys):
        raise InputError("operations", operations, f"an operation that {path} has")
    pages, at = number_pages(keys)
    ids = np.array([f"{names[key >> 44]}.{key & ((1 << 44) - 1)}" for key in keys[at].tolist()])
    note = f"{len(first):,} requests for bytes became {len(keys):,} requests for pages of {page_bytes} bytes."
    words = "Block I/O (MSR Cambridge): host, disk and page of the offset as page id."
    return Trace(pages, ids, path.name, (note,), words)


def read_parrot(path: Path, part: Part, line_bytes: int) -> Trace:
    """Parrot's SPEC traces: one request per cache line of an address."""
    header = not first_line(path).strip().lower().startswith(("0x", *"0123456789"))
    (address,) = read_table(path, part, ",", int(header), [1])
    encoded = address.dictionary_encode()
    numbers = encoded.indices.to_numpy(zero_copy_only=False)
    lines = np.empty(len(encoded.dictionary), np.int64)
    for number, value in enumerate(encoded.dictionary.to_pylist()):
        try:
            lines[number] = int(text_of(value).strip(), 16) // line_bytes
        except (ValueError, OverflowError):
            row = int((numbers == number).argmax())
            where = 1 + int(header) + part.skip + row
            raise InputError(f"{path}, line {where}", repr(text_of(value)), "an address in hexadecimal") from None
    pages, first = number_pages(lines[numbers])
    return Trace(pages, lines[numbers][first], path.name)
