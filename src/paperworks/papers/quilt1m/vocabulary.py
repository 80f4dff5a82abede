"""The user's terms: a vocabulary file, and which of its concepts a sentence mentions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from paperworks.errors import InputError
from paperworks.inputs.transcripts import decode_text
from paperworks.papers.quilt1m.columns import TABLES, named_column, text_columns

TOKEN = re.compile(r"[^\W_]+(?:['’\-][^\W_]+)*")
LONGEST_TERM = 8


class Concept(NamedTuple):
    """A term and the id of the concept that it names (an UMLS id, or the user's own)."""

    term: str
    id: str


class Entity(NamedTuple):
    """A mention: the words as spoken, the concept's id, and a confidence in [0, 1]."""

    entity: str
    concept_id: str
    confidence: float


class Vocabulary:
    """Terms with the ids of their concepts. Two terms may have one id; of two equal terms the first counts.

    Parameters
    ----------
    concepts : terms of up to 8 words.

    Raises
    ------
    InputError : no term, or one without letters or digits.
    """

    def __init__(self, concepts: Iterable[Concept]) -> None:
        self.concepts = tuple(concepts)
        if not self.concepts:
            raise InputError("vocabulary", "no terms", "one term or more")
        for number, concept in enumerate(self.concepts):
            if not TOKEN.search(concept.term):
                raise InputError(f"vocabulary, term {number + 1}", repr(concept.term), "a term with letters or digits")

    @classmethod
    def read(cls, path: Path) -> Vocabulary:
        """A table (.csv, .tsv, .parquet) with a column ``term`` and, if there are ids, ``id``; or a text file with a
        term a line.

        Raises InputError for a file that is missing, of another form, or without a column ``term``.
        """
        if path.suffix.lower() in TABLES:
            columns = text_columns(path, "vocabulary")
            terms = named_column(columns, ("term", "name", "concept"), "vocabulary")
            found = next((columns[n] for n in ("id", "concept_id", "cui") if n in columns), terms)
            return cls(Concept(t, i or t) for t, i in zip(terms, found, strict=True) if t)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise InputError("vocabulary", f"{path} ({error.strerror})", "a table with a column term") from None
        lines = [line.strip() for line in decode_text(data, str(path))[0].splitlines()]
        return cls(Concept(line, line) for line in lines if line and not line.startswith("#"))

    @cached_property
    def words(self) -> frozenset[str]:
        """All words of all terms, in lower case."""
        return frozenset(word for concept in self.concepts for word in tokens(concept.term))

    @cached_property
    def phrases(self) -> Mapping[tuple[str, ...], str]:
        """Terms of two words or more, by their words in lower case -> the term as it is written."""
        found: dict[tuple[str, ...], str] = {}
        for concept in self.concepts:
            words = tuple(tokens(concept.term))
            if len(words) > 1:
                found.setdefault(words, concept.term)
        return found

    @cached_property
    def _by_stems(self) -> dict[tuple[str, ...], Concept]:
        found: dict[tuple[str, ...], Concept] = {}
        for concept in self.concepts:
            found.setdefault(tuple(map(stem, tokens(concept.term)))[:LONGEST_TERM], concept)
        return found

    @cached_property
    def _longest(self) -> int:
        return max(map(len, self._by_stems))

    def entities(self, text: str) -> list[Entity]:
        """Mentions of concepts, the longest first at each place, none within another.

        A word matches with or without a plural's ending. The confidence is the mean over words: 1 for the same word,
        0.75 where only the endings differ.
        """
        spoken = [(m[0].lower(), m.start(), m.end()) for m in TOKEN.finditer(text)]
        stems = [stem(word) for word, _, _ in spoken]
        found: list[Entity] = []
        place = 0
        while place < len(spoken):
            for length in range(min(self._longest, len(spoken) - place), 0, -1):
                concept = self._by_stems.get(tuple(stems[place : place + length]))
                if concept is None:
                    continue
                words = tokens(concept.term)[:LONGEST_TERM]
                pairs = zip(words, spoken[place : place + length], strict=True)
                score = sum(1.0 if a == b[0] else 0.75 for a, b in pairs) / length
                span = text[spoken[place][1] : spoken[place + length - 1][2]]
                found.append(Entity(span, concept.id, round(score, 4)))
                place += length - 1
                break
            place += 1
        return found


def tokens(text: str) -> list[str]:
    """Words in lower case: letters and digits, with hyphens and apostrophes inside."""
    return [m.lower() for m in TOKEN.findall(text)]


def stem(word: str) -> str:
    """Without the ending of a plural."""
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 4 and word.endswith(("ses", "xes", "zes", "ches", "shes")):
        return word[:-2]
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


DEICTIC = re.compile(
    r"\b(here|this|these|those|that (?:is|one)|you (?:can )?see|we (?:can )?see|look(?:ing)? at|arrow|notice|"
    r"pointing|on the (?:left|right|top|bottom)|over there|right there)\b",
    re.IGNORECASE,
)
"""Words that point at something on the screen."""


class SplitText(NamedTuple):
    """Sentences of a chunk: about the domain, about what is pointed at, and the entities of the former."""

    medical: list[str]
    roi: list[str]
    entities: list[list[Entity]]


def split_text(sentences: Sequence[str], vocabulary: Vocabulary | None) -> SplitText:
    """Sentences with an entity are domain text; those of them that also point at something are region text as well.

    Sentences without an entity are dropped. Without a vocabulary all sentences are kept, with no entity.
    """
    medical, roi, found = [], [], []
    for sentence in dict.fromkeys(sentences):
        entities = vocabulary.entities(sentence) if vocabulary is not None else []
        if vocabulary is not None and not entities:
            continue
        medical.append(sentence)
        found.append(entities)
        if DEICTIC.search(sentence):
            roi.append(sentence)
    return SplitText(medical, roi, found)
