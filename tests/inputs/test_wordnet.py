"""WordNet's files: a small database by hand, and the real one where it has been fetched."""

from __future__ import annotations

from pathlib import Path

import pytest

from paperworks import inputs
from paperworks.errors import InputError
from paperworks.inputs.wordnet import PARTS, WordNet

NOUNS = """\
  1 This software and database is being provided
00000010 03 n 01 entity 0 002 ~ 00000020 n 0000 ~ 00000030 n 0000 | that which exists
00000020 05 n 02 Dog 0 domestic_dog 0 003 @ 00000010 n 0000 #m 00000030 n 0000 ! 00000030 n 0201 | a pet; "the dog \
barked";  "good dog"
00000030 14 n 01 pack 2 003 @ 00000010 n 0000 %m 00000020 n 0000 ! 00000020 n 0102 | a group
00000040 18 n 01 Rex 0 001 @i 00000020 n 0000 | a certain dog
"""
VERBS = "00000050 38 v 01 dog 0 000 02 + 08 00 + 09 00 | go after\n"
ADJECTIVES = "00000060 00 s 01 galore(ip) 0 001 & 00000060 a 0000 | plenty\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for part, lines in {"noun": NOUNS, "verb": VERBS, "adj": ADJECTIVES, "adv": ""}.items():
        (tmp_path / f"data.{part}").write_text(lines)
        (tmp_path / f"index.{part}").write_text("  1 This software\n")
    with (tmp_path / "index.noun").open("a") as out:
        out.write("dog n 2 1 @ 2 1 00000030 00000020  \ndomestic_dog n 1 2 @ #m 1 0 00000020  \n")
    with (tmp_path / "index.verb").open("a") as out:
        out.write("dog v 1 0 1 0 00000050  \n")
    return tmp_path


def test_a_small_database(folder: Path) -> None:
    wordnet = WordNet(folder)
    dog = wordnet["n00000020"]
    assert len(wordnet) == 6
    assert (dog.lemmas, dog.pos, dog.lexname) == (("Dog", "domestic dog"), "n", "noun.animal")
    assert (dog.definition, dog.examples) == ("a pet", ("the dog barked", "good dog"))
    assert [s.id for s in wordnet.synsets("DOG")] == [
        "n00000030",
        "n00000020",
        "v00000050",
    ]  # in the order of the index
    assert wordnet.synsets("domestic_dog", "n") == [dog]
    assert wordnet.synsets("cat") == []
    assert [s.id for s in wordnet.holonyms(dog)] == ["n00000030"]
    assert wordnet.meronyms("n00000030") == [dog]
    antonym = next(p for p in dog.pointers if p.relation == "antonym")
    assert (antonym.source_word, antonym.target_word) == (2, 1)
    assert wordnet.ancestors("n00000040") == {"n00000040": 0, "n00000020": 1, "n00000010": 2}
    assert wordnet.hypernyms("n00000040", instances=False) == []
    assert wordnet["a00000060"].lemmas == ("galore",)
    assert wordnet.related("a00000060", "similar_to")[0].pos == "s"


def test_bad_input(folder: Path) -> None:
    wordnet = WordNet(folder)
    for call, field in (
        (lambda: wordnet["dog"], "synset"),
        (lambda: wordnet.synsets("dog", "noun"), "pos"),
        (lambda: wordnet.related("n00000020", "hypernyms"), "relation"),
        (lambda: wordnet.lexicographer_file("noun.animals"), "name"),
        (lambda: WordNet(folder / "x"), "folder"),
    ):
        with pytest.raises(InputError) as error:
            call()
        assert error.value.field == field
    (folder / "data.verb").write_text("00000050 38 v 02 dog 0\n")
    with pytest.raises(InputError, match=r"data\.verb"):
        WordNet(folder)


@pytest.fixture(scope="module")
def real() -> WordNet:
    try:
        return WordNet(inputs.path("wordnet"))
    except InputError as error:
        pytest.skip(str(error))


def test_the_published_counts(real: WordNet) -> None:
    """wnstats(7WN) of WordNet 3.0: unique strings, synsets and word-sense pairs."""
    synsets = {pos: sum(s.id[0] == pos for s in real) for pos in PARTS.values()}
    assert synsets == {"n": 82115, "v": 13767, "a": 18156, "r": 3621}
    assert {pos: len(real.lemmas(pos)) for pos in PARTS.values()} == {"n": 117798, "v": 11529, "a": 21479, "r": 4481}
    assert sum(len(real.synsets(word, pos)) for pos in PARTS.values() for word in real.lemmas(pos)) == 206941


def test_relations_of_the_real_one(real: WordNet) -> None:
    dog = real.synsets("dog", "n")[0]
    assert dog.id == "n02084071"
    assert [s.lemmas[0] for s in real.hypernyms(dog)] == ["canine", "domestic animal"]
    assert [s.lemmas[0] for s in real.holonyms(dog)] == ["Canis", "pack"]
    assert list(real.ancestors(dog))[-1] == "n00001740"
    inverse = {"hypernym": "hyponym", "member_holonym": "member_meronym", "part_holonym": "part_meronym"}
    pairs = {(s.id, p.relation, p.target) for s in real for p in s.pointers}
    for one, other in inverse.items():
        forward = {(a, b) for a, r, b in pairs if r == one}
        assert forward == {(b, a) for a, r, b in pairs if r == other}
