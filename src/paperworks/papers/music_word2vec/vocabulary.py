"""Words to ids: sorted by frequency, with id 0 for all words that are too rare."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from paperworks.errors import InputError
from paperworks.papers.music_word2vec.chords import as_word
from paperworks.papers.music_word2vec.slices import Word

UNKNOWN = 0
"""The id of words outside the vocabulary (UNK)."""


def as_words(sequences: Any) -> list[list[Word]]:
    """Sequences of codes, chord names, sets of pitch classes or 88-key texts, as lists of words.

    Raises InputError for one list where lists are wanted, and for what is no word (see ``as_word``).
    """
    known: dict[Any, Word] = {}
    return [[_word(word, known) for word in _listed(words)] for words in _listed(sequences)]


def _listed(sequence: Any) -> list[Any]:
    try:
        if isinstance(sequence, str | set | frozenset):
            raise TypeError
        return list(sequence)
    except TypeError:
        expected = "lists of words, one list per piece"
        raise InputError("sequences", f"{sequence!r:.60} in place of a list", expected) from None


def _word(word: Any, known: dict[Any, Word]) -> Word:
    try:
        if word not in known:
            known[word] = as_word(word)
        return known[word]
    except TypeError:  # a set, which cannot be a key
        return as_word(word)


@dataclass(frozen=True)
class Vocabulary:
    """The most frequent words; ``words[i]`` has id i + 1, and id 0 is every other word.

    Attributes
    ----------
    words : by falling frequency; words of equal frequency in ascending order.
    counts : how often each id occurs ``[V]`` int64, UNK first.
    """

    words: tuple[Word, ...]
    counts: np.ndarray

    @classmethod
    def from_sequences(cls, sequences: Iterable[Sequence[Word]], size: int) -> Vocabulary:
        """The ``size - 1`` most frequent words, and UNK.

        Raises InputError for fewer than two distinct words, or words of two kinds.
        """
        counter: Counter[Word] = Counter()
        for words in sequences:
            counter.update(words)
        if len(counter) < 2:
            raise InputError("sequences", f"{len(counter)} distinct words", "at least 2")
        if len({isinstance(word, str) for word in counter}) > 1:
            raise InputError("sequences", "codes beside texts", "words of one representation")
        ranked = sorted(counter.items(), key=lambda item: (-item[1], item[0]))
        kept = ranked[: size - 1]
        rest = sum(count for _, count in ranked[size - 1 :])
        return cls(tuple(word for word, _ in kept), np.array([rest, *(count for _, count in kept)], np.int64))

    def __len__(self) -> int:
        return len(self.words) + 1

    @property
    def ids(self) -> dict[Word, int]:
        """Word -> id."""
        return {word: i for i, word in enumerate(self.words, 1)}

    def encode(self, sequences: Iterable[Sequence[Word]]) -> list[np.ndarray]:
        """The ids of every sequence, int32."""
        ids = self.ids
        return [np.array([ids.get(word, UNKNOWN) for word in words], np.int32) for words in sequences]
