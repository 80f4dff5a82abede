"""Tables in text files: the delimiter, what stands above the header, ragged lines, decimal commas."""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paperworks.errors import InputError
from paperworks.inputs.cell_forms import Commas, comma_forms, plain_numbers
from paperworks.inputs.kinds import read_unpacked, require_text

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

DELIMITERS = (",", "\t", ";", "|")
"""Column separators that are looked for in a text file's first lines, before blanks."""

BLANKS = " "
"""As delimiter: runs of blanks."""

ROW_NAMES = "row names"
"""The first column where the header has no name for it."""
SAMPLE_BYTES = 1 << 16
MOST_ABOVE = 20
"""Lines that may stand above a header."""

_COMMENT = "#"
_LINE_END = re.compile(r"\r\n|\n|\r")
_LINE_END_BYTES = re.compile(rb"\r\n|\r")
_NUMBER = re.compile(r"[+-]?(\d+[.,]?\d*|[.,]\d+)([eE][+-]?\d+)?")


@dataclass(frozen=True)
class Delimited:
    """A text file's cells as text.

    ``above`` lines stand before the first row; ``commas`` in numbers may be these, the likelier first; ``notes`` say
    what was left out.
    """

    frame: pd.DataFrame
    delimiter: str
    above: int
    commas: tuple[Commas, ...]
    notes: list[str]


@dataclass(frozen=True)
class _Head:
    delimiter: str
    names: list[str]
    above: int
    """Lines before the first row, the header among them."""
    notes: list[str]
    commas: tuple[Commas, ...] = ()
    idle: tuple[str, ...] = ()
    """Columns without a name and without a value in the first lines."""


def read_delimited(path: Path, delimiter: str | None = None) -> Delimited:
    """Read a text file with a header line. Raises InputError naming the file, and the line at fault."""
    head = _checked_head(path, delimiter)
    table = _read(path, head)
    if table.num_rows == 0:
        raise InputError(str(path), "a header and no rows", "at least one row")
    return Delimited(_text_frame(table), head.delimiter, head.above, head.commas, head.notes)


def delimited_chunks(path: Path, delimiter: str | None = None, *, rows: int = 200_000) -> Iterator[pd.DataFrame]:
    """A large text file as ``read_delimited`` reads it, in frames of ``rows`` rows of text (the last has fewer).

    What stands in memory does not grow with the file, unless its columns are separated by runs of blanks. Columns of
    numbers with commas are written with points, and in all chunks by the form that the first such chunk has: where
    another's numbers have not, they stay text. A column that a separator at the end of each line makes is left out;
    InputError names it where a later line has something in it.
    """
    import pyarrow as pa
    from pyarrow import csv as arrow

    head = _checked_head(path, delimiter)
    if head.delimiter == BLANKS:
        frame = read_delimited(path, delimiter).frame
        for start in range(0, len(frame), rows):
            yield frame.iloc[start : start + rows].reset_index(drop=True)
        return
    reading = arrow.ReadOptions(
        use_threads=False, column_names=head.names, skip_rows=head.above - 1, skip_rows_after_names=1
    )
    options = arrow.ConvertOptions(column_types=dict.fromkeys(head.names, pa.string()), strings_can_be_null=False)
    parse = arrow.ParseOptions(delimiter=head.delimiter, newlines_in_values=True)
    waiting: list[pa.RecordBatch] = []
    forms = dict.fromkeys((name for name in head.names if name not in head.idle), head.commas)
    try:
        for batch in arrow.open_csv(path, read_options=reading, parse_options=parse, convert_options=options):
            waiting.append(batch)
            while sum(map(len, waiting)) >= rows:
                table = pa.Table.from_batches(waiting)
                yield _pointed(_without_idle(table.slice(0, rows), head.idle, path), forms)
                waiting = table.slice(rows).to_batches()
    except pa.ArrowInvalid as error:
        raise _ragged(path, first_line(error), len(head.names)) from None
    except OSError as error:
        raise _unreadable(path, error) from None
    if waiting:
        table = pa.Table.from_batches(waiting)
        if table.num_rows:
            yield _pointed(_without_idle(table, head.idle, path), forms)


def _checked_head(path: Path, delimiter: str | None) -> _Head:
    if delimiter is not None and len(delimiter) != 1:
        raise InputError("delimiter", repr(delimiter), "one character")
    lines = _first_lines(path)
    head = _head(path, lines, delimiter)
    below = lines[head.above :] if head.delimiter != "," else []
    commas = comma_forms(
        head.delimiter, (cell for line in below if "," in line for cell in _cells(line, head.delimiter))
    )
    idle = {place for place, name in enumerate(head.names, 1) if not name}
    if idle:
        cells = [_cells(line, head.delimiter) for line in lines[head.above :] if line.strip()]
        idle = {place for place in idle if not any(row[place - 1 : place] != [""] for row in cells)}
    # a name for columns without one: pandas' index, and cells of Excel beyond the table
    names = [name or f"column {place}" for place, name in enumerate(head.names, 1)]
    head = replace(head, names=names, commas=commas, idle=tuple(names[place - 1] for place in sorted(idle)))
    twice = first_twice(head.names)
    if twice is not None:
        raise InputError(f"{path}, line {head.above}", f"two columns named {twice!r}", "one column per name")
    return head


def _text_frame(table: pa.Table) -> pd.DataFrame:
    """Object columns of plain strings: what every later step expects, whatever pandas' own string type is."""
    import pandas as pd

    return pd.DataFrame({n: _trimmed(table.column(n)).to_pandas().astype(object) for n in table.column_names})


def _without_idle(table: pa.Table, idle: Sequence[str], path: Path) -> pa.Table:
    import pyarrow.compute as pc

    for name in idle:
        cells = pc.utf8_trim_whitespace(table.column(name))
        if pc.any(pc.not_equal(cells, "")).as_py():
            found = next(cell for cell in cells.to_pylist() if cell)
            raise InputError(
                f"{path}, {name}", f"{found!r}, in a column without a name that begins empty", "a name in the header"
            )
    return table.drop_columns(list(idle)) if idle else table


def _pointed(table: pa.Table, forms: dict[str, tuple[Commas, ...]]) -> pd.DataFrame:
    """The frame of a chunk, in which numbers have decimal points. ``forms`` keeps what a column's commas were."""
    import pyarrow.compute as pc

    frame = _text_frame(table)
    for name in table.column_names:
        if pc.any(pc.match_substring(table.column(name), ",")).as_py():
            frame[name], kind = plain_numbers(frame[name], frame[name] == "", forms[name])
            forms[name] = (kind,) if kind else ()
    return frame


def first_twice(names: Sequence[str]) -> str | None:
    """The first name that was there before; None where all are different."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def first_line(error: Exception) -> str:
    """The first line of an error's message."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def _first_lines(path: Path) -> list[str]:
    opener: Any = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as stream:
            start = stream.read(SAMPLE_BYTES)
    except (OSError, EOFError, zlib.error) as error:
        raise _unreadable(path, error) from None
    require_text(path, start, "a table as text (.csv, .tsv, .txt, also .gz) or a .parquet file named so")
    if re.match(rb"(\s*%[^\n]*\n)*\s*@relation\b", start, re.IGNORECASE):
        raise InputError(str(path), "an ARFF file", "a table with one line of names, such as Weka's CSVSaver writes")
    if re.match(rb'(\xef\xbb\xbf)?\s*(\[\s*)?\{\s*["}]', start):
        raise InputError(str(path), "JSON", "a table; pandas.read_json reads records (lines=True) and to_csv writes it")
    try:
        text = start.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if len(start) < SAMPLE_BYTES or error.start < len(start) - 4:
            raise InputError(
                str(path), f"bytes that are not UTF-8 ({error.reason})", "UTF-8 text (see iconv)"
            ) from None
        text = start[: error.start].decode("utf-8-sig")
    lines = _LINE_END.split(text)
    if len(start) == SAMPLE_BYTES and len(lines) > 1:
        lines.pop()
    return lines


def _head(path: Path, lines: list[str], delimiter: str | None) -> _Head:
    if not any(line.strip() for line in lines):
        raise InputError(str(path), "an empty file", "a header line, then rows")
    comments = 0
    while comments < len(lines) and (
        lines[comments].startswith(_COMMENT) or (comments and not lines[comments].strip())
    ):
        comments += 1
    rest = lines[comments:]
    if not any(line.strip() for line in rest):
        raise InputError(str(path), "a header and no rows" if comments else "an empty file", "a header line, then rows")
    chosen = delimiter or _delimiter(rest)
    widths = [len(_cells(line, chosen)) for line in rest if line.strip()]
    if comments:
        names = _cells(lines[comments - 1].lstrip(_COMMENT + " "), chosen)
        first = _cells(rest[0], chosen)
        if len(names) == len(first) and any(_NUMBER.fullmatch(c) for c in first) and not _numbers_in(names):
            more = comments - 1
            note = f"; {more} line{'s' * (more > 1)} above it left out" if more else ""
            return _Head(chosen, names, comments, [f"The header is the line that begins with {_COMMENT!r}{note}."])
    start = _header_line(rest, widths, chosen)
    if not rest[start].strip():
        raise InputError(str(path), "an empty first line", "a header line, then rows")
    above = comments + start
    notes = [f"{above} line{'s' * (above > 1)} above the header left out."] if above else []
    names = _cells(rest[start], chosen)
    below = [_cells(line, chosen) for line in rest[start + 1 :] if line.strip()]
    if len(names) > 1 and {len(cells) for cells in below} == {len(names) + 1}:
        if all(cells[-1] == "" for cells in below):  # each row ends with a separator
            names = [*names, ""]
        else:  # as R's write.table has it
            names = [ROW_NAMES, *names]
            notes.append(
                "The header has one name fewer than the rows have cells: the first column has names of the rows."
            )
    return _Head(chosen, names, above + 1, notes)


def _header_line(rest: list[str], widths: list[int], delimiter: str) -> int:
    """The header's place: the first line, unless a few shorter ones stand above a line as wide as all that follow.

    A line that Excel has filled up with empty cells is as short as what is in it.
    """
    usual = max(set(widths), key=widths.count)
    if usual < 2 or not _is_above(_cells(rest[0], delimiter), usual):
        return 0
    for place, line in enumerate(rest[: MOST_ABOVE + 1]):
        cells = _cells(line, delimiter) if line.strip() else []
        if not _is_above(cells, usual):
            below = [len(_cells(one, delimiter)) for one in rest[place + 1 : -1] if one.strip()]
            named = cells[: max((i for i, cell in enumerate(cells, 1) if cell), default=0)]
            header = len(cells) == usual and bool(named) and all(named) and not _numbers_in(named)
            return place if header and below and all(width == usual for width in below) else 0
    return 0


def _is_above(cells: Sequence[str], usual: int) -> bool:
    """Whether a line may stand above a header: shorter than the rows, or with a cell or two where they have many."""
    return len(cells) < usual or (usual > 2 and 2 * sum(cell != "" for cell in cells) <= usual and cells[-1] == "")


def _numbers_in(cells: Sequence[str]) -> bool:
    return any(_NUMBER.fullmatch(cell) for cell in cells)


def _delimiter(lines: list[str]) -> str:
    """The delimiter that the most lines have; of several, the one that is there most often in the first such line."""
    some = [line for line in lines[:200] if line.strip()]
    having = {d: sum(d in line for line in some) for d in DELIMITERS}
    most = max(having.values())
    if most == 0:
        widths = [len(line.split()) for line in some]
        same = len({*widths[1:]}) == 1 and widths[0] in (widths[-1], widths[-1] - 1)  # R has no name for its row names
        return BLANKS if len(some) > 2 and widths[0] > 1 and same else ","
    tried = [d for d in DELIMITERS if having[d] == most]
    first = next(line for line in some if any(d in line for d in tried))
    return max(tried, key=lambda d: first.count(d))


def _cells(line: str, delimiter: str) -> list[str]:
    if delimiter == BLANKS:
        return [cell.strip('"') for cell in line.split()]
    return [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter))]


def _read(path: Path, head: _Head) -> pa.Table:
    import pyarrow as pa
    from pyarrow import csv as arrow

    names, delimiter = head.names, head.delimiter
    source: Path | bytes = path
    if delimiter == BLANKS:
        try:
            data = _LINE_END_BYTES.sub(b"\n", read_unpacked(path))
        except OSError as error:
            raise _unreadable(path, error) from None
        data = re.sub(rb"[ \t]+(\n|$)", rb"\1", re.sub(rb"(?m)^[ \t]+", b"", data))
        source, delimiter = re.sub(rb"[ \t]+", b"\t", data), "\t"
    options = arrow.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False)
    parse = arrow.ParseOptions(delimiter=delimiter, newlines_in_values=True)

    def read(threads: bool) -> pa.Table:
        reading = arrow.ReadOptions(
            use_threads=threads, column_names=names, skip_rows=head.above - 1, skip_rows_after_names=1
        )
        opened: Any = io.BytesIO(source) if isinstance(source, bytes) else source
        return arrow.read_csv(opened, read_options=reading, parse_options=parse, convert_options=options)

    try:
        return read(True)
    except pa.ArrowInvalid:
        try:
            return read(False)  # only a single reader counts rows
        except pa.ArrowInvalid as error:
            raise _ragged(path, first_line(error), len(names)) from None
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError(str(path), first_line(error), "a readable text file, whole gzip data where it ends in .gz")


def _trimmed(column: pa.ChunkedArray) -> pa.ChunkedArray:
    import pyarrow.compute as pc

    return pc.utf8_trim_whitespace(column)


def _ragged(path: Path, message: str, n_columns: int) -> InputError:
    row = re.search(r"Row #(\d+): Expected (\d+) columns, got (\d+)", message)
    if row:
        where = f"{path}, line {row[1]}"
        return InputError(where, f"{row[3]} cells", f"{n_columns}, one per column of the header")
    if "straddling object" in message:
        return InputError(str(path), "one line, or a quote that is not closed", "a header line, then rows")
    return InputError(
        str(path),
        "".join(c for c in message if c.isprintable())[:200],
        "one row per line, as many cells as the header, in UTF-8",
    )
