"""arXiv's Atom API: papers by id, and the papers of a query, newest first, page by page.

The API's own rules are kept: one request in three seconds, at most 100 results per request here.
Ways in which it answers a failure with success are known: an entry titled "Error", and empty pages before the end.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from xml.etree.ElementTree import Element

from paperworks.errors import InputError
from paperworks.page.feed.entries import IncomingPaper
from paperworks.page.feed.importers.base import PAPERS_PER_BATCH, Batch, Validators
from paperworks.page.feed.importers.client import PoliteClient
from paperworks.page.feed.importers.markup import ATOM, read_day, read_xml, text_of
from paperworks.page.feed.keys import arxiv_id

ARXIV = "{http://arxiv.org/schemas/atom}"
OPENSEARCH = "{http://a9.com/-/spec/opensearch/1.1/}"
EMPTY_PAGES = 3
"""How often an empty page before the end is asked for again."""
_REPOSITORY = re.compile(r"https?://(?:www\.)?(?:github\.com|gitlab\.com|codeberg\.org)/[\w.-]+/[\w.-]*\w")


class ArxivIdImporter:
    """Papers by their arXiv ids."""

    def __init__(self, client: PoliteClient, ids: Sequence[str]) -> None:
        self._client = client
        self._ids = list(dict.fromkeys(ids))
        self.name = f"arxiv-ids:{','.join(self._ids)}"[:500]

    def batches(self, cursor: str | None, validators: Validators) -> Iterator[Batch]:
        """All ids, 100 at a time."""
        begin = int(cursor or 0)
        for start in range(begin, len(self._ids), PAPERS_PER_BATCH):
            wanted = self._ids[start : start + PAPERS_PER_BATCH]
            papers, skipped, _ = _ask(
                self._client, {"id_list": ",".join(wanted), "start": "0", "max_results": str(len(wanted))}
            )
            known = {paper.arxiv for paper in papers}
            skipped += [(i, "arXiv has no paper of this id") for i in wanted if i not in known and not skipped]
            following = start + PAPERS_PER_BATCH
            yield Batch(papers, skipped, str(following) if following < len(self._ids) else None)


class ArxivQueryImporter:
    """The newest papers of a query in arXiv's own syntax, as in ``cat:cs.LG AND abs:pruning``."""

    def __init__(self, client: PoliteClient, query: str, most: int) -> None:
        if not query.strip():
            raise InputError("query", "nothing", "a query of arXiv's, as in arxiv:cat:cs.LG AND abs:pruning")
        self._client = client
        self._query = query.strip()
        self._most = most
        self.name = f"arxiv:{self._query}"[:500]

    def batches(self, cursor: str | None, validators: Validators) -> Iterator[Batch]:
        """Pages until the query's end, or until ``most`` papers."""
        start = int(cursor or 0)
        empty = 0
        while True:
            size = min(PAPERS_PER_BATCH, self._most - start)
            papers, skipped, total = _ask(
                self._client,
                {
                    "search_query": self._query,
                    "start": str(start),
                    "max_results": str(size),
                    "sortBy": "submittedDate",
                    "sortOrder": "descending",
                },
            )
            end = min(total, self._most)
            if not papers and not skipped and start < end and empty < EMPTY_PAGES:
                empty += 1
                continue
            start += max(len(papers) + len(skipped), 1)
            done = start >= end or not (papers or skipped)
            yield Batch(papers, skipped, None if done else str(start))
            if done:
                return
            empty = 0


def _ask(client: PoliteClient, params: dict[str, str]) -> tuple[list[IncomingPaper], list[tuple[str, str]], int]:
    answer = client.get(
        client.sites.arxiv, params, accept="application/atom+xml", pause=client.sites.arxiv_pause, same_host=True
    )
    return read_answer(answer.content or b"")


def read_answer(content: bytes) -> tuple[list[IncomingPaper], list[tuple[str, str]], int]:
    """Papers, what was skipped and why, and the total number of results, of an answer of the API."""
    root = read_xml(content, "arXiv's answer")
    if root.tag != f"{ATOM}feed":
        raise InputError("arXiv's answer", f"a document <{root.tag}>", "an Atom feed")
    papers: list[IncomingPaper] = []
    skipped: list[tuple[str, str]] = []
    for entry in root.iter(f"{ATOM}entry"):
        identity = text_of(entry.find(f"{ATOM}id"))
        title = text_of(entry.find(f"{ATOM}title"))
        if "/api/errors" in identity or (title == "Error" and not arxiv_id(identity)):
            skipped.append((identity or title, f"arXiv says: {text_of(entry.find(f'{ATOM}summary')) or 'error'}"))
            continue
        arxiv = arxiv_id(identity)
        if arxiv is None or not title:
            skipped.append((identity or "an entry", "no arXiv id" if arxiv is None else "no title"))
            continue
        papers.append(_paper(entry, arxiv, title))
    total = text_of(root.find(f"{OPENSEARCH}totalResults"))
    return papers, skipped, int(total) if total.isdigit() else len(papers)


def _paper(entry: Element, arxiv: str, title: str) -> IncomingPaper:
    affiliations = {text_of(a) for a in entry.iter(f"{ARXIV}affiliation")}
    abstract = text_of(entry.find(f"{ATOM}summary"))
    comment = text_of(entry.find(f"{ARXIV}comment"))
    repository = _REPOSITORY.search(f"{comment} {abstract}")
    return IncomingPaper(
        title=title,
        abstract=abstract,
        arxiv=arxiv,
        doi=text_of(entry.find(f"{ARXIV}doi")).split(" ")[0] or None,
        url=f"https://arxiv.org/abs/{arxiv}",
        authors=[text_of(a.find(f"{ATOM}name")) for a in entry.findall(f"{ATOM}author")],
        organisation=affiliations.pop() if len(affiliations) == 1 else None,
        published=read_day(text_of(entry.find(f"{ATOM}published"))),
        tags=[c.get("term", "") for c in entry.findall(f"{ATOM}category")],
        repository=repository[0] if repository else "",
        withdrawn=bool(re.search(r"\bwithdrawn\b", comment, re.IGNORECASE)),
        source="arxiv",
    )
