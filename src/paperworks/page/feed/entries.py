"""What a source says of a paper, and the one entry that it becomes.

Sources differ in what they know and how well. A field that is empty takes what any source says; a field that is filled
is replaced only by a source whose standing (``STANDING``) is at least that of the best source so far: a paste does not
undo what arXiv said, and importing anything again changes nothing. What the catalogue gives of its papers
(``OF_CATALOGUE``) no source replaces, nor what a moderator wrote. Counts are the largest that was seen, the day in the
feed is the earliest that a source named. A day after tomorrow is unknown.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from paperworks.errors import InputError
from paperworks.page.database import Entry, EntryKey, EntryTag, RemovedKey, now
from paperworks.page.feed.keys import arxiv_id, normal_address, normal_doi, paper_keys, same_place
from paperworks.page.feed.merge import merge_entries
from paperworks.page.feed.trend import entry_trend
from paperworks.page.tex import unicode_text

Change = Literal["added", "updated", "unchanged"]

STANDING = {"arxiv": 4, "hf": 3, "feed": 2, "jsonl": 2, "paste": 1}
"""How far a source is trusted, by the part of its name before the first colon; others stand at 0."""
CATALOGUE = "catalogue"
OF_CATALOGUE = ("title", "summary", "authors", "author_count", "organisation", "published", "repository")
LONGEST = {
    "title": 500,
    "summary": 20_000,
    "abstract": 20_000,
    "organisation": 200,
    "url": 2_000,
    "repository": 2_000,
    "source": 200,
}
LONGEST_ENTRY_KEY = 200
MOST_AUTHORS = 5_000
MOST_TAGS = 30
LARGEST_COUNT = 10_000_000
EARLIEST = date(1900, 1, 1)
WITHDRAWN = re.compile(
    r"^\W*(?:withdrawn|retracted)\b|\b(?:paper|article|submission|work|manuscript|preprint) (?:has been|was|is) "
    r"(?:withdrawn|retracted)\b|\bwithdrawn by (?:the )?authors?\b",
    re.IGNORECASE,
)
"""How titles and the beginnings of abstracts say that a paper was withdrawn."""
LATEST_AFTER = timedelta(days=1)
"""A source's clock may be a day ahead of ours; a later day is a mistake."""


@dataclass(frozen=True)
class IncomingPaper:
    """A paper as one source describes it. Only the title is required.

    Attributes
    ----------
    arxiv : id, with or without a version, or an address that holds it.
    published : when the paper appeared; ``listed`` : the day of the feed on which it stands.
    author_count : where the source gives the number of authors without their names.
    repository : address of the code.
    upvotes, comments : elsewhere.
    withdrawn : whether its authors withdrew it; None where the source does not say.
    summary : the catalogue's, in our words.
    source : ``arxiv``, ``hf``, ``feed:<host>``, ``jsonl``, ``paste``, ``catalogue``.
    """

    title: str
    abstract: str = ""
    arxiv: str | None = None
    doi: str | None = None
    url: str = ""
    authors: Sequence[str] = ()
    author_count: int | None = None
    organisation: str | None = None
    published: date | None = None
    listed: date | None = None
    tags: Sequence[str] = ()
    repository: str = ""
    upvotes: int = 0
    comments: int = 0
    withdrawn: bool | None = None
    summary: str = ""
    source: str = ""

    def cleaned(self, today: date) -> IncomingPaper:
        """The same without control characters, doubled spaces, commands of LaTeX, and what is too long.

        Days after tomorrow are unknown. Raises InputError for a paper without a title, for an arXiv id or DOI that is
        none, and for impossible numbers and days.
        """
        texts = {name: clean_text(getattr(self, name) or "") for name in LONGEST}
        texts |= {name: clean_text(unicode_text(texts[name])) for name in ("title", "abstract")}
        texts = {name: texts[name][:most].strip() for name, most in LONGEST.items()}
        if not any(c.isalnum() for c in texts["title"]):
            raise InputError("title", repr(self.title[:60]), "the paper's title")
        arxiv = arxiv_id(self.arxiv) if self.arxiv else arxiv_id(self.url or "")
        if self.arxiv and arxiv is None:
            raise InputError("arxiv", repr(self.arxiv[:60]), "an arXiv id, as in 2401.15024")
        doi = normal_doi(self.doi) if self.doi else None
        if self.doi and doi is None:
            raise InputError("doi", repr(self.doi[:60]), "a DOI, as in 10.1000/182")
        for name in ("upvotes", "comments", "author_count"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= LARGEST_COUNT:
                raise InputError(name, value, f"0 to {LARGEST_COUNT}")
        days: dict[str, date | None] = {}
        for name in ("published", "listed"):
            day = days[name] = getattr(self, name)
            if day is not None and day < EARLIEST:
                raise InputError(name, day, f"a day from {EARLIEST} on")
            if day is not None and day > today + LATEST_AFTER:
                days[name] = None
        for name in ("url", "repository"):
            if texts[name] and normal_address(texts[name]) is None:
                texts[name] = ""  # never a javascript: or file: address on a page
        if arxiv and (not texts["url"] or arxiv_id(texts["url"])):
            texts["url"] = f"https://arxiv.org/abs/{arxiv}"
        authors = tuple(a for a in (clean_text(unicode_text(name))[:200].strip() for name in self.authors) if a)[
            :MOST_AUTHORS
        ]
        tags = tuple(dict.fromkeys(t for t in (clean_tag(tag) for tag in self.tags) if t))[:MOST_TAGS]
        texts["organisation"] = texts["organisation"] or None  # type: ignore[assignment]
        return replace(
            self,
            arxiv=arxiv,
            doi=doi,
            authors=authors,
            author_count=len(authors) or self.author_count or None,
            tags=tags,
            withdrawn=_says_withdrawn(texts["title"], texts["abstract"]) or self.withdrawn,
            **texts,  # type: ignore[arg-type]
            **days,  # type: ignore[arg-type]
        )


@dataclass
class ImportOutcome:
    """What an import did: how many papers were added, updated or left unchanged; what was skipped, and why."""

    added: int = 0
    updated: int = 0
    unchanged: int = 0
    skipped: list[tuple[str, str]] = field(default_factory=list)

    def count(self, change: Change) -> None:
        """Count one paper."""
        setattr(self, change, getattr(self, change) + 1)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready content."""
        return {
            "added": self.added,
            "updated": self.updated,
            "unchanged": self.unchanged,
            "skipped": [{"what": what, "reason": reason} for what, reason in self.skipped],
        }


def clean_text(text: str) -> str:
    """One line without control characters, in composed Unicode (NFC), single spaces between words."""
    kept = "".join(" " if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") else c for c in text)
    return " ".join(unicodedata.normalize("NFC", kept).split())


def clean_tag(tag: str) -> str:
    """A tag in lower case with hyphens for spaces, at most 60 characters."""
    return "-".join(clean_text(tag).lower().split())[:60].strip("-")


def _says_withdrawn(title: str, abstract: str) -> bool:
    return any(WITHDRAWN.search(text) for text in (title, abstract[:200]))


def standing(source: str) -> int:
    """How far a source is trusted."""
    return STANDING.get(source.partition(":")[0], 0)


def upsert(session: Session, paper: IncomingPaper) -> Change:
    """Add the paper, or bring its entry up to date. Raises InputError for one that cannot be used or was removed."""
    return upsert_entry(session, paper)[1]


def upsert_entry(session: Session, paper: IncomingPaper, moment: datetime | None = None) -> tuple[Entry, Change]:
    """As ``upsert``, and the entry with it. Two entries that turn out to be one paper are merged."""
    moment = moment or now()
    paper = paper.cleaned(moment.astimezone(UTC).date())
    keys = paper_keys(paper.arxiv, paper.doi, paper.url, paper.title)
    _check_removed(session, paper, keys)
    found = _find(session, paper, keys)
    if not found:
        entry = _new_entry(paper, keys, moment)
        session.add(entry)
        session.flush()
        _take_keys(session, entry, keys)
        return entry, "added"
    entry, *others = found
    changed = bool(others)
    for other in others:
        merge_entries(session, entry, other)
    changed |= _update(entry, paper, moment)
    changed |= _take_keys(session, entry, keys)
    if changed:
        entry.updated = moment
        entry.trend = entry_trend(entry, moment)
        session.flush()
    return entry, "updated" if changed else "unchanged"


def _find(session: Session, paper: IncomingPaper, keys: list[str]) -> list[Entry]:
    """The entries that are this paper, the one to keep first; more than one where sources are only now joined."""
    ids = dict(session.execute(select(EntryKey.key, EntryKey.entry_id).where(EntryKey.key.in_(keys))).tuples().all())
    found: dict[int, Entry] = {}
    for key in keys:  # the strongest first
        entry = session.get(Entry, ids[key]) if key in ids else None
        if entry is None:
            continue
        known = {e.arxiv for e in found.values()} | {paper.arxiv}
        if entry.arxiv and known - {None, entry.arxiv}:
            continue  # the same title or address, but another paper
        if key.startswith("title:") and entry.id not in found and _is_elsewhere(session, entry, paper, keys):
            continue
        found.setdefault(entry.id, entry)
    return sorted(found.values(), key=lambda e: (e.slug is None, e.arxiv is None, e.id))


def _is_elsewhere(session: Session, entry: Entry, paper: IncomingPaper, keys: list[str]) -> bool:
    """Whether a site or a source gives the paper an address or a DOI other than that of the entry with its title.

    One site has a paper at one address: two are two papers. Different sites may both have the same paper.
    """
    known = list(session.scalars(select(EntryKey.key).where(EntryKey.entry_id == entry.id)))
    for kind in ("doi:", "url:"):
        own = [key for key in keys if key.startswith(kind)]
        theirs = [key for key in known if key.startswith(kind)]
        if not own or not theirs or set(own) & set(theirs):
            continue
        if (
            kind == "doi:"
            or (paper.source and paper.source == entry.source)
            or any(same_place(a, b) for a in own for b in theirs)
        ):
            return True
    return False


def _check_removed(session: Session, paper: IncomingPaper, keys: list[str]) -> None:
    """Raise InputError for a paper that a moderator removed."""
    removed = session.scalars(select(RemovedKey).where(RemovedKey.key.in_(keys))).all()
    for row in removed:
        names = session.scalars(select(RemovedKey.key).where(RemovedKey.action_id == row.action_id)).all()
        other = [name for name in names if name.startswith("arxiv:") and paper.arxiv and name not in keys]
        if not other:  # the same title, but another paper
            raise InputError("paper", "one that was removed from this page", "a paper that was not, or 'feed unhide'")


def _take_keys(session: Session, entry: Entry, keys: list[str]) -> bool:
    """Note the keys that no entry has yet."""
    taken = set(session.scalars(select(EntryKey.key).where(EntryKey.key.in_(keys))))
    fresh = [key for key in keys if key not in taken]
    session.add_all(EntryKey(key=key, entry_id=entry.id) for key in fresh)
    session.flush()
    return bool(fresh)


def _new_entry(paper: IncomingPaper, keys: list[str], moment: datetime) -> Entry:
    listed = paper.listed or paper.published or moment.astimezone(UTC).date()
    first = keys[0] if keys else f"title:{paper.title}"
    entry = Entry(
        key=first if len(first) <= LONGEST_ENTRY_KEY else f"sha256:{hashlib.sha256(first.encode()).hexdigest()}",
        arxiv=paper.arxiv,
        title=paper.title,
        summary=paper.summary,
        abstract=paper.abstract,
        authors=list(paper.authors),
        author_count=paper.author_count,
        organisation=paper.organisation,
        published=paper.published,
        listed=listed,
        listed_known=paper.listed is not None,
        url=paper.url,
        repository=paper.repository,
        source=paper.source,
        works=False,
        claims_held=0,
        claims_total=0,
        upvotes_elsewhere=paper.upvotes,
        comments_elsewhere=paper.comments,
        upvotes=0,
        comments=0,
        runs=0,
        withdrawn=bool(paper.withdrawn),
        hidden=False,
        edited=[],
        created=moment,
        updated=moment,
        tags=[EntryTag(tag=tag) for tag in paper.tags],
    )
    entry.trend = entry_trend(entry, moment)
    return entry


def _update(entry: Entry, paper: IncomingPaper, moment: datetime) -> bool:
    """Take over what the source knows better; whether anything changed."""
    ours = paper.source == CATALOGUE
    better = ours or standing(paper.source) >= standing(entry.source)
    incoming: dict[str, Any] = {
        "title": paper.title,
        "summary": paper.summary,
        "abstract": paper.abstract,
        "authors": list(paper.authors),
        "author_count": paper.author_count,
        "organisation": paper.organisation,
        "published": paper.published,
        "url": paper.url,
        "repository": paper.repository,
    }
    fixed = set(OF_CATALOGUE) if entry.slug and not ours else set()
    values = {
        name: value
        for name, value in incoming.items()
        if value not in (None, "", []) and ((better and name not in fixed) or not getattr(entry, name))
    }
    if paper.arxiv and not entry.arxiv:
        values["arxiv"] = paper.arxiv
    if paper.listed:
        values["listed"] = min(entry.listed, paper.listed) if entry.listed_known else paper.listed
        values["listed_known"] = True
    elif not entry.listed_known and (values.get("published") or entry.published):
        values["listed"] = values.get("published") or entry.published
    if better and paper.source and (not ours or not entry.source):
        values["source"] = paper.source
    if paper.withdrawn is not None and better:
        values["withdrawn"] = paper.withdrawn
    values["upvotes_elsewhere"] = max(entry.upvotes_elsewhere, paper.upvotes)
    values["comments_elsewhere"] = max(entry.comments_elsewhere, paper.comments)
    changed = False
    for name, value in values.items():
        if name not in entry.edited and getattr(entry, name) != value:
            setattr(entry, name, value)
            changed = True
    known = set(entry.tag_names)
    for tag in paper.tags if "tags" not in entry.edited else ():
        if tag not in known and len(known) < MOST_TAGS:
            entry.tags.append(EntryTag(tag=tag))
            known.add(tag)
            changed = True
    return changed
