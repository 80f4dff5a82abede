"""Reading traces: plain text, CSV, oracleGeneral, MSR Cambridge, Twitter, Wikimedia, Parrot's SPEC files, numpy arrays.

Compressed files (.gz, .bz2, .xz, .zst, .lz4) are read as they are. A line or record that cannot be read is an error
that names the file and the line; nothing is skipped in silence.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal
from zipfile import BadZipFile

import numpy as np

from paperworks.errors import InputError, nearest
from paperworks.papers.paging import numbering
from paperworks.papers.paging.layout import Columns
from paperworks.papers.paging.names import FORMATS, Format
from paperworks.papers.paging.tables import UNREADABLE, Part, open_file, read_msr, read_parrot, size_note
from paperworks.papers.paging.texts import PACKED, guess_layout, load, read_text
from paperworks.papers.paging.trace import Trace
from paperworks.runs.files import new_file, require_free

ORACLE_GENERAL = np.dtype([("time", "<u4"), ("id", "<u8"), ("size", "<u4"), ("next", "<i8")])


def read_trace(
    path: Path | str,
    format: Format = "auto",
    *,
    columns: Columns | None = None,
    delimiter: str | None = None,
    header: bool | None = None,
    skip: int = 0,
    limit: int | None = None,
    page_bytes: int = 4096,
    operations: Literal["all", "read", "write"] = "all",
    line_bytes: int = 64,
    ignore_size: bool = True,
) -> Trace:
    """Read a trace of page requests.

    Parameters
    ----------
    format : ``text`` (one id per line), ``csv`` (see ``columns``), ``oracle-general`` (libCacheSim's 24-byte records),
        ``msr`` (block I/O: timestamp, host, disk, Read or Write, offset, bytes, response time), ``twitter`` (time, key,
        key size, value size, client, op, TTL), ``wikimedia`` (id, size, time), ``parrot`` (pc, address in hexadecimal),
        ``npy`` (an array of ids). ``auto`` goes by the name (.npy, .csv, .tsv, oracleGeneral), and otherwise by the
        first lines: fields of equal number, one of them numbers, are a table ("time id size"), anything else is text.
    columns : the columns of a table; by default those that the header names, else those that look like it (see
        ``layout``). ``Trace.understood`` says what was chosen.
    delimiter : any character, a blank for runs of blanks; found in the first lines by default.
    header : whether the first line of a table names its columns; found in the first lines by default.
    skip, limit : leave out this many requests at the start, and read at most so many (records of the file).
    page_bytes : the page size of ``msr``; a request over several pages becomes one request for each.
    operations : of ``msr``: reads, writes, or both.
    line_bytes : the cache line of ``parrot``.
    ignore_size : take objects as pages of one size, with a note, when the file has sizes. False makes that an error.

    Raises InputError naming the file, and the line or byte at fault.
    """
    path = Path(path)
    if format not in FORMATS:
        raise InputError("format", repr(format), f"one of {', '.join(FORMATS)}{nearest(str(format), FORMATS)}")
    for name, value, least in (
        ("skip", skip, 0),
        ("limit", 1 if limit is None else limit, 1),
        ("page_bytes", page_bytes, 1),
        ("line_bytes", line_bytes, 1),
    ):
        if value < least:
            raise InputError(name, value, f"at least {least}")
    if not path.is_file():
        raise InputError("trace", f"{path}, which is not a file", "a trace file")
    if path.stat().st_size == 0:
        raise InputError("trace", f"{path}, which is empty", "at least one request")
    kind = _guess(path) if format == "auto" else format
    part = Part(skip, limit)
    data = None if kind in ("npy", "oracle-general") else load(path)
    if format == "auto" and data is not None:
        layout = guess_layout(path, data)
        if columns is None and layout is not None and layout.format != "csv":
            kind = layout.format
        elif kind == "text" and (layout is not None or columns is not None):
            kind = "csv"
    if kind == "npy":
        trace = _read_npy(path, part)
    elif kind == "oracle-general":
        trace = _read_oracle_general(path, part, ignore_size)
    elif kind == "msr":
        trace = read_msr(path, part, page_bytes, operations)
    elif kind == "parrot":
        trace = read_parrot(path, part, line_bytes)
    else:
        assert data is not None
        if kind == "twitter":
            columns, delimiter, header = Columns(id=1, size=3, op=5, time=0), ",", False
        elif kind == "wikimedia" and columns is None:
            columns = Columns(id=0, size=1, time=2)
        trace = read_text(
            path,
            data,
            part,
            columns=columns,
            delimiter=delimiter,
            header=header,
            ignore_size=ignore_size,
            whole_lines=kind == "text",
        )
    if not len(trace):
        raise InputError("trace", f"{path}, with no requests left", "at least one request")
    return trace


def write_oracle_general(trace: Trace, path: Path | str) -> None:
    """Write a trace for libCacheSim: 24 bytes per request, all sizes 1, with the next access of each object (-1: none).

    Integer ids are kept (modulo 2**64); others become the page number plus one. Raises InputError if ``path`` exists.
    """
    from paperworks.papers.paging.optimum import next_requests

    path = Path(path)
    require_free(path, "path")
    records = np.zeros(len(trace), ORACLE_GENERAL)
    ids = trace.ids if trace.ids.dtype.kind in "iu" else np.arange(1, trace.distinct + 1)
    records["time"] = np.arange(len(trace)) & 0xFFFFFFFF
    records["id"] = ids.astype(np.uint64)[trace.pages]
    records["size"] = 1
    following = next_requests(trace)
    records["next"] = np.where(following == len(trace), -1, following)
    with new_file(path) as aside:
        records.tofile(aside)


def _guess(path: Path) -> str:
    name = path.name.lower()
    for packed in PACKED:
        name = name.removesuffix(packed)
    if name.endswith(".npy"):
        return "npy"
    if "oraclegeneral" in name.replace("_", "").replace("-", ""):
        return "oracle-general"
    return "csv" if name.endswith((".csv", ".tsv")) else "text"


# -- records and arrays --------------------------------------------------------------------------------------------


def _read_npy(path: Path, part: Part) -> Trace:
    try:
        ids = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError, BadZipFile) as error:
        raise InputError("trace", f"{path} ({error})", "a numpy array of page ids") from None
    return Trace.of(np.asarray(ids)[part.slice] if ids.ndim == 1 else ids, path.name)


def _read_oracle_general(path: Path, part: Part, ignore_size: bool) -> Trace:
    width = ORACLE_GENERAL.itemsize
    if path.suffix in PACKED and part.limit is not None:
        data = _unpacked(path, (part.skip + part.limit) * width)
    else:
        data = load(path)
    if len(data) % width:
        whole = len(data) - len(data) % width
        raise InputError(
            "trace",
            f"{path} with {len(data)} bytes: its record {whole // width}, at byte {whole}, is cut off",
            f"records of {width} bytes",
        )
    records = data.view(np.uint32).reshape(-1, width // 4)[part.slice]
    if not len(records):
        raise InputError("trace", f"{path}, with no requests left", "at least one request")
    pages, first, sized = numbering.number_records(records)
    ids = data.view(ORACLE_GENERAL)["id"][part.slice][first]
    return Trace(pages, ids, path.name, size_note(path, sized, ignore_size))


def _unpacked(path: Path, size: int) -> np.ndarray:
    """At most so many bytes of a packed file."""
    try:
        with open_file(path) as stream:
            return np.frombuffer(stream.read(size), np.uint8)
    except UNREADABLE as error:
        raise InputError("trace", f"{path} ({error})", "an oracleGeneral file that unpacks") from None
