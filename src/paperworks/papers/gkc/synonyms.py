"""Text diversification: synonyms of class names from WordNet, reviewed as JSON, scored on regions, drawn in training.

synonyms = build_synonyms(["sofa", "bicycle"], WordNet(inputs.path("wordnet")))
synonyms.save("synonyms.json")                       # read it, edit it
sampler = SynonymSampler(SynonymTable.load("synonyms.json"), scores, mode="threshold")
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from paperworks.errors import InputError
from paperworks.inputs.wordnet import WordNet
from paperworks.papers.gkc.vocabulary import EncodeText, clean_name, encode_names
from paperworks.runs.files import new_file

THRESHOLD = 0.1
"""A synonym may stand for an instance if its score S is above this."""
SCALE = 100.0
"""Factor of the cosines in S."""
PROMPT = "a photo of {}"
"""Prompt of the names when they are scored on regions."""
MOST_COMPOSED = 12
"""Most names of a class of several words, whose words are replaced one by one."""

Mode = Literal["threshold", "prob", "uniform"]


@dataclass(frozen=True)
class Dropped:
    """A synonym that was left out, and why."""

    class_name: str
    name: str
    reason: str


@dataclass(frozen=True)
class SynonymTable:
    """Names of each class, its own name first. ``save`` writes the JSON that a user reviews.

    Attributes
    ----------
    names : class -> names.
    dropped : what was left out, and why.
    """

    names: Mapping[str, tuple[str, ...]]
    dropped: tuple[Dropped, ...] = field(default=())

    def __post_init__(self) -> None:
        owner: dict[str, str] = {}
        for cls, names in self.names.items():
            if not names or names[0] != cls:
                raise InputError("synonyms", f"{cls!r} with names {list(names)}", "the class's own name first")
            for name in names:
                if not isinstance(name, str) or not name.strip():
                    raise InputError("synonyms", f"the name {name!r} of {cls!r}", "text")
                if owner.setdefault(name.lower(), cls) != cls:
                    raise InputError("synonyms", f"{name!r} in {owner[name.lower()]!r} and {cls!r}", "one class a name")
            if len({name.lower() for name in names}) < len(names):
                raise InputError("synonyms", f"a name of {cls!r} twice", "every name once")

    def save(self, path: str | Path) -> None:
        """Write JSON: ``{"names": {class: [names]}, "dropped": [{"class_name", "name", "reason"}]}``.

        Raises InputError if the file exists.
        """
        content = {
            "names": {cls: list(names) for cls, names in self.names.items()},
            "dropped": [vars(one) for one in self.dropped],
        }
        with new_file(Path(path)) as aside:
            aside.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> SynonymTable:
        """Read what ``save`` wrote, or a plain ``{class: [synonyms]}``; the class's own name is put first."""
        try:
            content = json.loads(Path(path).expanduser().read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise InputError("synonyms", f"{path} ({error})", "a JSON file of class -> names") from None
        names = content.get("names", content) if isinstance(content, dict) else None
        if not isinstance(names, dict) or not all(isinstance(v, list) for v in names.values()):
            raise InputError("synonyms", f"{path} of another form", '{"class": ["name", ...]}, or {"names": {...}}')
        return cls({c: tuple(dict.fromkeys([c, *given])) for c, given in names.items()})

    def of(self, class_names: Sequence[str]) -> SynonymTable:
        """The table for these classes; a class that it lacks has its own name only."""
        return SynonymTable({cls: self.names.get(cls, (cls,)) for cls in class_names}, self.dropped)


def build_synonyms(
    class_names: Sequence[str],
    source: WordNet | str | Path | Mapping[str, Sequence[str]],
    *,
    sense: str | Mapping[str, int | str] = "first",
    held_out: Sequence[str] = (),
) -> SynonymTable:
    """Synonyms of class names, curated.

    A name that WordNet knows as a noun (or a dictionary has) gets the other lemmas of one sense. Of a name of several
    words that it does not know, words are replaced: each word by those of its first sense as a noun or adjective, the
    first 12 combinations. Dropped, and listed with the reason, are names that two classes share, names that another
    class has, and names in ``held_out``: a test name that training saw would be leakage.

    Parameters
    ----------
    class_names : the classes.
    source : a ``WordNet``, its folder, or a dictionary of name or word -> synonyms.
    sense : "first" takes the most frequent sense; a dictionary gives, for some names, the number of the sense from 0 or
        its id (``"n02084071"``).
    held_out : names that must not occur.

    Raises
    ------
    InputError : a sense that there is not, or classes that are equal after cleaning.
    """
    classes = [clean_name(name) for name in class_names]
    if len(set(classes)) < len(classes) or not classes:
        raise InputError(
            "class_names", f"{len(classes) - len(set(classes))} duplicates", "different names, one or more"
        )
    wordnet = WordNet(Path(source)) if isinstance(source, (str, Path)) else source
    senses = {} if isinstance(sense, str) else sense
    if isinstance(sense, str) and sense != "first":
        raise InputError("sense", repr(sense), "'first', or a dictionary of name -> number or id of a sense")
    found = {cls: _candidates(cls, wordnet, senses.get(cls)) for cls in classes}
    return _curated(found, {name.lower() for name in held_out})


def _candidates(name: str, source: WordNet | Mapping[str, Sequence[str]], sense: int | str | None) -> list[str]:
    whole = _lemmas(name, source, sense, "n")
    words = name.split()
    if whole or len(words) == 1:
        return whole
    choices = [
        [word, *_lemmas(word, source, None, "n" if n == len(words) - 1 else "a")] for n, word in enumerate(words)
    ]
    combined = itertools.islice(itertools.product(*choices), 1, MOST_COMPOSED + 1)
    return [" ".join(parts) for parts in combined]


def _lemmas(name: str, source: WordNet | Mapping[str, Sequence[str]], sense: int | str | None, pos: str) -> list[str]:
    if not isinstance(source, WordNet):
        return [clean_name(word) for word in source.get(name, ())]
    if isinstance(sense, str):
        return [lemma for lemma in source[sense].lemmas if lemma.lower() != name.lower()]
    known = source.synsets(name, pos)
    number = sense or 0
    if sense is not None and not 0 <= number < len(known):
        raise InputError("sense", f"{number} for {name!r}", f"0 to {len(known) - 1}")
    return [lemma for lemma in known[number].lemmas if lemma.lower() != name.lower()] if known else []


def _curated(found: Mapping[str, list[str]], held_out: set[str]) -> SynonymTable:
    owners: dict[str, set[str]] = {}
    for cls, names in found.items():
        for name in names:
            owners.setdefault(name.lower(), set()).add(cls)
    own = {cls.lower() for cls in found}
    kept: dict[str, tuple[str, ...]] = {}
    dropped: list[Dropped] = []
    for cls, names in found.items():
        chosen = {cls.lower(): cls}
        for name in names:
            low = name.lower()
            if low in held_out:
                dropped.append(Dropped(cls, name, "held out for the test"))
            elif low in own and low != cls.lower():
                dropped.append(Dropped(cls, name, "the name of another class"))
            elif len(owners[low]) > 1:
                others = ", ".join(sorted(owners[low] - {cls}))
                dropped.append(Dropped(cls, name, f"also a synonym of {others}"))
            else:
                chosen.setdefault(low, name)
        kept[cls] = tuple(chosen.values())
    return SynonymTable(kept, tuple(dropped))


def score_synonyms(
    regions: np.ndarray,
    classes: np.ndarray,
    synonyms: SynonymTable,
    encode_text: EncodeText,
    prompt: str = PROMPT,
    scale: float = SCALE,
) -> list[np.ndarray]:
    """S of every instance, float64 ``[names of its class]``: softmax over these names of scale * cos(region, text).

    Parameters
    ----------
    regions : vectors of the instances' crops, ``[n, E]``, of the space of ``encode_text``.
    classes : class of each, int ``[n]``, in the order of the table.
    prompt : text with ``{}`` for the name.
    scale : factor of the cosines: that with which the towers were trained, or S says nothing (CLIP's is 100).
    """
    unit = np.asarray(regions, np.float64)
    unit = unit / np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-12)
    vectors = [
        encode_names(list(names), encode_text, (prompt,)).astype(np.float64) for names in synonyms.names.values()
    ]
    if len(unit) and vectors and unit.shape[1] != vectors[0].shape[1]:
        found = f"regions of {unit.shape[1]} columns and texts of {vectors[0].shape[1]}"
        raise InputError("encode_text", found, "one joint space of images and texts")
    scores = []
    for region, cls in zip(unit, classes, strict=True):
        logits = scale * (vectors[int(cls)] @ region)
        share = np.exp(logits - logits.max())
        scores.append(share / share.sum())
    return scores


class SynonymSampler:
    """Draws the name of an instance.

    Parameters
    ----------
    synonyms : names of each class.
    scores : S of every instance (see ``score_synonyms``); None gives all names of a class the same score.
    mode : "threshold" draws uniformly among names with S > ``threshold`` (all names if there are none), "prob" draws
        with probability S, "uniform" disregards S.
    threshold : see ``mode``.
    """

    def __init__(
        self,
        synonyms: SynonymTable,
        scores: Sequence[np.ndarray] | None = None,
        mode: Mode = "threshold",
        threshold: float = THRESHOLD,
    ) -> None:
        if mode not in ("threshold", "prob", "uniform"):
            raise InputError("mode", repr(mode), "threshold, prob or uniform")
        if not 0 <= threshold < 1:
            raise InputError("threshold", threshold, "a share from 0 to below 1")
        self.synonyms, self.scores, self.mode, self.threshold = synonyms, scores, mode, threshold
        self.counts = [len(names) for names in synonyms.names.values()]

    def sample(self, instance: int, cls: int, rng: np.random.Generator) -> int:
        """The number of a name of class ``cls`` for an instance; 0 is the class's own name."""
        count = self.counts[cls]
        if count == 1:
            return 0
        scores = np.full(count, 1 / count) if self.scores is None else np.asarray(self.scores[instance])
        if len(scores) != count:
            raise InputError("scores", f"{len(scores)} for instance {instance}", f"{count}, one for each name")
        if self.mode == "prob":
            return int(rng.choice(count, p=scores / scores.sum()))
        allowed = np.flatnonzero(scores > self.threshold) if self.mode == "threshold" else np.arange(count)
        return int(rng.choice(allowed if len(allowed) else np.arange(count)))


def slots_of(classes: Sequence[int], drawn: Sequence[int], first_name: np.ndarray) -> tuple[list[int], list[int]]:
    """The vocabulary of an image: the slots' names, and the slot of each instance.

    It starts with the plain names of all classes. The first instance of class c with name w puts w into slot c; an
    instance of c with another name gets a slot of its own at the end; equal (c, w) share a slot.

    Parameters
    ----------
    classes, drawn : class and number of the name of each instance.
    first_name : number of each class's own name in the list of all names, int ``[C]``.
    """
    slots = [int(first) for first in first_name]
    place: dict[tuple[int, int], int] = {}
    taken: set[int] = set()
    targets = []
    for cls, name in zip(classes, drawn, strict=True):
        if (cls, name) not in place:
            if cls in taken:
                slots.append(int(first_name[cls]) + name)
                place[cls, name] = len(slots) - 1
            else:
                slots[cls] = int(first_name[cls]) + name
                place[cls, name] = cls
                taken.add(cls)
        targets.append(place[cls, name])
    return slots, targets


def describe(table: SynonymTable) -> list[list[Any]]:
    """Rows of a report: class, its synonyms, what was dropped."""
    rows: list[list[Any]] = []
    for cls, names in table.names.items():
        gone = "; ".join(f"{one.name} ({one.reason})" for one in table.dropped if one.class_name == cls)
        rows.append([cls, ", ".join(names[1:]), gone])
    return rows
