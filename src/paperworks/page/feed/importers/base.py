"""What a source gives: batches of papers, each with the place from which an interrupted import goes on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from paperworks.page.feed.entries import IncomingPaper

PAPERS_PER_BATCH = 100
NOT_MODIFIED = "not modified since it was last imported"


@dataclass(frozen=True)
class Validators:
    """What a server said of its last answer, to be told when it is asked again."""

    etag: str | None = None
    last_modified: str | None = None


@dataclass(frozen=True)
class Batch:
    """Some papers of a source; items that could not be read, with the reason; and where the next batch begins.

    ``cursor`` None ends the import. ``validators`` belong to the whole source and are kept once it is imported.
    """

    papers: list[IncomingPaper]
    skipped: list[tuple[str, str]] = field(default_factory=list)
    cursor: str | None = None
    validators: Validators | None = None


class Importer(Protocol):
    """A source. ``name`` identifies it between imports, in at most 500 characters."""

    name: str

    def batches(self, cursor: str | None, validators: Validators) -> Iterator[Batch]:
        """The batches from ``cursor`` on (None: from the start). Raises InputError for a source that is none."""
        ...


def in_batches(
    papers: Iterable[IncomingPaper],
    skipped: list[tuple[str, str]],
    validators: Validators | None = None,
) -> Iterator[Batch]:
    """Papers that were all read at once, in batches without a place to go on from."""
    chosen = list(papers)
    for start in range(0, max(len(chosen), 1), PAPERS_PER_BATCH):
        last = start + PAPERS_PER_BATCH >= len(chosen)
        yield Batch(
            chosen[start : start + PAPERS_PER_BATCH],
            skipped if start == 0 else [],
            None if last else "",
            validators if last else None,
        )
