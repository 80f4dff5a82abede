"""Traces of text: the file mapped into memory, one column of it numbered in compiled code, faults named by line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from paperworks.errors import InputError, nearest
from paperworks.inputs.kinds import require_text
from paperworks.papers.paging import scan
from paperworks.papers.paging.layout import SAMPLE_BYTES, SAMPLE_LINES, WHOLE_LINE, Columns, Layout, find_layout, split
from paperworks.papers.paging.tables import UNREADABLE, Part, open_file, read_table, size_note, text_of
from paperworks.papers.paging.trace import Trace, number_pages

DELETES = ("delete", "del", "remove", "rm", "unlink", "rest.delete.object")
DELETE_CODE = "9"
"""libCacheSim's code for a delete in a column of numbers."""

PACKED = (".gz", ".bz2", ".xz", ".zst", ".lz4")
_ORACLE_GENERAL_BYTES = 24


def load(path: Path) -> np.ndarray:
    """The file's bytes, uint8: mapped as they are, or unpacked by its suffix."""
    if path.suffix not in PACKED:
        return np.asarray(np.memmap(path, np.uint8, "r"))
    try:
        with open_file(path) as stream:
            return np.frombuffer(stream.read(), np.uint8)
    except UNREADABLE as error:
        raise InputError("trace", f"{path} ({error})", "a file that unpacks") from None


def first_lines(path: Path, data: np.ndarray) -> list[str]:
    """The first lines without their ends. Raises InputError for a file that is no text."""
    start = data[:SAMPLE_BYTES].tobytes()
    words = "a trace of text, or --format for another kind"
    if len(data) % _ORACLE_GENERAL_BYTES == 0:
        words += " (records of 24 bytes are oracle-general)"
    require_text(path, start, words)
    text = start.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "backslashreplace")
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    if len(start) < len(data) or not lines[-1]:  # the last one is cut, or there is none
        lines = lines[:-1] or lines
    while len(lines) > 1 and not lines[-1].strip():
        lines.pop()
    return lines[:SAMPLE_LINES]


def guess_layout(path: Path, data: np.ndarray) -> Layout | None:
    """The layout of a text whose format is not given; None if its lines are the ids."""
    return find_layout(first_lines(path, data))


def read_text(
    path: Path,
    data: np.ndarray,
    part: Part,
    *,
    columns: Columns | None = None,
    delimiter: str | None = None,
    header: bool | None = None,
    ignore_size: bool = True,
    whole_lines: bool = False,
) -> Trace:
    """The trace of a text: of its lines, or of the columns that were given or found."""
    lines = first_lines(path, data)
    layout: Layout | None
    if whole_lines:
        layout = Layout(WHOLE_LINE, 0, (), 1, Columns(0), "text")
    else:
        if delimiter is not None and len(delimiter) != 1:
            raise InputError("delimiter", repr(delimiter), "one character")
        layout = find_layout(lines, delimiter=delimiter, header=header, table=True)
        if layout is None:
            layout = _one_column(lines, header)
        if columns is not None:
            layout = _with_columns(path, layout, columns)
    notes = size_note(path, layout.columns.size is not None, ignore_size)
    found = _column(path, data, layout, part, layout.columns.id)
    if layout.columns.op is not None:
        op = _column(path, data, layout, part, layout.columns.op)
        found, dropped = _without_deletes(found, op)
        notes += (f"{dropped:,} deletes were left out.",) if dropped else ()
    ids = _ids(path, found)
    words = layout.words() if layout.delimiter != WHOLE_LINE or layout.preamble else ""
    return Trace(found.pages, ids, path.name, notes, words)


def _one_column(lines: list[str], header: bool | None) -> Layout:
    """A table of one column; its first line is a header if it has a known name or stands above numbers only."""
    if header is None:
        known = Columns(0) if len(lines) < 2 else None
        numbers = all(re.fullmatch(r"-?[0-9.]+", line.strip()) for line in lines[1:])
        header = known is None and not re.fullmatch(r"-?[0-9.]+", lines[0].strip()) and numbers
    names = (lines[0].strip().strip('"'),) if header else ()
    return Layout(WHOLE_LINE, int(header), names, 1, Columns(0))


def _with_columns(path: Path, layout: Layout, columns: Columns) -> Layout:
    def place(option: str, column: Any) -> int | None:
        if column is None:
            return None
        if isinstance(column, str):
            if not layout.names:
                raise InputError(option, f"{column!r} for {path}, which has no header", "a position from 0")
            if column not in layout.names:
                known = ", ".join(layout.names)
                raise InputError(option, repr(column), f"one of {known}{nearest(column, layout.names)}")
            return layout.names.index(column)
        if not 0 <= column < (layout.fields or column + 1):
            raise InputError(option, column, f"a position from 0 to {layout.fields - 1}, as {path} has fields")
        return int(column)

    chosen = [place(f"{name}_column", getattr(columns, name)) for name in ("id", "size", "op", "time")]
    assert chosen[0] is not None
    return Layout(layout.delimiter, layout.preamble, layout.names, layout.fields, Columns(chosen[0], *chosen[1:]))


class _Column(NamedTuple):
    pages: np.ndarray  # int32 [requests]
    ids: np.ndarray | None  # int64 [distinct], if all are whole numbers
    texts: list[str]  # [distinct], else
    lines: np.ndarray  # the line of each id's first request, from 1; empty for numbers


def _column(path: Path, data: np.ndarray, layout: Layout, part: Part, column: Any) -> _Column:
    delimiter = ord(layout.delimiter) if layout.delimiter != WHOLE_LINE else 0
    if delimiter and delimiter != scan.BLANKS and scan.holds(data, ord('"')):
        return _quoted_column(path, layout, part, column)
    start = scan.skip_lines(data, layout.preamble + part.skip)
    if layout.preamble + part.skip == 0 and data[:3].tobytes() == b"\xef\xbb\xbf":
        start = 3
    most = scan.count_lines(data[start:])
    if not most:
        raise InputError("trace", f"{path}, with no requests left", "at least one request")
    wanted = most if part.limit is None else min(most, part.limit)
    fields = 0 if not delimiter else layout.fields
    pages, ids, end, read = scan.scan_numbers(data, start, wanted, delimiter, column, fields)
    line = 1 + layout.preamble + part.skip
    if end == scan.DONE:
        return _Column(pages, ids, [], np.empty(0, np.int64))
    if end == scan.NOT_A_NUMBER:
        pages, where, end, read = scan.scan_text(data, start, wanted, delimiter, column, fields)
    if end == scan.FIELDS:
        at = scan.skip_lines(data, line - 1 + read)
        text = data[at : scan.skip_lines(data, line + read)].tobytes().decode("utf-8", "replace").rstrip("\r\n")
        count = len(split(text, layout.delimiter)) if text.strip() else int(layout.delimiter != " ")
        raise InputError(
            str(path),
            f"line {line + read}: {count} field{'s' * (count != 1)} in {text[:80]!r}",
            f"{layout.fields or f'at least {column + 1}'} fields in every line",
        )
    texts = [text_of(data[begin:stop].tobytes()) for begin, stop, _ in where.tolist()]
    return _Column(pages, None, texts, where[:, 2] + line)


def _quoted_column(path: Path, layout: Layout, part: Part, column: int) -> _Column:
    (values,) = read_table(path, part, layout.delimiter, layout.preamble, [column], quoted=True)
    encoded = values.dictionary_encode()
    if hasattr(encoded, "chunks"):
        encoded = encoded.combine_chunks()
    numbers = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int32, copy=False)
    texts = [text_of(v).strip() for v in encoded.dictionary.to_pylist()]
    first = number_pages(numbers)[1]
    return _Column(numbers, None, texts, first + 1 + layout.preamble + part.skip)


def _ids(path: Path, found: _Column) -> np.ndarray:
    """The ids of the pages; texts that are all whole numbers become integers."""
    if found.ids is not None:
        return found.ids
    whole = [bool(re.fullmatch(r"0|-?[1-9][0-9]{0,17}", text)) for text in found.texts]
    # "nan" and "none" are words like others, but not among numbers.
    missing = ("", "nan", "null", "none", "?", "na") if any(whole) else ("",)
    for number, text in enumerate(found.texts):
        if text.lower() in missing:
            raise InputError(f"{path}, line {found.lines[number]}", repr(text), "a page id")
    return np.array([int(t) for t in found.texts], np.int64) if all(whole) else np.array(found.texts)


def _without_deletes(found: _Column, op: _Column) -> tuple[_Column, int]:
    """The requests that are no deletes, their pages numbered afresh, and how many were left out."""
    words = [str(v) for v in op.ids.tolist()] if op.ids is not None else op.texts
    codes = all(word.isdigit() for word in words)
    gone = [word == DELETE_CODE if codes else word.lower() in DELETES for word in words]
    kept = ~np.array(gone, bool)[op.pages]
    dropped = int((~kept).sum())
    if not dropped:
        return found, 0
    pages, first = number_pages(found.pages[kept])
    own = found.pages[kept][first]
    lines = found.lines[own] if len(found.lines) else found.lines
    texts = [found.texts[i] for i in own] if found.texts else []
    return _Column(pages, None if found.ids is None else found.ids[own], texts, lines), dropped
