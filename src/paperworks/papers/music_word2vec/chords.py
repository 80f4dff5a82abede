"""Chord names, triads on the degrees of a key, and distances on the circle of fifths."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import numpy as np

from paperworks.errors import InputError
from paperworks.papers.music_word2vec.slices import Word, encode_pitches, pitch_classes

SHARPS = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
NAMES = ("C", "Db", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")
"""Pitch classes by the names of their major keys."""
FIFTHS_ORDER = tuple(7 * k % 12 for k in range(12))
"""Pitch classes in fifths from C: C G D A E B F# Db Ab Eb Bb F."""
CHORDS: dict[str, tuple[int, ...]] = {
    "": (0, 4, 7),
    "m": (0, 3, 7),
    "7": (0, 4, 7, 10),
    "m7": (0, 3, 7, 10),
    "maj7": (0, 4, 7, 11),
    "dim": (0, 3, 6),
    "m7b5": (0, 3, 6, 10),
    "dim7": (0, 3, 6, 9),
    "sus4": (0, 5, 7),
    "5": (0, 7),
    "aug": (0, 4, 8),
}
"""Quality -> semitones above the root, in the order in which a name is looked for."""
MAJOR_SCALE, MINOR_SCALE = (0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10, 11)
"""The minor scale has both sevenths, the natural and the raised one."""
DEGREES: dict[str, tuple[int, str]] = {
    "I": (0, ""),
    "V": (7, ""),
    "IV": (5, ""),
    "vi": (9, "m"),
    "bIII": (3, ""),
    "bII": (1, ""),
    "v": (7, "m"),
}
"""Degree -> semitones above the tonic, and quality of the triad."""
INSIDE, OUTSIDE = ("V", "IV", "vi"), ("bIII", "v", "bII")
_LETTERS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_ROOT = re.compile(r"([A-G])([#b♯♭]?)(.*)")


def parse_root(text: str) -> tuple[int, str]:
    """Pitch class and the rest of a name: ``Bbm`` is (10, "m"). Raises InputError where there is no root."""
    match = _ROOT.fullmatch(text.strip())
    if match is None:
        raise InputError("chord", repr(text), "a name such as C, Gm, F#7 or Bbm")
    letter, sign, rest = match.groups()
    return (_LETTERS[letter] + {"#": 1, "♯": 1, "b": -1, "♭": -1, "": 0}[sign]) % 12, rest


def chord_word(name: str) -> int:
    """The word of a chord name: ``C`` is 145, ``Gm`` 1156. Raises InputError for an unknown one."""
    root, quality = parse_root(name)
    if quality not in CHORDS:
        known = ", ".join(q for q in CHORDS if q)
        raise InputError("chord", repr(name), f"a root and nothing (major), or one of {known}")
    return encode_pitches(root + step for step in CHORDS[quality])


def as_word(word: Any) -> Word:
    """A word from a code, a chord name, the text of an 88-key word, or a set of pitch classes.

    Raises InputError for a code outside 0..4095, an unknown chord name, pitch classes outside 0..11, or a text of nine
    octave codes with one outside 0..4095.
    """
    if isinstance(word, str):
        return _octaves(word) if word.count("-") == 8 else chord_word(word)
    if isinstance(word, Iterable):
        members = list(word)
        if any(_whole(pc, 11) is None for pc in members):
            raise InputError("word", members, "pitch classes 0..11")
        return encode_pitches(members)
    code = _whole(word, 4095)
    if code is None:
        raise InputError("word", repr(word), "a code 0..4095, a set of pitch classes, or a chord name")
    return code


def as_code(word: Any) -> int:
    """A word of 12 bits from what ``as_word`` takes. Raises InputError for words of 88 keys, too."""
    code = as_word(word)
    if isinstance(code, str):
        raise InputError("word", repr(word), "a word of 12 bits, not of 88 keys")
    return code


def _whole(value: Any, most: int) -> int | None:
    try:
        code = int(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return code if 0 <= code <= most and code == value else None


def _octaves(text: str) -> str:
    codes = text.split("-")
    if not all(code.isdecimal() and int(code) <= 4095 for code in codes):
        raise InputError("word", repr(text), "nine octave codes 0..4095 with - between them")
    return "-".join(str(int(code)) for code in codes)


def word_name(word: Word) -> str:
    """A chord name where the slice is one, else its notes: ``C``, ``Am``, ``C-D-E``; ``rest`` for silence."""
    if isinstance(word, str):
        return word
    code = as_code(word)
    members = pitch_classes(code)
    if not members:
        return "rest"
    if len(members) > 1:
        for quality, steps in CHORDS.items():
            for root in members:
                if encode_pitches(root + s for s in steps) == code:
                    return NAMES[root] + quality
    return "-".join(NAMES[pc] for pc in members) if len(members) > 1 else f"{NAMES[members[0]]} alone"


def degree_word(tonic: int, degree: str) -> int:
    """The word of the triad on a degree of the major key on ``tonic``; ``degree`` is a key of ``DEGREES``."""
    if degree not in DEGREES:
        raise InputError("degree", repr(degree), f"one of {', '.join(DEGREES)}")
    step, quality = DEGREES[degree]
    return encode_pitches(tonic + step + s for s in CHORDS[quality])


def fifths_distance(a: int, b: int) -> int:
    """Steps between two pitch classes on the circle of fifths, 0..6."""
    steps = 7 * (a - b) % 12
    return min(steps, 12 - steps)


def scale_of(key: str) -> frozenset[int]:
    """The pitch classes of a key: ``G`` is major, ``Em`` minor (with natural and raised seventh).

    Raises InputError for anything but a root, or a root with m.
    """
    root, mode = parse_root(key)
    if mode not in ("", "m"):
        raise InputError("key", repr(key), "a major key such as G, or a minor one such as Em")
    return frozenset((root + s) % 12 for s in (MINOR_SCALE if mode else MAJOR_SCALE))


# Weights of pitch classes above the tonic that listeners report (Krumhansl & Kessler 1982).
_PROFILES = {
    "": (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88),
    "m": (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17),
}


def estimate_key(words: Iterable[Word]) -> str:
    """The key whose Krumhansl-Kessler profile correlates best with the pitch classes of the slices: ``G``, ``Em``.

    Raises InputError where all slices are silent, and for words of 88 keys.
    """
    counts = np.zeros(12)
    for word in words:
        counts[pitch_classes(as_code(word))] += 1
    if not counts.any():
        raise InputError("words", "silence only", "slices with notes")
    if counts.std() == 0:
        return "C"
    scores = {
        NAMES[root] + mode: float(np.corrcoef(counts, np.roll(profile, root))[0, 1])
        for mode, profile in _PROFILES.items()
        for root in range(12)
    }
    return max(scores, key=lambda name: scores[name])
