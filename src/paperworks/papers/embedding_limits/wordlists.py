"""Items and names for LIMIT-style data: the bundled lists, and how they were made from WordNet."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from paperworks.errors import InputError
from paperworks.inputs.wordnet import WordNet

ITEM_FILES = ("noun.food", "noun.animal", "noun.plant", "noun.artifact")
STEM = 5
"""Two items do not share their first letters."""
TITLES = re.compile(
    r"Saint|President|King|Queen|Prince|Princess|Lord|Lady|Sir|Dame|Pope|Emperor|Empress|"
    r"Czar|Tsar|General|Duke|Count|Baron|Captain|Marshal|Cardinal|Mother|Doctor|Don|Sitting|"
    r"Crazy|Chief|Black|Red|Wild|Big|Old|Little|The|Santa|San|Judas|Mahatma|Sultan"
)


class WordLists(NamedTuple):
    """Items, first names and last names."""

    items: tuple[str, ...]
    first_names: tuple[str, ...]
    last_names: tuple[str, ...]


@cache
def bundled_words() -> WordLists:
    """The bundled lists: single nouns without shared stems, and names of people, of WordNet 3.0."""
    folder = files(__package__) / "data"
    return WordLists(*(tuple((folder / f"{name}.txt").read_text("utf-8").split()) for name in WordLists._fields))


def words_from_wordnet(folder: Path, n_items: int = 1900) -> WordLists:
    """The lists, made anew from a WordNet folder.

    Items are nouns of one word, 4 to 10 letters, whose most frequent sense is a food, an animal, a plant or an
    artifact; first those that the semantic concordance has, then others, shorter ones first. Names are those of people
    who are instances in WordNet, of two words.

    Raises
    ------
    InputError : fewer items than ``n_items``.
    """
    words = WordNet(folder)
    tagged = _tagged(folder)
    found: list[tuple[bool, int, int, str]] = []
    for word in words.lemmas("n"):
        if re.fullmatch(r"[a-z]{4,10}", word):
            home = words.synsets(word, "n")[0].lexname
            if home in ITEM_FILES:
                seen = word in tagged
                found.append((not seen, 0 if seen else ITEM_FILES.index(home), 0 if seen else len(word), word))
    by_stem: dict[str, str] = {}
    for *_, word in sorted(found):
        by_stem.setdefault(word[:STEM], word)
    if len(by_stem) < n_items:
        raise InputError("n_items", n_items, f"at most {len(by_stem)}")
    items = list(by_stem.values())[:n_items]
    firsts, lasts = set(), set()
    for synset in words.lexicographer_file("noun.person"):
        if words.hypernyms(synset, instances=False):
            continue
        for lemma in synset.lemmas:
            pair = re.fullmatch(r"([A-Z][a-z]{2,}) ([A-Z][a-z]{2,})", lemma)
            if pair and not TITLES.fullmatch(pair[1]):
                firsts.add(pair[1])
                lasts.add(pair[2])
    taken = {item[:STEM] for item in items}
    both = firsts & lasts
    first, last = (sorted(w for w in some - both if w[:STEM].lower() not in taken) for some in (firsts, lasts))
    return WordLists(tuple(sorted(items)), tuple(first), tuple(last))


def synonyms_from_wordnet(items: tuple[str, ...], words: WordNet) -> dict[str, str]:
    """Another word for each item: of its most frequent sense as a noun, else a word of what that is a kind of.

    Words that share their first letters with the item come last. Two items may get the same word.

    Raises
    ------
    InputError : an item that WordNet does not have as a noun.
    """
    found = {}
    for item in items:
        senses = words.synsets(item, "n")
        if not senses:
            raise InputError("items", repr(item), "nouns of WordNet")
        others = [lemma for lemma in senses[0].lemmas if lemma.lower() != item.lower()]
        others += [lemma for above in words.hypernyms(senses[0]) for lemma in above.lemmas]
        stem = item[:STEM].lower()
        apart = [word for word in others if stem not in word.lower() and word.lower()[:STEM] not in item.lower()]
        found[item] = (apart or others or [item])[0]
    return found


def _tagged(folder: Path) -> set[str]:
    """Nouns with a sense that was counted in the semantic concordance (field tagsense_cnt of index.noun)."""
    found = set()
    with (folder / "index.noun").open(encoding="latin-1") as lines:
        for line in lines:
            fields = line.split()
            if not line.startswith("  ") and int(fields[5 + int(fields[3])]) > 0:
                found.add(fields[0])
    return found
