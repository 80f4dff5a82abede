"""Words of a text: tokens, stems, and the words that carry content."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from itertools import pairwise

_TOKEN = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")
FILLERS = frozenset(
    [
        "um",
        "uh",
        "uhm",
        "erm",
        "hmm",
        "mhm",
        "okay",
        "ok",
        "yeah",
        "yep",
        "yes",
        "hey",
        "hi",
        "hello",
        "gonna",
        "wanna",
        "gotta",
        "kinda",
        "sorta",
        "guys",
        "folks",
        "like",
        "just",
        "really",
        "actually",
        "basically",
        "literally",
        "well",
        "let",
        "lets",
        "it's",
        "that's",
        "there's",
        "i'm",
        "you're",
        "we're",
        "they're",
        "i've",
        "we've",
        "you've",
        "i'll",
        "we'll",
        "you'll",
        "don't",
        "doesn't",
        "didn't",
        "can't",
        "won't",
        "isn't",
        "aren't",
        "wasn't",
        "let's",
        "he's",
        "she's",
        "what's",
        "here's",
        "thing",
        "things",
        "stuff",
        "lot",
        "little",
        "bit",
    ]
)
"""Words of speech that no written instruction needs."""


def tokens(text: str) -> list[str]:
    """Lower-case words of a text, Unicode-normalised (NFKC); ``it's`` is one word."""
    folded = unicodedata.normalize("NFKC", text).lower().replace("\u2019", "'")
    return _TOKEN.findall(folded)


@lru_cache(1)
def stop_words() -> frozenset[str]:
    """English words without content: scikit-learn's list and the fillers of speech."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    return frozenset(ENGLISH_STOP_WORDS) | FILLERS


def content_words(text: str) -> frozenset[str]:
    """The set of stems of a text without stop words, numbers and single letters."""
    stop = stop_words()
    return frozenset(stem(word) for word in tokens(text) if len(word) > 1 and word not in stop and not word.isdigit())


# -- Porter's stemmer (M. F. Porter, An algorithm for suffix stripping, Program 14(3), 1980) ------------------------

_STEP_2 = (
    "ational ate,tional tion,enci ence,anci ance,izer ize,abli able,alli al,entli ent,eli e,ousli ous,ization ize,"
    "ation ate,ator ate,alism al,iveness ive,fulness ful,ousness ous,aliti al,iviti ive,biliti ble"
)
_STEP_3 = "icate ic,ative ,alize al,iciti ic,ical ic,ful ,ness "
_STEP_4 = [
    "al",
    "ance",
    "ence",
    "er",
    "ic",
    "able",
    "ible",
    "ant",
    "ement",
    "ment",
    "ent",
    "ion",
    "ou",
    "ism",
    "ate",
    "iti",
    "ous",
    "ive",
    "ize",
]


def _pairs(text: str) -> tuple[tuple[str, str], ...]:
    found = [tuple(part.split(" ")) for part in text.split(",")]
    return tuple(sorted(((a, b) for a, b in found), key=lambda pair: -len(pair[0])))


_SECOND, _THIRD = _pairs(_STEP_2), _pairs(_STEP_3)


@lru_cache(1 << 16)
def stem(word: str) -> str:
    """Porter's stem of a lower-case English word; other words come back as they are."""
    if len(word) <= 2 or not word.isascii() or not word.isalpha():
        return word
    word = _plural(word)
    word = _past(word)
    if word.endswith("y") and _has_vowel(word[:-1]):
        word = word[:-1] + "i"
    for rules in (_SECOND, _THIRD):
        for ending, other in rules:
            if word.endswith(ending):
                if _measure(word[: -len(ending)]) > 0:
                    word = word[: -len(ending)] + other
                break
    for ending in sorted(_STEP_4, key=len, reverse=True):
        if word.endswith(ending):
            rest = word[: -len(ending)]
            if _measure(rest) > 1 and (ending != "ion" or rest.endswith(("s", "t"))):
                word = rest
            break
    if word.endswith("e"):
        m = _measure(word[:-1])
        if m > 1 or (m == 1 and not _short(word[:-1])):
            word = word[:-1]
    return word[:-1] if word.endswith("ll") and _measure(word[:-1]) > 1 else word


def _plural(word: str) -> str:
    if word.endswith("sses") or word.endswith("ies"):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word


def _past(word: str) -> str:
    if word.endswith("eed"):
        return word[:-1] if _measure(word[:-3]) > 0 else word
    for ending in ("ed", "ing"):
        rest = word[: -len(ending)]
        if word.endswith(ending):
            if not _has_vowel(rest):
                return word
            if rest.endswith(("at", "bl", "iz")):
                return rest + "e"
            if len(rest) > 1 and rest[-1] == rest[-2] and _consonant(rest, len(rest) - 1) and rest[-1] not in "lsz":
                return rest[:-1]
            return rest + "e" if _measure(rest) == 1 and _short(rest) else rest
    return word


def _consonant(word: str, at: int) -> bool:
    if word[at] in "aeiou":
        return False
    return word[at] != "y" or at == 0 or not _consonant(word, at - 1)


def _measure(word: str) -> int:
    """How often a vowel is followed by a consonant."""
    kinds = [_consonant(word, at) for at in range(len(word))]
    return sum(not a and b for a, b in pairwise(kinds))


def _has_vowel(word: str) -> bool:
    return any(not _consonant(word, at) for at in range(len(word)))


def _short(word: str) -> bool:
    """Ends consonant, vowel, consonant that is not w, x or y."""
    last = len(word) - 1
    return (
        last >= 2
        and _consonant(word, last)
        and not _consonant(word, last - 1)
        and _consonant(word, last - 2)
        and word[-1] not in "wxy"
    )
