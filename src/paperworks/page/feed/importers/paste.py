"""The text of a Daily Papers page as a browser's "select all, copy" gives it.

The grammar, line by line; blank lines may stand between any two of them, or nowhere::

    page       header? paper* footer?
    header     menus | "Trending Papers" | "by NAME and the research community" | the page's day | buttons
    paper      submitter? title abstract? by? date? comments? counter* link*
    submitter  "Submitted by" NAME, then the upvotes as a number
    title      one line, or several where the text is wrapped
    abstract   paragraphs
    by         N "authors" | organisation; before an organisation the text of its logo, which is the name again
    date       ("Published on")? MONTH DAY (", " YEAR)? | YYYY-MM-DD | N "days ago"
    comments   N "comments"? | "No comments yet", on its own line or on that of the date
    counter    "Upvote" N?
    link       "GitHub" N? | "arXiv Page" | ...
    footer     "Previous" | "Next" | "Company" | ...

Parts of one line may be separated by ``·``, ``•`` or ``|``. Submitters, dates, numbers, counters and links are told by
their looks; an abstract is the text that reads like prose. The rest is told by its place: the text before an abstract
is the title, and the text after it the organisation.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, timedelta
from typing import Literal

from paperworks.errors import InputError
from paperworks.page.database import now
from paperworks.page.feed.entries import IncomingPaper, clean_text
from paperworks.page.feed.importers.base import Batch, Validators, in_batches
from paperworks.page.feed.importers.dates import WrittenDay, written_day

PROSE_WORDS = 25
"""So many words are an abstract, not a title or an organisation; half as many if they end as a sentence does."""
PROSE_LETTERS = 250
WIDEST_WRAPPED = 160
"""A page whose longest line has at most so many letters is wrapped: a line goes on where the next word had no room."""
ROOM = 0.9
"""The room that a wrapped line has, as a part of the longest line: not all are filled to the last letter."""
SHORTEST_HALF = 3
"""Letters of a name that may stand twice without a space between (the text of a logo, then the name)."""

Kind = Literal["text", "prose", "date", "authors", "number", "upvotes", "upvote label", "link", "submitter", "noise"]

_AUTHORS = re.compile(r"(\d{1,5}) authors?", re.IGNORECASE)
_NUMBER = re.compile(r"(\d{1,3}(?:,\d{3})+|\d{1,7}(?:\.\d)?)(k?)(?: comments?)?", re.IGNORECASE)
_UPVOTES = re.compile(r"(?:upvotes?|likes?)[: ]?(\d[\d,.]*)(k?)|(\d[\d,.]*)(k?) (?:upvotes?|likes?)", re.IGNORECASE)
_UPVOTE_LABEL = re.compile(r"upvotes?|likes?", re.IGNORECASE)
_LINK_LABEL = re.compile(r"github|arxiv(?: page)?|project(?: page)?|pdf|code", re.IGNORECASE)
_NO_COMMENTS = re.compile(r"no comments?(?: yet)?", re.IGNORECASE)
_SUBMITTER = re.compile(r"submitted by:?(?P<name> .{1,60})?", re.IGNORECASE)
_NOISE = re.compile(
    r"""(?:hugging\s?face(?:'s\ logo|\ inc\.?)?|(?:©.{0,60})|models|datasets|spaces|buckets|community|docs|enterprise
    |pricing|log\ ?in|sign\ ?up|tasks|jobs|blog|posts|solutions|inference\ providers|back\ to\ .{1,30}
    |(?:new|daily|trending|weekly|monthly|all)?\s*papers(?:\s+(?:page|new|of\ the\ (?:day|week|month)))?|new|trending
    |papers\s+with\s+code|search(?:\ (?:models|papers?|any\ paper|for\ papers?)\b.{0,40})?|ai\ search
    |by\s*.{1,60}\band\ the\ research\ community
    |(?:get|receive)\b.{0,40}\bpapers\b.{0,60}\b(?:e-?mail|inbox|day)\b.{0,30}
    |trending\ papers\ .{0,80}(?:inbox|mail).{0,20}
    |subscribe|daily|weekly|monthly|day|week|month|today|previous|next|page\ \d+|load\ more|show\ more|view\ all
    |comments?|github\s+[\d.,]+k?|share|bookmark|published\ on|read\ more|avatar
    |(?:system\ )?theme|company|tos|privacy|about|careers|website|terms)""",
    re.IGNORECASE | re.VERBOSE,
)
_LOGO = re.compile(r"(?:'s)? (?:avatar|logo|profile picture)", re.IGNORECASE)
_INVISIBLE = re.compile("[\u200b-\u200f\u2060\ufeff]")
_LINE_END = re.compile("\r\n|[\r\u2028\u2029\x85]")


@dataclass
class _Item:
    kind: Kind
    text: str
    value: int | None = None
    day: WrittenDay | None = None


@dataclass
class _Record:
    title: str = ""
    prose: list[str] = field(default_factory=list)
    organisation: str | None = None
    authors: int | None = None
    day: WrittenDay | None = None
    numbers: list[int] = field(default_factory=list)
    upvotes: int | None = None

    def paper(self, bound: date, listed: date | None) -> IncomingPaper:
        upvotes = self.upvotes or 0
        numbers = self.numbers
        if len(numbers) > 1 and self.upvotes is None:
            upvotes, *numbers = numbers
        return IncomingPaper(
            title=self.title,
            abstract=" ".join(self.prose),
            author_count=self.authors,
            organisation=self.organisation,
            published=self.day.resolve(bound) if self.day else None,
            listed=listed,
            upvotes=upvotes,
            comments=numbers[0] if numbers else 0,
            source="paste",
        )


class PastedPageImporter:
    """A pasted page. ``today`` bounds the page's own day, which is the latest such day up to tomorrow."""

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
    items = _items(text)
    header, items = _header(items)
    tomorrow = today + timedelta(days=1)  # where the page was copied it may have been
    listed = header.resolve(tomorrow) if header else None
    papers, skipped = [], []
    for record in _records(items):
        if not any(c.isalpha() for c in record.title):
            skipped.append(((record.prose or ["text"])[0][:60], "an abstract without a title before it"))
        else:
            papers.append(record.paper(listed or tomorrow, listed))
    return papers, skipped


def _items(text: str) -> list[_Item]:
    blocks = [
        [line for line in map(clean_text, block.split("\n")) if line]
        for block in re.split(r"\n\s*\n", _INVISIBLE.sub("", _LINE_END.sub("\n", text)))
    ]
    width = max((len(line) for lines in blocks for line in lines), default=0)
    # One wide line alone may be text that was never wrapped: then it only goes on where it has not come to an end.
    sure = sum(len(line) > ROOM * width for lines in blocks for line in lines) > 1
    items: list[_Item] = []
    for lines in blocks:
        for line in _unwrapped(lines, width, sure) if width <= WIDEST_WRAPPED else lines:
            items += [_classify(part) for part in _parts(line)]
    return _without_submitters([item for item in items if item.kind != "noise"])


def _unwrapped(lines: Sequence[str], width: int, sure: bool) -> list[str]:
    """The lines of a block as they were before it was wrapped: text goes on where the next word had no room."""
    found: list[str] = []
    last = ""
    for number, line in enumerate(lines, 1):
        after = lines[number] if number < len(lines) else ""
        texts = _is_text(last) and _is_text(line)
        # Text that has come to its end before the block's last words: those are an organisation, not its next line.
        closing = after == line or not (after and all(map(_is_text, _parts(after))))
        ended = _ends(last) and (not sure or (closing and not _ends(line)))
        if last and texts and not ended and len(last) + 1 + len(line.split(" ", 1)[0]) > ROOM * width:
            found[-1] += f" {line}"
        else:
            found.append(line)
        last = line
    return found


def _is_text(text: str) -> bool:
    return _classify(text).kind in ("text", "prose")


def _ends(text: str) -> bool:
    return text.endswith((".", "!", "?", "…", "。"))


def _parts(line: str) -> list[str]:
    """A line such as "5 authors · Jan 26, 2024 6" is taken apart where one of its parts is told by its looks."""
    parts = [part for piece in re.split(r"\s*[·•|]\s*", line) if piece for part in _date_and_number(piece)]
    told = any(_classify(p).kind in ("date", "authors") for p in parts)
    return parts if told or not parts else [line]


def _date_and_number(text: str) -> list[str]:
    """A number of authors, a date and a number of comments may follow each other on one line."""
    words = text.split(" ")
    for begin in range(min(3, len(words))):  # "N authors" takes two words
        if begin and not _AUTHORS.fullmatch(" ".join(words[:begin])):
            continue
        for end in range(len(words), begin, -1):
            rest = " ".join(words[end:])
            if written_day(" ".join(words[begin:end])) and (not rest or _is_comments(rest)):
                return [p for p in (" ".join(words[:begin]), " ".join(words[begin:end]), rest) if p]
    return [text]


def _is_comments(text: str) -> bool:
    return bool(_NUMBER.fullmatch(text) or _NO_COMMENTS.fullmatch(text))


def _classify(text: str) -> _Item:
    day = written_day(text)
    if day is not None:
        return _Item("date", text, day=day)
    if match := _AUTHORS.fullmatch(text):
        return _Item("authors", text, int(match[1]))
    if match := _NUMBER.fullmatch(text):
        return _Item("number", text, _count(match[1], match[2]))
    if _NO_COMMENTS.fullmatch(text):
        return _Item("number", text, 0)
    if match := _UPVOTES.fullmatch(text):
        return _Item("upvotes", text, _count(match[1] or match[3], match[2] or match[4]))
    if _UPVOTE_LABEL.fullmatch(text):
        return _Item("upvote label", text)
    if _LINK_LABEL.fullmatch(text):
        return _Item("link", text)
    if _SUBMITTER.fullmatch(text):
        return _Item("submitter", text)
    if not any(c.isalnum() for c in text) or _NOISE.fullmatch(text):
        return _Item("noise", text)
    words = len(text.split())
    sentence = text.rstrip("\"'”’)").endswith((".", "…", "!", "。"))
    prose = words >= PROSE_WORDS or len(text) >= PROSE_LETTERS or (sentence and 2 * words >= PROSE_WORDS)
    return _Item("prose" if prose else "text", text)


def _count(digits: str, thousand: str) -> int:
    plain = digits.replace(",", "").rstrip(".")
    try:
        return round(float(plain) * (1000 if thousand else 1))
    except ValueError:
        return 0


def _without_submitters(items: list[_Item]) -> list[_Item]:
    """ "Submitted by" keeps its place, since a paper begins there; the name that stands on a line below it goes."""
    found: list[_Item] = []
    for item in items:
        named = found and found[-1].kind == "submitter" and _SUBMITTER.fullmatch(found[-1].text)
        if item.kind == "text" and named and not named["name"]:
            found[-1] = _Item("submitter", f"{found[-1].text} {item.text}")
        else:
            found.append(item)
    return found


def _header(items: list[_Item]) -> tuple[WrittenDay | None, list[_Item]]:
    """The page's own day, and the items from the first paper on.

    The header ends at the first submitter, or before the title of the first paper. A text of the header that is not
    known is not taken for a paper: nothing but the page's day stands between it and the next title.
    """
    begin, day = 0, None
    for at, item in enumerate(items):
        if item.kind in ("submitter", "prose"):
            break
        if item.kind == "text":
            after = [i.kind for i in items[at + 1 : at + 3]]
            if after == ["date", "submitter"] or (after == ["date", "text"] and _reads_on(items[at + 2 :])):
                continue
            break
        if item.kind == "date" and day is None:
            day = item.day
        begin = at + 1
    return day, items[begin:]


def _reads_on(items: list[_Item]) -> bool:
    """Whether a title with an abstract comes first."""
    return len(items) > 1 and items[1].kind == "prose"


def _records(items: list[_Item]) -> Iterator[_Record]:
    """Group items into papers: a paper ends where the next title, or a submitter, begins."""
    texts: list[_Item] = []
    facts: list[_Item] = []
    before: list[_Item] = []  # what stands between a submitter and the title
    for item in [*items, None]:
        is_text = item is not None and item.kind in ("text", "prose")
        if item is None or item.kind == "submitter" or (is_text and facts):
            yield from _group(texts, facts, before)
            texts, facts, before = [], [], []
        if item is None:
            break
        if is_text:
            texts.append(item)
        elif texts:
            facts.append(item)
        else:
            before.append(_Item("upvotes", item.text, item.value) if item.kind == "number" else item)


def _group(texts: list[_Item], facts: list[_Item], before: list[_Item]) -> Iterator[_Record]:
    """The papers of texts that end with one line of facts; only the last paper has these facts."""
    records: list[_Record] = []
    short: list[str] = []
    for item in texts:
        if item.kind == "prose":
            if records and not short:
                records[-1].prose.append(item.text)  # a second paragraph
                continue
            if records and len(short) > 1:
                records[-1].organisation = _organisation(short[:-1])
            records.append(_Record(title=short[-1] if short else "", prose=[item.text]))
            short = []
        elif not short or short[-1] != item.text:
            short.append(item.text)
    counted = any(item.kind == "authors" for item in facts)
    if records:
        if short and not counted:
            records[-1].organisation = _organisation(short)
    elif short and facts:  # no abstract: the title, and the organisation unless authors are counted
        named = len(short) > 1 and not counted
        records.append(
            _Record(title=short[0 if named else -1], organisation=_organisation(short[1:]) if named else None)
        )
    if records:
        _take_facts(records[0], before)
        _take_facts(records[-1], facts)
    yield from records


def _organisation(texts: Sequence[str]) -> str:
    """The name among the text of a logo and the name itself."""
    name = texts[-1]
    plain = _LOGO.sub("", name)
    for middle in (len(name) // 2, (len(name) + 1) // 2):
        first, second = name[:middle], name[-middle:]
        apart = len(name) == 2 * middle + 1 and name[middle] == " "
        if first == second and (apart or (len(name) == 2 * middle and middle >= SHORTEST_HALF)):
            return first
    return plain or name


def _take_facts(record: _Record, items: list[_Item]) -> None:
    label = ""
    for item in items:
        if item.kind == "date":
            record.day = record.day or item.day
        elif item.kind == "authors":
            record.authors = item.value
        elif item.kind == "upvotes" or (item.kind == "number" and label == "upvote label"):
            record.upvotes = item.value
        elif item.kind == "number" and item.value is not None and label != "link":
            record.numbers.append(item.value)
        label = item.kind
