"""Vocabularies, synonyms, and the names that training draws."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from paperworks.errors import InputError
from paperworks.inputs.wordnet import WordNet
from paperworks.papers.gkc.synonyms import (
    SynonymSampler,
    SynonymTable,
    build_synonyms,
    score_synonyms,
    slots_of,
)
from paperworks.papers.gkc.vocabulary import Vocabulary, clean_name, encode_names, parse_vocabulary

from .small import encode_text


def test_names_are_cleaned_as_cocos() -> None:
    assert clean_name("wall-other-merged") == "wall"
    assert clean_name("floor-wood") == "floor wood"
    assert clean_name(" other_thing ") == "other thing"
    assert clean_name("mother") == "mother"


def test_vocabularies_from_text_lists_and_dictionaries() -> None:
    wanted = Vocabulary({"sofa": ("sofa", "couch"), "cat": ("cat",)})
    assert parse_vocabulary("sofa|couch, cat") == wanted
    assert parse_vocabulary([["sofa", "couch"], "cat"]) == wanted  # type: ignore[list-item]
    assert parse_vocabulary({"sofa": ["sofa", "couch", "sofa"], "cat": "cat"}) == wanted
    assert wanted.class_of.tolist() == [0, 0, 1]
    assert wanted.names == ["sofa", "couch", "cat"]


@pytest.mark.parametrize(
    "source", ["", [], {}, " , ", ["cat", "cat"], ["a-b", "a b"], ["cat", ""], {"cat": [1]}, {"a": ["x"], "b": ["X"]}]
)
def test_bad_vocabularies(source: object) -> None:
    with pytest.raises(InputError, match="vocabulary"):
        parse_vocabulary(source)  # type: ignore[arg-type]


@settings(max_examples=50)
@given(st.lists(st.text(max_size=6), max_size=5) | st.text(max_size=30))
def test_any_text_is_a_vocabulary_or_refused(source: object) -> None:
    try:
        found = parse_vocabulary(source)  # type: ignore[arg-type]
    except InputError:
        return
    assert len(found) >= 1
    assert len(set(found.names)) == len(found.names)
    assert parse_vocabulary(found.classes) == found


def test_templates_are_averaged() -> None:
    both = encode_names(["cat"], encode_text, ("{}", "a {}"))[0]
    parts = [np.asarray(encode_text([text]))[0] for text in ("cat", "a cat")]
    mean = np.mean(parts, axis=0)
    assert np.allclose(both, mean / np.linalg.norm(mean), atol=1e-6)
    for templates in ((), ("cat",), ("{} {}",)):
        with pytest.raises(InputError, match="templates"):
            encode_names(["cat"], encode_text, templates)
    with pytest.raises(InputError, match="encode_text"):
        encode_names(["cat"], lambda texts: np.zeros((len(texts), 3)))
    with pytest.raises(InputError, match="encode_text"):
        encode_names(["cat"], lambda texts: np.ones(3))


DICTIONARY = {"bicycle": ["bike", "wheel"], "motorcycle": ["bike"], "car": ["auto", "bicycle"], "red": ["crimson"]}


def test_shared_names_names_of_classes_and_held_out_names_are_dropped() -> None:
    table = build_synonyms(["bicycle", "motorcycle", "car"], DICTIONARY, held_out=["auto"])
    assert dict(table.names) == {"bicycle": ("bicycle", "wheel"), "motorcycle": ("motorcycle",), "car": ("car",)}
    assert {(d.class_name, d.name) for d in table.dropped} == {
        ("bicycle", "bike"),
        ("motorcycle", "bike"),
        ("car", "auto"),
        ("car", "bicycle"),
    }


def test_words_of_a_compound_are_replaced() -> None:
    assert build_synonyms(["red car"], DICTIONARY).names["red car"] == (
        "red car",
        "red auto",
        "red bicycle",
        "crimson car",
        "crimson auto",
        "crimson bicycle",
    )


def wordnet(folder: Path) -> WordNet:
    """Two senses of a sofa and one of a mouse, in WordNet's form."""
    empty = ("data.verb", "data.adj", "data.adv", "index.verb", "index.adj", "index.adv")
    for name in empty:
        (folder / name).write_text("")
    lines = [
        "00000001 06 n 03 sofa 0 couch 0 lounge 0 000 | a seat",
        "00000002 06 n 02 sofa 0 divan 0 000 | another",
        "00000003 05 n 01 mouse 0 000 | a rodent",
    ]
    (folder / "data.noun").write_text("\n".join(lines) + "\n")
    index = ["sofa n 2 0 2 0 00000001 00000002", "mouse n 1 0 1 0 00000003"]
    (folder / "index.noun").write_text("\n".join(index) + "\n")
    return WordNet(folder)


def test_senses_of_wordnet(tmp_path: Path) -> None:
    source = wordnet(tmp_path)
    assert build_synonyms(["sofa", "mouse"], source).names["sofa"] == ("sofa", "couch", "lounge")
    assert build_synonyms(["sofa"], tmp_path, sense={"sofa": 1}).names["sofa"] == ("sofa", "divan")
    assert build_synonyms(["sofa"], source, sense={"sofa": "n00000002"}).names["sofa"] == ("sofa", "divan")
    for sense in ({"sofa": 2}, "second"):
        with pytest.raises(InputError, match="sense"):
            build_synonyms(["sofa"], source, sense=sense)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="class_names"):
        build_synonyms(["a-b", "a b"], source)


def test_the_reviewed_file_is_read_back(tmp_path: Path) -> None:
    table = build_synonyms(["bicycle", "car"], DICTIONARY)
    table.save(tmp_path / "synonyms.json")
    assert SynonymTable.load(tmp_path / "synonyms.json").names == table.names
    (tmp_path / "plain.json").write_text(json.dumps({"car": ["auto"]}))
    assert SynonymTable.load(tmp_path / "plain.json").of(["car", "cat"]).names == {
        "car": ("car", "auto"),
        "cat": ("cat",),
    }
    for number, content in enumerate(("[]", "{", '{"car": "auto"}', '{"a": ["x"], "b": ["x"]}', '{"a": [""]}')):
        file = tmp_path / f"bad{number}.json"
        file.write_text(content)
        with pytest.raises(InputError, match="synonyms"):
            SynonymTable.load(file)
    with pytest.raises(InputError, match="exists"):
        table.save(tmp_path / "synonyms.json")


TABLE = SynonymTable({"a": ("a", "b", "c"), "z": ("z",)})


def test_the_threshold_sampler_stays_above_its_threshold() -> None:
    scores = [np.array([0.05, 0.55, 0.4]), np.array([0.1, 0.1, 0.1]), np.array([0.9, 0.05, 0.05])]
    sampler = SynonymSampler(TABLE, scores, "threshold", 0.1)
    rng = np.random.default_rng(0)
    drawn = [{sampler.sample(n, 0, rng) for _ in range(200)} for n in range(3)]
    assert drawn == [{1, 2}, {0, 1, 2}, {0}]
    assert sampler.sample(0, 1, rng) == 0


def test_the_prob_sampler_has_the_scores_frequencies() -> None:
    scores = np.array([0.1, 0.6, 0.3])
    sampler = SynonymSampler(TABLE, [scores], "prob")
    rng = np.random.default_rng(1)
    counts = np.bincount([sampler.sample(0, 0, rng) for _ in range(3000)], minlength=3)
    assert chisquare(counts, 3000 * scores).pvalue > 1e-3
    even = SynonymSampler(TABLE, None, "uniform")
    counts = np.bincount([even.sample(0, 0, rng) for _ in range(3000)], minlength=3)
    assert chisquare(counts).pvalue > 1e-3


def test_bad_samplers() -> None:
    with pytest.raises(InputError, match="mode"):
        SynonymSampler(TABLE, None, "best")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="threshold"):
        SynonymSampler(TABLE, None, "threshold", 1.0)
    with pytest.raises(InputError, match="scores"):
        SynonymSampler(TABLE, [np.ones(2)], "prob").sample(0, 0, np.random.default_rng(0))


def test_scores_are_the_softmax_of_cosines() -> None:
    regions = np.random.default_rng(0).normal(size=(2, 8))
    found = score_synonyms(regions, np.array([0, 1]), TABLE, encode_text)
    texts = encode_names(["a", "b", "c"], encode_text, ("a photo of {}",))
    logits = 100 * texts @ (regions[0] / np.linalg.norm(regions[0]))
    assert np.allclose(found[0], np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum(), atol=1e-4)
    assert found[1].tolist() == [1.0]
    with pytest.raises(InputError, match="joint"):
        score_synonyms(np.ones((1, 5)), np.array([0]), TABLE, encode_text)


def test_slots_of_an_image() -> None:
    first = np.array([0, 3, 5])  # class 0 has the names 0 to 2, class 1 has 3 and 4
    slots, targets = slots_of([0, 0, 0, 1, 0], [2, 1, 2, 0, 1], first)
    assert slots == [2, 3, 5, 1]  # slot 0 has the first instance's name, the second name of class 0 is appended
    assert targets == [0, 3, 0, 1, 3]
    assert slots_of([], [], first) == ([0, 3, 5], [])


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), max_size=8))
def test_every_instance_points_to_its_own_name(instances: list[tuple[int, int]]) -> None:
    first = np.array([0, 3, 6, 9])
    slots, targets = slots_of([c for c, _ in instances], [w for _, w in instances], first)
    assert [slots[t] for t in targets] == [3 * c + w for c, w in instances]
    assert len(slots) == 4 + len(set(instances)) - len({c for c, _ in instances})
