"""What a source gives: batches of papers, each with the place from which an interrupted import goes on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Protocol

from paperworks.page.feed.entries import IncomingPaper
from paperworks.page.feed.keys import arxiv_id, normal_doi, paper_keys

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
    chosen = join_repeated(papers)
    for start in range(0, max(len(chosen), 1), PAPERS_PER_BATCH):
        last = start + PAPERS_PER_BATCH >= len(chosen)
        yield Batch(
            chosen[start : start + PAPERS_PER_BATCH],
            skipped if start == 0 else [],
            None if last else "",
            validators if last else None,
        )


def join_repeated(papers: Iterable[IncomingPaper], ages: Sequence[Any] = ()) -> list[IncomingPaper]:
    """Papers that a source names more than once become one: a later one completes and replaces what was said before.

    Otherwise each import of the source would bring the first back, and change the entry twice. ``ages`` says which of
    them is later, the greatest; without it their order does.
    """
    given = list(papers)
    names = [_name(paper) for paper in given]
    joined: dict[str, IncomingPaper | None] = dict.fromkeys(names)
    for at in sorted(range(len(given)), key=ages.__getitem__) if ages else range(len(given)):
        before = joined[names[at]]
        joined[names[at]] = given[at] if before is None else _completed(before, given[at])
    return [paper for paper in joined.values() if paper is not None]


def _name(paper: IncomingPaper) -> str:
    """The strongest of the names under which a paper is recognised."""
    arxiv = arxiv_id(paper.arxiv or "") or arxiv_id(paper.url)
    return paper_keys(arxiv, normal_doi(paper.doi or ""), paper.url, paper.title)[0]


def _completed(first: IncomingPaper, second: IncomingPaper) -> IncomingPaper:
    values: dict[str, Any] = {}
    for one in fields(IncomingPaper):
        before, after = getattr(first, one.name), getattr(second, one.name)
        values[one.name] = before if after in (None, "", (), []) else after
    values["tags"] = tuple(dict.fromkeys([*first.tags, *second.tags]))
    for name in ("upvotes", "comments"):
        values[name] = max(getattr(first, name), getattr(second, name))
    return replace(second, **values)
