"""Sentences about the validation data: captions and reports split, without doubles, in the order first seen."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from paperworks.errors import InputError

_REPORT_END = re.compile(r"(?<=[.!?])\s+|\n+")
_SPACE = re.compile(r"\s+")


def split_captions(captions: Iterable[str]) -> list[str]:
    """Unique sentences of captions: split at ``". "``, without the last period, in the order first seen."""
    return unique(part.strip().removesuffix(".").strip() for text in captions for part in _flat(text).split(". "))


def split_reports(reports: Iterable[str], min_words: int = 3) -> list[str]:
    """Unique sentences of reports and other running text; those of fewer words are left out (chest X-rays: 2)."""
    parts = (part.strip() for text in reports for part in _REPORT_END.split(text))
    return unique(_flat(part).removesuffix(".") for part in parts if len(part.split()) >= min_words)


def unique(sentences: Iterable[str]) -> list[str]:
    """Sentences without doubles and without empty ones, in the order first seen."""
    return list(dict.fromkeys(s for s in sentences if s))


def check_sentences(sentences: Sequence[str]) -> list[str]:
    """The corpus of a discovery. Raises InputError for what is no text, and for fewer than two different sentences."""
    if isinstance(sentences, str):
        raise InputError("sentences", "one text", "a list of sentences (see split_captions)")
    listed = list(sentences)
    wrong = next((i for i, s in enumerate(listed) if not isinstance(s, str)), None)
    if wrong is not None:
        raise InputError(f"sentences[{wrong}]", type(listed[wrong]).__name__, "a text")
    found = unique(_flat(s) for s in listed)
    if not found:
        raise InputError("sentences", f"{len(listed)} sentences, all empty" if listed else "none", "sentences")
    if len(found) < 2:
        raise InputError("sentences", f"{len(listed)} times {found[0][:60]!r}", "at least two different sentences")
    return found


def _flat(text: str) -> str:
    return _SPACE.sub(" ", text).strip()
