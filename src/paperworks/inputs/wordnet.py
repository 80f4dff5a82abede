"""WordNet's database files: synsets, words, glosses, lexicographer files and relations (format: wndb(5WN)).

wordnet = WordNet(inputs.path("wordnet"))          # after `paperworks data get wordnet`
dog = wordnet.synsets("dog", "n")[0]               # n02084071, in the order of frequency
wordnet.hypernyms(dog), wordnet.ancestors(dog), dog.lexname
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from paperworks.errors import InputError, nearest

PARTS = {"noun": "n", "verb": "v", "adj": "a", "adv": "r"}
"""Ending of the database file -> part of speech. Adjectives that hang on another one have the type "s"."""

LEXICOGRAPHER_FILES = (
    "adj.all",
    "adj.pert",
    "adv.all",
    "noun.Tops",
    "noun.act",
    "noun.animal",
    "noun.artifact",
    "noun.attribute",
    "noun.body",
    "noun.cognition",
    "noun.communication",
    "noun.event",
    "noun.feeling",
    "noun.food",
    "noun.group",
    "noun.location",
    "noun.motive",
    "noun.object",
    "noun.person",
    "noun.phenomenon",
    "noun.plant",
    "noun.possession",
    "noun.process",
    "noun.quantity",
    "noun.relation",
    "noun.shape",
    "noun.state",
    "noun.substance",
    "noun.time",
    "verb.body",
    "verb.change",
    "verb.cognition",
    "verb.communication",
    "verb.competition",
    "verb.consumption",
    "verb.contact",
    "verb.creation",
    "verb.emotion",
    "verb.motion",
    "verb.perception",
    "verb.possession",
    "verb.social",
    "verb.stative",
    "verb.weather",
    "adj.ppl",
)
"""Names of the lexicographer files, by their number (lexnames(5WN))."""

RELATIONS = {
    "!": "antonym",
    "@": "hypernym",
    "@i": "instance_hypernym",
    "~": "hyponym",
    "~i": "instance_hyponym",
    "#m": "member_holonym",
    "#s": "substance_holonym",
    "#p": "part_holonym",
    "%m": "member_meronym",
    "%s": "substance_meronym",
    "%p": "part_meronym",
    "=": "attribute",
    "+": "derivation",
    "*": "entailment",
    ">": "cause",
    "^": "also_see",
    "$": "verb_group",
    "&": "similar_to",
    "<": "participle",
    "\\": "pertainym",
    ";c": "topic_domain",
    "-c": "topic_member",
    ";r": "region_domain",
    "-r": "region_member",
    ";u": "usage_domain",
    "-u": "usage_member",
}
"""Pointer symbol -> name of the relation (wninput(5WN))."""


class Pointer(NamedTuple):
    """A relation from a synset to ``target`` (an id). ``source_word`` and ``target_word`` count from 1; 0 means all."""

    relation: str
    target: str
    source_word: int
    target_word: int


class Synset(NamedTuple):
    """A set of synonyms.

    Attributes
    ----------
    id : part of speech (n, v, a, r) and the eight digits of its place in the file, such as ``n02084071``.
    pos : "n", "v", "a", "s" (an adjective that hangs on another) or "r".
    lexname : its lexicographer file, such as "noun.animal".
    lemmas : the words, spaces for underscores, without the syntactic markers of adjectives.
    gloss : definition and examples, as in the file.
    pointers : relations to other synsets.
    """

    id: str
    pos: str
    lexname: str
    lemmas: tuple[str, ...]
    gloss: str
    pointers: tuple[Pointer, ...]

    @property
    def definition(self) -> str:
        """The gloss before its first example."""
        return self.gloss.split('; "')[0].strip().rstrip(";")

    @property
    def examples(self) -> tuple[str, ...]:
        """The examples in the gloss, without quotation marks."""
        return tuple(re.findall(r'"([^"]+)"', self.gloss))


class WordNet:
    """A WordNet database folder.

    Parameters
    ----------
    folder : with ``data.*`` and ``index.*`` for noun, verb, adj and adv.

    Raises
    ------
    InputError : a file that is missing or of another form.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._synsets = {s.id: s for part in PARTS for s in read_synsets(folder, part)}

    def __len__(self) -> int:
        return len(self._synsets)

    def __iter__(self) -> Iterator[Synset]:
        return iter(self._synsets.values())

    def __getitem__(self, synset_id: str) -> Synset:
        """A synset by id. Raises InputError for an unknown one."""
        if synset_id not in self._synsets:
            raise InputError("synset", repr(synset_id), "an id such as 'n02084071' (part of speech and eight digits)")
        return self._synsets[synset_id]

    @cached_property
    def _senses(self) -> dict[tuple[str, str], tuple[str, ...]]:
        """(lemma, part of speech) -> ids, the most frequent sense first."""
        found = {}
        for part, pos in PARTS.items():
            for line in _lines(self.folder, f"index.{part}"):
                fields = line.split()
                count = int(fields[2])
                found[fields[0].replace("_", " "), pos] = tuple(pos + offset for offset in fields[-count:])
        return found

    def synsets(self, lemma: str, pos: str | None = None) -> list[Synset]:
        """The senses of a word (spaces or underscores, any case), the most frequent first; empty for an unknown word.

        ``pos`` is "n", "v", "a" or "r"; None gives the senses of all, in this order.
        """
        if pos is not None and pos not in PARTS.values():
            raise InputError("pos", repr(pos), f"one of {', '.join(PARTS.values())}")
        word = lemma.lower().replace("_", " ")
        wanted = PARTS.values() if pos is None else (pos,)
        return [self._synsets[i] for p in wanted for i in self._senses.get((word, p), ())]

    def lemmas(self, pos: str) -> list[str]:
        """All words of a part of speech, in lower case, in the order of the index."""
        return [word for word, p in self._senses if p == pos]

    def related(self, synset: Synset | str, relation: str) -> list[Synset]:
        """Targets of a relation, by its name in ``RELATIONS``, in the order of the file."""
        if relation not in RELATIONS.values():
            names = ", ".join(RELATIONS.values())
            raise InputError("relation", repr(relation), f"one of {names}{nearest(relation, RELATIONS.values())}")
        one = self[synset] if isinstance(synset, str) else synset
        return [self._synsets[p.target] for p in one.pointers if p.relation == relation]

    def hypernyms(self, synset: Synset | str, instances: bool = True) -> list[Synset]:
        """What the synset is a kind of and, with ``instances``, an instance of."""
        return self.related(synset, "hypernym") + (self.related(synset, "instance_hypernym") if instances else [])

    def hyponyms(self, synset: Synset | str, instances: bool = True) -> list[Synset]:
        """The kinds of the synset and, with ``instances``, its instances."""
        return self.related(synset, "hyponym") + (self.related(synset, "instance_hyponym") if instances else [])

    def holonyms(self, synset: Synset | str) -> list[Synset]:
        """What the synset is a member, a substance or a part of."""
        return [s for kind in ("member", "substance", "part") for s in self.related(synset, f"{kind}_holonym")]

    def meronyms(self, synset: Synset | str) -> list[Synset]:
        """Members, substances and parts of the synset."""
        return [s for kind in ("member", "substance", "part") for s in self.related(synset, f"{kind}_meronym")]

    def ancestors(self, synset: Synset | str) -> dict[str, int]:
        """Ids that hypernyms lead to, each with the fewest steps; the synset itself has 0. Nearest first."""
        return self._reached(synset, up=True)

    def descendants(self, synset: Synset | str) -> dict[str, int]:
        """Ids that hyponyms lead to, each with the fewest steps; the synset itself has 0. Nearest first."""
        return self._reached(synset, up=False)

    def lexicographer_file(self, name: str) -> list[Synset]:
        """The synsets of a lexicographer file, such as "noun.animal"."""
        if name not in LEXICOGRAPHER_FILES:
            raise InputError("name", repr(name), f"a lexicographer file{nearest(name, LEXICOGRAPHER_FILES)}")
        return [s for s in self if s.lexname == name]

    def _reached(self, synset: Synset | str, *, up: bool) -> dict[str, int]:
        start = self[synset] if isinstance(synset, str) else synset
        steps = {start.id: 0}
        waiting = deque([start])
        while waiting:
            one = waiting.popleft()
            for other in self.hypernyms(one) if up else self.hyponyms(one):
                if other.id not in steps:
                    steps[other.id] = steps[one.id] + 1
                    waiting.append(other)
        return steps


def read_synsets(folder: Path, part: str) -> Iterator[Synset]:
    """The synsets of ``data.noun``, ``data.verb``, ``data.adj`` or ``data.adv``, in the order of the file.

    A line is ``offset file-number type word-count(hex) (word lex-id)* pointer-count (symbol offset pos words(hex))*
    [frames] | gloss``.
    """
    for line in _lines(folder, f"data.{part}"):
        data, _, gloss = line.partition(" | ")
        fields = data.split()
        try:
            words = fields[4 : 4 + 2 * int(fields[3], 16) : 2]
            at = 4 + 2 * int(fields[3], 16)
            pointers = []
            for i in range(at + 1, at + 1 + 4 * int(fields[at]), 4):
                symbol, offset, pos, of = fields[i : i + 4]
                pointers.append(Pointer(RELATIONS[symbol], pos + offset, int(of[:2], 16), int(of[2:], 16)))
            lexname = LEXICOGRAPHER_FILES[int(fields[1])]
            identity = PARTS[part] + fields[0]
        except (IndexError, ValueError, KeyError) as error:
            raise InputError(f"data.{part}", f"the line {line[:60]!r} ({error!r})", "a line of wndb(5WN)") from None
        yield Synset(identity, fields[2], lexname, tuple(map(_word, words)), " ".join(gloss.split()), tuple(pointers))


def _word(word: str) -> str:
    if word.endswith(")"):
        word = re.sub(r"\([a-z]+\)$", "", word)
    return word.replace("_", " ")  # adjectives may carry a marker such as "(p)"


def _lines(folder: Path, name: str) -> Iterator[str]:
    file = folder / name
    if not file.is_file():
        raise InputError("folder", f"{folder}, without {name}", "the folder that `paperworks data get` made")
    with file.open(encoding="latin-1") as lines:
        for line in lines:
            if not line.startswith("  "):  # the licence
                yield line.rstrip("\n")
