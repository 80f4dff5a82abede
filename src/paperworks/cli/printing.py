"""What the commands print, fitted to where it goes: a terminal, or a pipe or file, which has no width."""

from __future__ import annotations

import io
import os
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

PROSE_WIDTH = 80
"""Columns of prose in a pipe; a word that is longer, such as a path, is not broken."""

_UNBOUNDED = 10_000


def print_parts(*parts: Any) -> None:
    """Print texts and tables. In a pipe a row of a table is one line, for grep; prose is ``PROSE_WIDTH`` wide."""
    from rich.console import Console

    if sys.stdout.isatty() or os.environ.get("COLUMNS"):
        console = Console(highlight=False)
        for part in parts:
            console.print(part)
        return
    for part in _flat(parts):
        for line in _lines(part):
            sys.stdout.write(f"{line}\n")


def _flat(parts: Any) -> Iterator[Any]:
    """Parts without groups, the note of a table after it."""
    from rich.console import Group
    from rich.table import Table

    for part in parts:
        if isinstance(part, Group):
            yield from _flat(part.renderables)
        elif isinstance(part, Table) and part.caption:
            note, part.caption = part.caption, None
            yield from (part, note)
        else:
            yield part


def _lines(part: Any) -> Iterator[str]:
    """Lines of a part, without the blanks that rich fills them up with."""
    from rich.console import Console
    from rich.table import Table

    out = io.StringIO()
    Console(file=out, width=_UNBOUNDED, highlight=False).print(part)
    for line in map(str.rstrip, out.getvalue().splitlines()):
        yield from [line] if isinstance(part, Table) or not line else _wrapped(line)


def _wrapped(line: str) -> list[str]:
    indent = " " * (len(line) - len(line.lstrip()))
    return textwrap.wrap(line, PROSE_WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
