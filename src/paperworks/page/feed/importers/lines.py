"""JSONL: one paper per line, with the fields of ``IncomingPaper``. A list (.json) is read as well."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from datetime import UTC
from typing import Any

from paperworks.errors import InputError, nearest
from paperworks.page.database import now
from paperworks.page.feed.entries import EARLIEST, LATEST_AFTER, IncomingPaper
from paperworks.page.feed.importers.base import PAPERS_PER_BATCH, Batch, Validators, join_repeated
from paperworks.page.feed.importers.markup import read_day

TEXTS = ("title", "abstract", "arxiv", "doi", "url", "organisation", "repository")
NUMBERS = ("author_count", "upvotes", "comments")
DAYS = ("published", "listed")
LISTS = ("authors", "tags")
FIELDS = (*TEXTS, *NUMBERS, *DAYS, *LISTS)


class LinesImporter:
    """A JSONL text. An interrupted import goes on at the line where it stopped, unless the text has changed."""

    def __init__(self, text: str, name: str) -> None:
        self._text = text
        self._digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        self.name = f"jsonl:{name}"[-500:]

    def batches(self, cursor: str | None, validators: Validators) -> Iterator[Batch]:
        """Batches of papers; the cursor is ``<digest of the text>:<place>``."""
        digest, _, place = (cursor or "").partition(":")
        start = int(place) if digest == self._digest and place.isdigit() else 0
        papers, skipped = [], []
        for number, row in _rows(self._text):
            try:
                papers.append(read_paper(row))
            except InputError as error:
                skipped.append((f"line {number}", str(error)))
        papers = join_repeated(papers)
        for begin in range(start, max(len(papers), 1), PAPERS_PER_BATCH):
            end = begin + PAPERS_PER_BATCH
            yield Batch(
                papers[begin:end],
                skipped if begin == 0 else [],
                f"{self._digest}:{end}" if end < len(papers) else None,
            )


def _rows(text: str) -> list[tuple[int, Any]]:
    if text.lstrip().startswith("["):
        try:
            items = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError("file", f"text that is not JSON ({error})", "JSONL, or a JSON list of papers") from None
        return list(enumerate(items, 1))
    return [(n, line) for n, line in enumerate(text.split("\n"), 1) if line.strip()]


def read_paper(row: Any) -> IncomingPaper:
    """The paper of a line (text) or of an item (a dict). Raises InputError naming the field."""
    if isinstance(row, str):
        try:
            row = json.loads(row)
        except (ValueError, RecursionError) as error:
            raise InputError("line", f"text that is not JSON ({error})", "one JSON object") from None
    if not isinstance(row, dict):
        raise InputError("line", f"a JSON {type(row).__name__}", "one JSON object with a title")
    values: dict[str, Any] = {}
    for name, value in row.items():
        if name not in FIELDS:
            raise InputError(
                name[:60], "a field that papers do not have", f"one of {', '.join(FIELDS)}{nearest(name, FIELDS)}"
            )
        if value is None:
            continue
        values[name] = _value(name, value)
    if not values.get("title"):
        raise InputError("title", "nothing", "the paper's title")
    return IncomingPaper(**values, source="jsonl")


def _value(name: str, value: Any) -> Any:
    if name in TEXTS and isinstance(value, str):
        return value
    if name in NUMBERS and type(value) is int:
        return value
    if name in LISTS and isinstance(value, list) and all(isinstance(v, str) for v in value):
        return tuple(value)
    if name in DAYS and isinstance(value, str):
        day = read_day(value)
        if day is not None and EARLIEST <= day <= now().astimezone(UTC).date() + LATEST_AFTER:
            return day
    kinds = {
        TEXTS: "text",
        NUMBERS: "a whole number",
        LISTS: "a list of texts",
        DAYS: f"a day from {EARLIEST} to tomorrow, as in 2026-11-23",
    }
    expected = next(kind for names, kind in kinds.items() if name in names)
    raise InputError(name, json.dumps(value)[:60], expected)
