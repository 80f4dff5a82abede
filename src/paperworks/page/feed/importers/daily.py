"""A day of the Hugging Face daily papers: ``/api/daily_papers?date=YYYY-MM-DD``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date
from typing import Any

from paperworks.errors import InputError
from paperworks.page.feed.entries import IncomingPaper
from paperworks.page.feed.importers.base import NOT_MODIFIED, PAPERS_PER_BATCH, Batch, Validators
from paperworks.page.feed.importers.client import PoliteClient
from paperworks.page.feed.importers.markup import read_day

MOST_PAGES = 20


class DailyPapersImporter:
    """The papers of one day."""

    def __init__(self, client: PoliteClient, day: date) -> None:
        self._client = client
        self._day = day
        self.name = f"hf:{day.isoformat()}"

    def batches(self, cursor: str | None, validators: Validators) -> Iterator[Batch]:
        """Pages of 100 until one is not full. A day of one page is asked for with its validators."""
        for page in range(int(cursor or 0), MOST_PAGES):
            answer = self._client.get(
                f"{self._client.sites.huggingface.rstrip('/')}/api/daily_papers",
                {"date": self._day.isoformat(), "p": str(page), "limit": str(PAPERS_PER_BATCH)},
                validators if page == 0 and not cursor else None,
                accept="application/json",
                same_host=True,
            )
            if answer.content is None:
                yield Batch([], [(self.name, NOT_MODIFIED)], None, answer.validators)
                return
            papers, skipped, count = read_daily(answer.content, self._day)
            last = count < PAPERS_PER_BATCH or page == MOST_PAGES - 1
            yield Batch(
                papers,
                skipped,
                None if last else str(page + 1),
                answer.validators if page == 0 and last else None,
            )
            if last:
                return


def read_daily(content: bytes, day: date) -> tuple[list[IncomingPaper], list[tuple[str, str]], int]:
    """Papers, what was skipped and why, and the number of items, of an answer."""
    try:
        items = json.loads(content)
    except (ValueError, RecursionError):
        raise InputError("daily papers", "an answer that is not JSON", "a JSON list of papers") from None
    if not isinstance(items, list):
        raise InputError("daily papers", f"a JSON {type(items).__name__}", "a JSON list of papers")
    papers, skipped = [], []
    for number, item in enumerate(items, 1):
        try:
            papers.append(_paper(item, day))
        except (TypeError, ValueError, AttributeError, KeyError) as error:
            skipped.append((f"item {number}", f"not a paper of the API's shape ({error or type(error).__name__})"))
    return papers, skipped, len(items)


def _paper(item: dict[str, Any], day: date) -> IncomingPaper:
    paper = item.get("paper") or item
    organisation = item.get("organization") or paper.get("organization") or {}
    listed = read_day(_text(paper.get("submittedOnDailyAt"))) or day
    return IncomingPaper(
        title=_text(paper.get("title") or item.get("title")),
        abstract=_text(paper.get("summary") or item.get("summary")),
        arxiv=_text(paper["id"]),
        authors=[_text(a.get("name")) for a in paper.get("authors") or [] if not a.get("hidden")],
        organisation=_text(organisation.get("fullname") or organisation.get("name")) or None,
        published=read_day(_text(paper.get("publishedAt") or item.get("publishedAt"))),
        listed=listed,
        tags=[_text(t) for t in paper.get("ai_keywords") or []][:10],
        repository=_text(paper.get("githubRepo")),
        upvotes=int(paper.get("upvotes") or 0),
        comments=int(item.get("numComments") or 0),
        source="hf",
    )


def _text(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise TypeError(f"a {type(value).__name__} where text belongs")
    return value
