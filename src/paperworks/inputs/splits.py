"""Splitting documents by a hash of what they are, and keeping what is held out apart from what is trained on."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping

from paperworks.errors import InputError

_PARTS = re.compile(r'[\n"“”]|; ')
_WORDS = re.compile(r"\w+")


def split_of(key: str, shares: Mapping[str, float]) -> str:
    """The split that a key falls into: the same on every machine, and whatever other keys there are.

    Parameters
    ----------
    key : what must stay together, such as a chapter's name or a normalised text.
    shares : name of each split -> its share; the shares add up to 1.
    """
    total = sum(shares.values())
    if not shares or any(s < 0 for s in shares.values()) or abs(total - 1) > 1e-9:
        raise InputError("shares", dict(shares), "shares of at least 0 that add up to 1")
    place = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64
    edge = 0.0
    for name, share in shares.items():
        edge += share
        if place < edge:
            return name
    return list(shares)[-1]


def normalised(text: str) -> str:
    """The words of a text in lower case, joined by single spaces: two texts with one normal form say the same."""
    return " ".join(_WORDS.findall(text.lower()))


def passages(text: str, least_words: int = 5) -> set[str]:
    """The normalised passages of a text: what stands between line breaks, quotation marks and semicolons."""
    parts = (normalised(part) for part in _PARTS.split(text))
    return {part for part in parts if part.count(" ") >= least_words - 1}


def without_passages(texts: Iterable[str], seen: set[str]) -> list[str]:
    """The texts less every line that shares a passage with ``seen``; texts with no line left are left out."""
    kept = []
    for text in texts:
        lines = [line for line in text.split("\n") if not passages(line) & seen]
        if lines:
            kept.append("\n".join(lines))
    return kept
