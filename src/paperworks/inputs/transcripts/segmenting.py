"""Sentences out of timed words: by punctuation where there is some, by pauses and length where there is none."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from paperworks.errors import InputError
from paperworks.inputs.transcripts.cues import Word

_END = re.compile(r"[.!?…。！？]+[\"'”’)\]]*$")
_ABBREVIATION = re.compile(
    r"^(?:[A-Za-z]|[A-Za-z](?:\.[A-Za-z])+|dr|mr|mrs|ms|prof|vs|etc|e\.g|i\.e|approx|fig|no|st)\.$", re.I
)


class Sentence(NamedTuple):
    """A sentence with its times in seconds; ``first`` and ``last`` are the places of its words, last excluded."""

    start: float
    end: float
    text: str
    first: int
    last: int


def split_sentences(
    words: Sequence[Word], *, pause: float = 1.0, longest: int = 40, shortest: int = 1
) -> list[Sentence]:
    """Sentences of a transcript's words.

    Parameters
    ----------
    words : in order, as ``Transcript.words``.
    pause : silence in seconds that ends a sentence without a full stop; infinite for never.
    longest : words after which a sentence ends at the latest: recognised speech may have no punctuation at all. It
        ends at the longest pause among its later half.
    shortest : a sentence of fewer words joins the one before it, if the pause between them is shorter than ``pause``.
    """
    if longest < 2:
        raise InputError("longest", longest, "2 words or more")
    spans: list[tuple[int, int]] = []
    first = 0
    for place, word in enumerate(words):
        last = place + 1
        silent = last < len(words) and words[last].start - word.end >= pause
        if last == len(words) or silent or _ends(word.text):
            spans += _cut(words, first, last, longest)
            first = last
    merged: list[tuple[int, int]] = []
    for first, last in spans:
        near = bool(merged) and words[first].start - words[first - 1].end < pause
        if near and last - first < shortest and last - merged[-1][0] <= longest:
            merged[-1] = merged[-1][0], last
        else:
            merged.append((first, last))
    return [Sentence(words[a].start, words[b - 1].end, " ".join(w.text for w in words[a:b]), a, b) for a, b in merged]


def _ends(text: str) -> bool:
    return bool(_END.search(text)) and not _ABBREVIATION.match(text)


def _cut(words: Sequence[Word], first: int, last: int, longest: int) -> list[tuple[int, int]]:
    spans = []
    while last - first > longest:
        places = range(first + max(1, longest // 2), first + longest + 1)
        # the longest pause; of equal ones the latest, so that pieces are not shorter than they need be
        end = max(places, key=lambda i: (round(words[i].start - words[i - 1].end, 3), i))
        spans.append((first, end))
        first = end
    return [*spans, (first, last)]
