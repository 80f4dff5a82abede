"""Any RSS (0.9 to 2.0) or Atom feed. Items need a title; arXiv ids are found in their addresses and names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from urllib.parse import urljoin, urlsplit
from xml.etree.ElementTree import Element

from paperworks.errors import InputError
from paperworks.page.feed.entries import IncomingPaper
from paperworks.page.feed.importers.base import NOT_MODIFIED, Batch, Validators, in_batches, join_repeated
from paperworks.page.feed.importers.client import PoliteClient
from paperworks.page.feed.importers.markup import plain_text, read_day, read_xml, text_of
from paperworks.page.feed.keys import arxiv_id, normal_doi

_ACCEPT = "application/atom+xml, application/rss+xml, application/xml;q=0.9, text/xml;q=0.9, */*;q=0.1"
_ARXIV_PREFIX = re.compile(r"^arXiv:\S+\s+Announce Type:\s*\S+\s*(?:Abstract:\s*)?", re.IGNORECASE)
_ARXIV_SUFFIX = re.compile(r"\s*\(arXiv:(\S+)(?:\s+\[[^\]]*\])?[^)]*\)\s*$")


class FeedImporter:
    """A feed at an address."""

    def __init__(self, client: PoliteClient, url: str) -> None:
        self._client = client
        self._url = url
        self.name = f"feed:{url}"[:500]

    def batches(self, cursor: str | None, validators: Validators) -> Iterator[Batch]:
        """The whole feed, or nothing where it has not changed."""
        answer = self._client.get(self._url, validators=validators, accept=_ACCEPT)
        if answer.content is None:
            yield Batch([], [(self._url, NOT_MODIFIED)], None, answer.validators)
            return
        papers, skipped = read_feed(answer.content, self._url)
        yield from in_batches(papers, skipped, answer.validators)


def read_feed(content: bytes, url: str) -> tuple[list[IncomingPaper], list[tuple[str, str]]]:
    """Papers, and what was skipped and why, of an RSS or Atom document."""
    root = read_xml(content, url)
    kind = _name(root)
    if kind not in ("rss", "RDF", "feed"):
        raise InputError(url, f"a document <{kind}>", "an RSS or Atom feed")
    source = f"feed:{urlsplit(url).hostname or ''}"
    papers, ages, skipped = [], [], []
    items = [e for e in root.iter() if _name(e) == ("entry" if kind == "feed" else "item")]
    for number, item in enumerate(items, 1):
        paper = _paper(item, url, source)
        if paper is None:
            skipped.append((f"item {number}", "no title"))
        else:
            papers.append(paper)
            ages.append((*_age(item), -number))  # of one day: feeds have the newest first
    return join_repeated(papers, ages), skipped


def _age(item: Element) -> tuple[bool, date]:
    """Orders the items about one paper: what arXiv announces as a replacement is newer, else the day of the change."""
    texts = {_name(child): text_of(child) for child in item}
    days = [day for day in map(read_day, (texts.get(n) for n in ("updated", "pubDate", "date", "published"))) if day]
    return texts.get("announce_type", "").startswith("replace"), max(days, default=date.min)


def _paper(item: Element, url: str, source: str) -> IncomingPaper | None:
    parts: dict[str, list[Element]] = {}
    for child in item:
        parts.setdefault(_name(child), []).append(child)

    def first(*names: str) -> str:
        return next((text_of(e) for n in names for e in parts.get(n, ()) if text_of(e)), "")

    title = plain_text(first("title"))
    if not title:
        return None
    suffix = _ARXIV_SUFFIX.search(title)
    link = urljoin(url, _link(parts.get("link", []))) if parts.get("link") else ""
    names = [link, first("guid", "id").removeprefix("oai:arXiv.org:"), suffix[1] if suffix else ""]
    doi = next(
        (d for d in (normal_doi(text_of(e)) for n in ("doi", "identifier") for e in parts.get(n, ())) if d), None
    )
    return IncomingPaper(
        title=_ARXIV_SUFFIX.sub("", title),
        abstract=_ARXIV_PREFIX.sub("", plain_text(first("encoded", "description", "summary", "content"))),
        arxiv=next((i for i in map(arxiv_id, names) if i), None),
        doi=doi,
        url=link,
        authors=_authors(parts),
        published=_published(parts),
        tags=[c.get("term") or text_of(c) for n in ("category", "subject") for c in parts.get(n, ())],
        source=source,
    )


def _published(parts: dict[str, list[Element]]) -> date | None:
    """The first of an item's dates that can be read."""
    texts = (text_of(e) for name in ("pubDate", "published", "date", "updated") for e in parts.get(name, ()))
    return next((day for day in map(read_day, texts) if day), None)


def _link(links: list[Element]) -> str:
    """The address of an item: RSS has it as text, Atom as the link without a relation or with "alternate"."""
    for link in links:
        if link.get("rel", "alternate") == "alternate" and (link.get("href") or text_of(link)):
            return (link.get("href") or text_of(link)).strip()
    return ""


def _authors(parts: dict[str, list[Element]]) -> list[str]:
    found = []
    for element in [*parts.get("creator", ()), *parts.get("author", ())]:
        named = [text_of(child) for child in element if _name(child) == "name"]
        for text in named or [plain_text(text_of(element))]:
            address = re.fullmatch(r"\S+@\S+\s+\((.+)\)", text)  # RSS: "mail@host (Name)"
            whole = address[1] if address else text
            found += [whole] if named else re.split(r",\s+|\s+and\s+", whole)
    return [name for name in found if name]


def _name(element: Element) -> str:
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""
