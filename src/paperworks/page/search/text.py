"""What is searched of an entry, and its matches shown: everything that leaves here for a page is escaped."""

from __future__ import annotations

import hashlib
import html
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from paperworks.page.feed.entries import clean_text
from paperworks.page.tex import to_plain

SNIPPET_LETTERS = 260
LONGEST_QUERY = 400
MOST_TERMS = 32
FUNCTION_WORDS = frozenset(
    [
        "a",
        "an",
        "and",
        "are",
        "as",
        "at",
        "be",
        "by",
        "for",
        "from",
        "has",
        "have",
        "how",
        "in",
        "into",
        "is",
        "it",
        "its",
        "of",
        "on",
        "or",
        "that",
        "the",
        "their",
        "this",
        "to",
        "was",
        "were",
        "what",
        "when",
        "which",
        "with",
        "without",
    ]
)
"""Words that are searched for and not shown as matches."""
_WORD = re.compile(r"\w+")
_WORD_LETTER = re.compile(r"\w")
_BEGIN, _END = "\x01", "\x02"  # stand for the tags until the text is escaped


class EntryText(NamedTuple):
    """The searched parts of an entry: title, abstract, and the rest (tags, authors, organisation)."""

    title: str
    abstract: str
    rest: str

    @property
    def digest(self) -> str:
        """Changes when one of the parts does: 32 hexadecimal digits."""
        return hashlib.sha256("\0".join(self).encode()).hexdigest()[:32]

    @property
    def meaning(self) -> str:
        """What is embedded."""
        return f"{self.title}\n{self.abstract}" if self.abstract else self.title


def entry_text(
    title: str, summary: str, abstract: str, tags: Sequence[str], authors: Sequence[str], organisation: str | None
) -> EntryText:
    """The searched parts. Tags are there with and without their hyphens; formulas as far as they are Unicode."""
    words = [*tags, *(t.replace("-", " ") for t in tags), *authors[:200], organisation or ""]
    return EntryText(to_plain(title), shown_text(summary, abstract), " ".join(w for w in words if w))


def shown_text(summary: str, abstract: str) -> str:
    """Our summary and the abstract as one text, in which matches are shown."""
    return to_plain("\n\n".join(part for part in (summary, abstract) if part))


def clean_query(query: str) -> str:
    """A query in one line, without control characters, cut at a length that nobody types."""
    return clean_text(query[: 4 * LONGEST_QUERY])[:LONGEST_QUERY].strip()


def query_words(query: str) -> list[str]:
    """The distinct words of a query, at most ``MOST_TERMS``."""
    return list(dict.fromkeys(w.lower() for w in _WORD.findall(query)))[:MOST_TERMS]


class Highlighter:
    """Shows where the words of one query are in texts."""

    def __init__(self, query: str) -> None:
        words = query_words(query)
        stems = {word: _stem(word) for word in [w for w in words if w not in FUNCTION_WORDS] or words}
        self._stems = frozenset(stems.values())
        # Stemming may have changed the last letter, and leaves nothing of some words.
        self._begins = sorted({s[:-1] if len(s) > 2 else s or word[0] for word, s in stems.items()})

    def snippet(self, title: str, abstract: str) -> str:
        """The part of the abstract (or the title) with the most matches, as HTML: escaped, matches in ``<mark>``.

        A word matches when its stem is that of one of the query's words.
        """
        text = abstract or title
        if _BEGIN in text or _END in text:
            text = text.replace(_BEGIN, "").replace(_END, "")
        places = self._places(text)
        begin, end = _window(text, places)
        parts = []
        at = begin
        for first, last in places:
            if first >= begin and last <= end:
                parts += [text[at:first], _BEGIN, text[first:last], _END]
                at = last
        parts.append(text[at:end])
        escaped = html.escape("".join(parts)).replace(_BEGIN, "<mark>").replace(_END, "</mark>")
        return f"{'… ' if begin else ''}{escaped}{' …' if end < len(text) else ''}"

    def _places(self, text: str) -> list[tuple[int, int]]:
        small = _small_letters(text)
        places: dict[int, int] = {}
        for begin in self._begins:
            at = small.find(begin)  # a pattern of all of them would take longer to compile than to use
            while at >= 0:
                if at not in places and not (at and _WORD_LETTER.match(small, at - 1)):
                    end = _WORD.match(small, at).end()  # type: ignore[union-attr]
                    if _stem(small[at:end]) in self._stems:
                        places[at] = end
                at = small.find(begin, at + 1)
        return sorted(places.items())


def _small_letters(text: str) -> str:
    """The text in small letters, every one at its place: a pattern that ignores case takes half as long again."""
    small = text.lower()
    return small if len(small) == len(text) else "".join(c.lower() if len(c.lower()) == 1 else c for c in text)


def _window(text: str, places: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Where a snippet begins and ends: around the most matches, between words."""
    if len(text) <= SNIPPET_LETTERS:
        return 0, len(text)
    best, most, last = 0, 0, 0
    for i, (first, _) in enumerate(places):
        while last < len(places) and places[last][1] <= first + SNIPPET_LETTERS - 40:
            last += 1
        if last - i > most:
            best, most = first, last - i
    begin = max(0, min(best - 40, len(text) - SNIPPET_LETTERS))
    if begin:
        space = text.find(" ", begin, begin + 40)
        begin = space + 1 if space >= 0 else begin
    end = min(len(text), begin + SNIPPET_LETTERS)
    if end < len(text):
        space = text.rfind(" ", end - 40, end)
        end = space if space > begin else end
    return begin, end


@lru_cache(maxsize=65536)
def _stem(word: str) -> str:
    return _stemmer().stemWord(word)


@lru_cache(maxsize=1)
def _stemmer() -> _LockedStemmer:
    return _LockedStemmer()


class _LockedStemmer:
    """PyStemmer's objects are not for several threads at once."""

    def __init__(self) -> None:
        import threading

        import Stemmer

        self._stemmer = Stemmer.Stemmer("porter")
        self._lock = threading.Lock()

    def stemWord(self, word: str) -> str:
        with self._lock:
            return self._stemmer.stemWord(word)
