"""The traces that come with the package."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from paperworks.errors import InputError, nearest
from paperworks.papers.paging.readers import read_trace
from paperworks.papers.paging.trace import Trace

_FOLDER = Path(__file__).parent / "data"
SAMPLES = ("database", "words")


def sample_trace(name: Literal["database", "words"] = "database") -> Trace:
    """A bundled trace of real material.

    ``database``: 120,958 reads of 1,551 database pages, as SQLite answers queries; ``words``: the 180,391 words of the
    New Testament (King James), 6,032 distinct.
    """
    if name not in SAMPLES:
        raise InputError("sample", repr(name), f"one of {', '.join(SAMPLES)}{nearest(name, SAMPLES)}")
    trace = read_trace(_FOLDER / f"{name}.txt.gz", "text")
    return Trace(trace.pages, trace.ids, name, trace.notes)
