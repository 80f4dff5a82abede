"""The text of a Daily Papers page as a browser's "select all, copy" gives it.

Under a page header stand the papers, each as a title, an abstract, an organisation or a number of authors, a date with
or without a year, and a number of comments, separated by blank lines. Any of them but the title may be missing, and
buttons, counters and separators may stand between them. Three kinds of lines can be told by their looks: a date, a
number of authors, and a number; an abstract is the text that reads like prose. The rest is told by its place: the text
before an abstract is the title, the text after it the organisation, and what comes before the first title is the
header.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, timedelta
from typing import Literal

from paperworks.errors import InputError
from paperworks.page.database import now
from paperworks.page.feed.entries import IncomingPaper, clean_text
from paperworks.page.feed.importers.base import Batch, Validators, in_batches

PROSE_WORDS = 25
"""So many words are an abstract, not a title or an organisation; half as many if they end as a sentence does."""
PROSE_LETTERS = 250
SHORT_LINE = 0.75
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")

Kind = Literal["title or name", "prose", "date", "authors", "number", "upvotes", "noise"]

_MONTH = (
    r"(?:(?P<month>jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)"
    r"(?:uary|ruary|ch|il|e|y|ust|t|tember|ober|ember)?\.?)"
)
_DAY = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?"
_YEAR = r"(?P<year>\d{4})"
_BEFORE_DATE = r"(?:(?:published|submitted|posted|updated|listed)(?: on)?:? )?"
_DATES = [
    re.compile(rf"{_BEFORE_DATE}{pattern}", re.IGNORECASE)
    for pattern in (
        rf"{_MONTH} {_DAY}(?:,? {_YEAR})?",
        rf"{_DAY} {_MONTH}(?:,? {_YEAR})?",
        r"(?P<year>\d{4})-(?P<number>\d{2})-(?P<day>\d{2})",
    )
]
_RELATIVE = re.compile(
    rf"{_BEFORE_DATE}(?:about |over |almost )?"
    r"(?:(?P<word>today|yesterday)|(?P<count>\d+|an?) (?P<unit>minute|hour|day|week|month)s? ago)",
    re.IGNORECASE,
)
_AUTHORS = re.compile(r"(\d{1,5}) authors?", re.IGNORECASE)
_NUMBER = re.compile(r"(\d{1,3}(?:,\d{3})+|\d{1,7}(?:\.\d)?)(k?)(?: comments?)?", re.IGNORECASE)
_UPVOTES = re.compile(r"(?:upvotes?|likes?)[: ]?(\d[\d,.]*)(k?)|(\d[\d,.]*)(k?) (?:upvotes?|likes?)", re.IGNORECASE)
_NO_COMMENTS = re.compile(r"(?:no comments?(?: yet)?)", re.IGNORECASE)
_NOISE = re.compile(
    r"""(?:hugging\s?face|models|datasets|spaces|buckets|community|docs|enterprise|pricing|log\ ?in|sign\ ?up|tasks
    |(?:new|daily|trending|weekly|monthly|all)?\s*papers(?:\s+(?:page|new))?|new|papers\s+with\s+code|search.{0,40}
    |by\ .{1,40}\ and\ the\ research\ community|(?:get|receive).{0,40}papers.{0,60}(?:e-?mail|inbox|day).{0,20}
    |trending\ papers\ .{0,80}(?:inbox|mail).{0,20}
    |subscribe|daily|weekly|monthly|day|week|month|today|previous|next|page\ \d+|load\ more|show\ more|view\ all
    |upvotes?|comments?|github(?:\s+[\d.,]+k?)?|code|arxiv(?:\s+page)?|pdf|share|bookmark|submitted\ by.{0,60}
    |published\ on|read\ more|(?:system\ )?theme|company|tos|privacy|about|careers|website|terms)""",
    re.IGNORECASE | re.VERBOSE,
)


@dataclass
class _Item:
    kind: Kind
    text: str
    value: int | date | None = None


@dataclass
class _Record:
    title: str = ""
    prose: list[str] = field(default_factory=list)
    organisation: str | None = None
    authors: int | None = None
    day: date | None = None
    numbers: list[int] = field(default_factory=list)
    upvotes: int | None = None

    def paper(self) -> IncomingPaper:
        upvotes = self.upvotes or 0
        numbers = self.numbers
        if len(numbers) > 1 and self.upvotes is None:
            upvotes, *numbers = numbers
        return IncomingPaper(
            title=self.title,
            abstract=" ".join(self.prose),
            author_count=self.authors,
            organisation=self.organisation,
            published=self.day,
            upvotes=upvotes,
            comments=numbers[0] if numbers else 0,
            source="paste",
        )


class PastedPageImporter:
    """A pasted page. ``today`` decides the year of dates that have none: the latest one that is not in the future."""

    def __init__(self, text: str, name: str, today: date | None = None) -> None:
        self._text = text
        self._today = today or now().astimezone(UTC).date()
        self.name = f"paste:{name}:{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"[-500:]

    def batches(self, cursor: str | None, validators: Validators) -> Iterator[Batch]:
        """The whole page."""
        papers, skipped = parse_page(self._text, self._today)
        if not papers:
            raise InputError(
                "pasted text",
                "no paper in it",
                "papers as a title, an abstract, an organisation or number of authors, a date and a number of "
                "comments, separated by blank lines",
            )
        yield from in_batches(papers, skipped)


def parse_page(text: str, today: date) -> tuple[list[IncomingPaper], list[tuple[str, str]]]:
    """The papers of a page, in its order, and what looked like one and was not, with the reason."""
    papers, skipped = [], []
    for record in _records(_items(text, today)):
        if not any(c.isalpha() for c in record.title):
            skipped.append(((record.prose or ["text"])[0][:60], "an abstract without a title before it"))
        else:
            papers.append(record.paper())
    return papers, skipped


def _items(text: str, today: date) -> list[_Item]:
    items: list[_Item] = []
    for block in re.split(r"(?:\r?\n|\r|\u2028|\u2029)[^\S\n]*(?:\r?\n|\r|\u2028|\u2029)+", text):
        lines = [line for line in map(clean_text, block.splitlines()) if line]
        parts = [part for line in lines for part in _parts(line, today)]
        kinds = [_classify(part, today) for part in parts]
        if len(lines) > 1 and all(item.kind in ("title or name", "prose") for item in kinds):
            # A wrapped paragraph, all of whose lines but the last are about as long, or a title right above one.
            above = len(lines[0]) < SHORT_LINE * max(len(line) for line in lines[1:])
            texts = [lines[0], " ".join(lines[1:])] if above else [" ".join(lines)]
            kinds = [_classify(one, today) for one in texts]
        items += kinds
    return [item for item in items if item.kind != "noise"]


def _parts(line: str, today: date) -> list[str]:
    """A line such as "5 authors · Jan 26, 2024 · 3" is taken apart where one of its parts is told by its looks."""
    parts = [p.strip() for p in re.split(r"\s*[·•|]\s*", line)]
    parts = [p for p in parts if p]
    told = any(_classify(p, today).kind in ("date", "authors") for p in parts)
    return parts if told or not parts else [line]


def _classify(text: str, today: date) -> _Item:
    day = read_date(text, today)
    if day is not None:
        return _Item("date", text, day)
    if match := _AUTHORS.fullmatch(text):
        return _Item("authors", text, int(match[1]))
    if match := _NUMBER.fullmatch(text):
        return _Item("number", text, _count(match[1], match[2]))
    if _NO_COMMENTS.fullmatch(text):
        return _Item("number", text, 0)
    if match := _UPVOTES.fullmatch(text):
        return _Item("upvotes", text, _count(match[1] or match[3], match[2] or match[4]))
    if not any(c.isalnum() for c in text) or _NOISE.fullmatch(text):
        return _Item("noise", text)
    words = len(text.split())
    sentence = text.rstrip("\"'”’)").endswith((".", "…", "!", "。"))
    prose = words >= PROSE_WORDS or len(text) >= PROSE_LETTERS or (sentence and 2 * words >= PROSE_WORDS)
    return _Item("prose" if prose else "title or name", text)


def _count(digits: str, thousand: str) -> int:
    plain = digits.replace(",", "").rstrip(".")
    try:
        return round(float(plain) * (1000 if thousand else 1))
    except ValueError:
        return 0


def read_date(text: str, today: date) -> date | None:
    """The date that a text consists of, or None. Without a year: the latest such day up to tomorrow."""
    for pattern in _DATES:
        match = pattern.fullmatch(text)
        if not match:
            continue
        parts = match.groupdict()
        month = int(parts["number"]) if parts.get("number") else MONTHS.index(parts["month"].lower()) + 1
        day = int(parts["day"])
        years = [int(parts["year"])] if parts.get("year") else range(today.year + 1, today.year - 9, -1)
        for year in years:
            try:
                found = date(year, month, day)
            except ValueError:  # no such day, or not in this year
                continue
            if parts.get("year") or found <= today + timedelta(days=1):
                return found
        return None
    match = _RELATIVE.fullmatch(text)
    if match is None:
        return None
    if match["word"]:
        return today - timedelta(days=match["word"].lower() == "yesterday")
    count = 1 if match["count"].lower() in ("a", "an") else int(match["count"])
    days = {"minute": 0, "hour": 0, "day": 1, "week": 7, "month": 30}[match["unit"].lower()]
    return today - timedelta(days=min(count * days, 36_500))


def _records(items: list[_Item]) -> Iterator[_Record]:
    """Group items into papers: a paper ends where the next title begins."""
    texts: list[_Item] = []
    rest: list[_Item] = []
    for item in [*items, None]:
        is_text = item is not None and item.kind in ("title or name", "prose")
        if (item is None or is_text) and rest:
            yield from _group(texts, rest)
            texts, rest = [], []
        if item is None:
            yield from _group(texts, [])
        elif is_text:
            texts.append(item)
        elif texts:  # numbers and dates of the header belong to nothing
            rest.append(item)


def _group(texts: list[_Item], rest: list[_Item]) -> Iterator[_Record]:
    """The papers of texts that end with one line of facts; only the last paper has these facts."""
    records: list[_Record] = []
    short: list[str] = []
    for item in texts:
        if item.kind == "prose":
            if records and not short:
                records[-1].prose.append(item.text)  # a second paragraph
                continue
            if records and len(short) > 1:
                records[-1].organisation = short[0]
            records.append(_Record(title=short[-1] if short else "", prose=[item.text]))
            short = []
        else:
            short.append(item.text)
    counted = any(item.kind == "authors" for item in rest)
    if records:
        if short and not counted:
            records[-1].organisation = short[0]
    elif short and rest:  # no abstract: the title, and the organisation unless authors are counted
        named = len(short) > 1 and not counted
        records.append(_Record(title=short[-2] if named else short[-1], organisation=short[-1] if named else None))
    if records:
        _facts(records[-1], rest)
    yield from records


def _facts(record: _Record, items: list[_Item]) -> None:
    for item in items:
        if isinstance(item.value, date):
            record.day = record.day or item.value
        elif item.kind == "authors":
            record.authors = item.value
        elif item.kind == "upvotes":
            record.upvotes = item.value
        elif item.kind == "number" and item.value is not None:
            record.numbers.append(item.value)
