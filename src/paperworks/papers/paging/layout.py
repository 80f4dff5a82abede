"""What a trace of text looks like: its delimiter, its header, and which of its columns are page ids.

Traces are written in many ways ("time id size", "id size time", "time op id size first last", with and without names).
``find_layout`` reads the first lines and decides; what it decided is said in words, for the report.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

SAMPLE_BYTES = 1 << 18
SAMPLE_LINES = 4000
WHOLE_LINE = ""
"""The delimiter of a trace whose lines are the ids."""

IDS = (
    "id",
    "obj_id",
    "objid",
    "object_id",
    "objectid",
    "page_id",
    "pageid",
    "key",
    "page",
    "obj",
    "object",
    "block",
    "block_id",
    "lbn",
    "lba",
    "item",
    "item_id",
    "url",
    "uri",
    "address",
    "addr",
    "hash",
)
SIZES = ("size", "obj_size", "object_size", "bytes", "length", "len")
OPERATIONS = ("op", "operation", "opcode", "type", "command", "request_type", "io_type")
TIMES = ("time", "timestamp", "ts", "clock", "date", "datetime")
OPERATION_WORDS = frozenset(
    [
        "get",
        "gets",
        "set",
        "add",
        "cas",
        "replace",
        "append",
        "prepend",
        "delete",
        "del",
        "incr",
        "decr",
        "touch",
        "flush",
        "read",
        "write",
        "r",
        "w",
        "put",
        "post",
        "head",
        "copy",
        "remove",
        "rm",
        "unlink",
        "load",
        "store",
        "fetch",
        "ifetch",
        "d",
        "i",
    ]
)
"""Words that a column of operations may hold, in lower case; IBM's ``REST.GET.OBJECT`` counts as one, too."""

_NUMBER = re.compile(r"-?(\d+[.,]?\d*|[.,]\d+)([eE][-+]?\d+)?")
_CLOCK = re.compile(r"\d{4}-\d\d-\d\d|(\d{4}-\d\d-\d\d[T_])?\d\d:\d\d(:\d\d([.,]\d+)?)?Z?")
"""A day, a time of day, or both, written so that their order is that of the text."""
_HEADER_SEARCH = 20


class Columns(NamedTuple):
    """Where a table has what: names (with a header) or positions from 0. ``None`` is a column that is not there."""

    id: str | int
    size: str | int | None = None
    op: str | int | None = None
    time: str | int | None = None


@dataclass(frozen=True)
class Layout:
    """How a text is to be read.

    Attributes
    ----------
    delimiter : one character; a blank stands for runs of blanks and tabs, ``WHOLE_LINE`` for none.
    preamble : lines before the first request, header and comments included.
    names : the header's names; empty if there is none.
    fields : per line; 0 where lines may differ behind the columns that are read.
    columns : positions of what was found.
    format : ``msr`` or ``twitter`` where the columns are those of such a file, else ``csv`` or ``text``.
    """

    delimiter: str
    preamble: int
    names: tuple[str, ...]
    fields: int
    columns: Columns
    format: str = "csv"

    def words(self) -> str:
        """What was understood, for people."""
        if self.delimiter == WHOLE_LINE:
            return "Each whole line is a page id."
        between = {"\t": "tabs", ",": "commas", ";": "semicolons", "|": "bars", ":": "colons", " ": "blanks"}
        separated = between.get(self.delimiter, repr(self.delimiter))
        count = f" of {self.fields}" if self.fields else ""
        text = f"Fields are separated by {separated}: {self._column(self.columns.id)}{count} as page id"
        for what in ("time", "op", "size"):
            place = getattr(self.columns, what)
            if place is not None:
                text += f", {self._column(place)} as {'operation' if what == 'op' else what}"
        head = self.preamble - bool(self.names)
        text += f"; {head} line{'s' * (head > 1)} above the table left out" if head > 0 else ""
        return f"{text}. (--id-column names another: a name of the header, or a position from 0.)"

    def _column(self, place: Any) -> str:
        number = self.names.index(place) if isinstance(place, str) and place in self.names else place
        name = f" ({self.names[number]!r})" if self.names and isinstance(number, int) else ""
        return f"column {number + 1}{name}" if isinstance(number, int) else f"column {place!r}"


def split(line: str, delimiter: str) -> list[str]:
    """A line's fields, without the blanks and quotes around them."""
    if delimiter == WHOLE_LINE:
        return [line]
    parts = line.split() if delimiter == " " else line.split(delimiter)
    return [p.strip().strip('"').strip() for p in parts]


def find_layout(
    lines: Sequence[str], *, delimiter: str | None = None, header: bool | None = None, table: bool = False
) -> Layout | None:
    """The layout of a text from its first lines, or None if it is no table.

    ``table`` says that it is one (``.csv``): then a table without any number or known name counts, too.
    """
    if delimiter:
        return _as_table(lines, delimiter, header, sure=True)
    candidates = [(one, table) for one in "\t;,|"]
    if table and any(" " in field for line in lines for field in split(line, ":")):
        candidates.append((" ", False))  # the colons of times and addresses, in fields that blanks separate
    candidates += [*([(":", True)] if table else []), (" ", table)]
    for one, sure in candidates:
        found = _as_table(lines, one, header, sure)
        if found is not None:
            return found
    return None


def _as_table(lines: Sequence[str], delimiter: str, header: bool | None, sure: bool) -> Layout | None:
    comments = next((i for i, line in enumerate(lines) if not line.startswith(("#", "%"))), len(lines))
    rows = [split(line, delimiter) for line in lines]
    start = _beginning(rows, comments)
    if start is None:
        ragged = _ragged(rows, comments, delimiter)
        if ragged is not None or not (rows := _with_faults(rows, comments, sure)):
            return ragged
        start = comments
    width = len(rows[start])
    body = rows[start:]
    numeric = [all(_NUMBER.fullmatch(row[j]) for row in body[1:]) for j in range(width)]
    lower = [name.lower() for name in body[0]]
    named = any(name in IDS for name in lower)
    texts = sum(not _NUMBER.fullmatch(field) for field in body[0])
    if header is None:
        header = (
            texts == width
            and all(body[0])
            and (named or any(numeric) or (sure and len({*lower}) == width))
            and (len(body) > 1)
        )
    names: tuple[str, ...] = ()
    if header:
        names, start, body = tuple(body[0]), start + 1, body[1:]
    elif comments and start == comments:
        above = split(lines[comments - 1].lstrip("#% \t"), delimiter)
        if len(above) == width and not any(_NUMBER.fullmatch(field) for field in above):
            names = tuple(above)
    if not body:
        return None
    lower = [name.lower() for name in names]
    if not sure and not any(numeric) and not any(name in IDS for name in lower):
        return None
    columns = _roles(body, [all(_NUMBER.fullmatch(row[j]) for row in body) for j in range(width)], lower)
    kind = _known_format(body, delimiter, bool(names))
    if kind == "twitter":
        columns = Columns(1, 3, 5, 0)
    return Layout(delimiter, start, names, width, columns, kind)


def _beginning(rows: list[list[str]], comments: int) -> int | None:
    """The first of the lines from which on all have the same number of fields, two at least."""
    if comments >= len(rows):
        return None
    width = len(rows[-1])
    start = len(rows)
    while start > comments and len(rows[start - 1]) == width:
        start -= 1
    above = rows[comments:start]
    fits = width >= 2 and len(above) <= _HEADER_SEARCH and all(len(row) < width for row in above)
    # A preamble is followed by a header; otherwise the lines above are faulty ones.
    if fits and above and (any(_NUMBER.fullmatch(f) for f in rows[start]) or len(rows) - start < 3):
        return None
    return start if fits else None


def _with_faults(rows: list[list[str]], start: int, sure: bool) -> list[list[str]]:
    """The lines of a table without those that have another number of fields, which reading will name; [] if it is none.

    A table is what is called one and begins with two fields, or has the same number in nine of ten lines.
    """
    if start >= len(rows):
        return []
    width = len(rows[start])
    alike = [row for row in rows[start:] if len(row) == width]
    enough = sure or (len(alike) >= 0.9 * (len(rows) - start) and len(rows) - start >= 10)
    return rows[:start] + alike if width >= 2 and enough else []


def _ragged(rows: list[list[str]], start: int, delimiter: str) -> Layout | None:
    """IBM's object store: time, operation, id, and further fields that some operations have."""
    body = rows[start:]
    if len(body) < 2 or any(len(row) < 3 for row in body):
        return None
    if not _rises([row[0] for row in body]) or not all(_is_operation(row[1]) for row in body):
        return None
    return Layout(delimiter, start, (), 0, Columns(2, None, 1, 0))


def _is_operation(word: str) -> bool:
    return word.lower() in OPERATION_WORDS or word.upper().startswith("REST.")


def _rises(values: Sequence[str]) -> bool:
    """Whether a column is numbers, or times of a clock, that never fall and are not all the same."""
    if all(map(_CLOCK.fullmatch, values)):
        return values[0] < values[-1] and all(a <= b for a, b in itertools.pairwise(values))
    try:
        numbers = [float(v.replace(",", ".")) for v in values]
    except ValueError:
        return False
    return numbers[0] < numbers[-1] and all(a <= b for a, b in itertools.pairwise(numbers))


def _roles(body: list[list[str]], numeric: list[bool], names: list[str]) -> Columns:
    """Which column is what: by name where there are names, else by what the columns hold."""
    width = len(body[0])

    def named(known: Sequence[str]) -> int | None:
        return next((names.index(n) for n in known if n in names), None)

    columns = list(zip(*body, strict=True))
    page, time, op, size = named(IDS), named(TIMES), named(OPERATIONS), named(SIZES)
    if op is not None and len({*columns[op]}) > 32:
        op = None
    taken = [c for c in (page, time, op, size) if c is not None]
    if op is None:
        op = next(
            (j for j in range(width) if j not in taken and not numeric[j] and all(map(_is_operation, columns[j]))), None
        )
    if time is None and page is None:
        rising = [j for j in range(width) if j != op and _rises(columns[j])]
        others = [j for j in range(width) if j not in (op, *rising)]
        if rising and (others or len(rising) > 1):
            time = rising[0]
    if page is None:
        page = _most_like_ids(columns, [j for j in range(width) if j not in (time, op, size)])
    if size is None and not names:
        rest = [j for j in range(width) if j not in (page, time, op) and numeric[j] and len({*columns[j]}) > 1]
        size = next((j for j in rest if _follows(columns[page], columns[j])), None)
    return Columns(page, size, op, time)


def _follows(ids: Sequence[str], others: Sequence[str]) -> bool:
    """Whether each id has one value of the other column only, and fewer values are there than ids."""
    pairs = len({*zip(ids, others, strict=True)})
    return pairs == len({*ids}) > len({*others})


def _most_like_ids(columns: list[tuple[str, ...]], candidates: list[int]) -> int:
    """Of the columns, the first that has about as many values as any; sizes follow from ids, not ids from sizes."""
    whole = [j for j in candidates if not all(re.fullmatch(r"-?\d*[.,]\d+", v) for v in columns[j])] or candidates
    if not whole:
        return 0
    values = {j: len({*columns[j]}) for j in whole}
    free = [j for j in whole if not any(_follows(columns[i], columns[j]) for i in whole if i != j)] or whole
    most = max(values[j] for j in free)
    return next(j for j in free if 8 * values[j] >= most)


def _known_format(body: list[list[str]], delimiter: str, named: bool) -> str:
    if delimiter != "," or named or len(body[0]) != 7:
        return "csv"
    columns = list(zip(*body, strict=True))

    def whole(*places: int) -> bool:
        return all(v.isdigit() for j in places for v in columns[j])

    if whole(0, 4, 5, 6) and {v.lower() for v in columns[3]} <= {"read", "write"}:
        return "msr"
    if whole(0, 2, 3, 6) and all(v.lower() in OPERATION_WORDS for v in columns[5]):
        return "twitter"
    return "csv"
