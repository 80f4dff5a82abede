"""Vocabulary, correction, choice of sentences, language models, topics."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from paperworks.errors import InputError
from paperworks.papers.quilt1m.correction import VocabularyCorrector, suspicious_phrases
from paperworks.papers.quilt1m.language import ModelCorrector, ModelSplit, support, timestamped_segments
from paperworks.papers.quilt1m.topics import Topic, read_topics, top_topics
from paperworks.papers.quilt1m.vocabulary import Concept, Vocabulary, split_text

TERMS = Vocabulary(
    Concept(term, f"C{i}")
    for i, term in enumerate(
        (
            "skin punch biopsy",
            "biopsy",
            "carcinoma",
            "basal cell carcinoma",
            "gland",
            "lymphocyte",
            "dysplasia",
            "ovary",
        )
    )
)
GENERAL = set(
    "a the is of this here and patient had bunch with large cells see you can we look at no to".split()  # noqa: SIM905
)


def test_entities_longest_match_and_plurals() -> None:
    found = TERMS.entities("Basal cell carcinomas, two glands and an ovary; a biopsy of skin.")
    assert [(e.entity, e.concept_id) for e in found] == [
        ("Basal cell carcinomas", "C3"),
        ("glands", "C4"),
        ("ovary", "C7"),
        ("biopsy", "C1"),
    ]
    assert [e.confidence for e in found] == [round(2.75 / 3, 4), 0.75, 1.0, 1.0]
    assert TERMS.entities("ovaries")[0].concept_id == "C7"
    assert TERMS.entities("") == []


def test_vocabulary_files(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("Term;ID\nn\u00e4vus;1\n;\nduct;\n".encode("cp1252"))
    assert Vocabulary.read(tmp_path / "a.csv").concepts == (Concept("n\u00e4vus", "1"), Concept("duct", "duct"))
    (tmp_path / "b.txt").write_text("# comment\nduct\n\nacinus\n")
    assert [c.term for c in Vocabulary.read(tmp_path / "b.txt").concepts] == ["duct", "acinus"]
    (tmp_path / "c.csv").write_text('term,id\n"a, b",2\n')
    assert Vocabulary.read(tmp_path / "c.csv").concepts[0].term == "a, b"
    for name, text in {
        "d.csv": "x,y\n1,2\n",
        "e.csv": "",
        "f.csv": "term\n",
        "g.txt": "\n",
        "h.csv": "term,id\n--,1\n",
    }.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(InputError):
            Vocabulary.read(tmp_path / name)
    for name in ("none.csv", "none.txt"):
        with pytest.raises(InputError):
            Vocabulary.read(tmp_path / name)


def test_correction() -> None:
    correct = VocabularyCorrector(TERMS, GENERAL)
    assert correct("The patient had a skin bunch biopsy.").text == "The patient had a skin punch biopsy."
    assert correct("Basel cell carcinoma").text == "Basal cell carcinoma"
    assert correct("large lymphocites, and displasia").text == "large lymphocyte, and dysplasia"
    assert correct("a bunch of cells").changes == ()
    assert correct("two biopsies of glands 12 GFAP").changes == ()
    assert correct("CARCINOMMA here").changes == (("CARCINOMMA", "CARCINOMA"),)
    text = "  The gland ,  is\there  "
    assert correct(text).text == text


def test_suspicious_phrases() -> None:
    correct = VocabularyCorrector(TERMS, GENERAL)
    assert suspicious_phrases("The large lymphocites are here, and the gland.", correct) == ["large lymphocites"]
    assert suspicious_phrases("the large cells", correct) == []


def test_sentences_with_terms_and_pointing() -> None:
    sentences = ["This gland is normal.", "A carcinoma is malignant.", "Look at this one.", "This gland is normal."]
    split = split_text(sentences, TERMS)
    assert split.medical == ["This gland is normal.", "A carcinoma is malignant."]
    assert split.roi == ["This gland is normal."]
    assert [e.concept_id for some in split.entities for e in some] == ["C4", "C2"]
    assert split_text(["anything", "see here"], None).medical == ["anything", "see here"]


def answers(*texts: str) -> Callable[[str], str]:
    left = list(texts)
    return lambda prompt: left.pop(0)


def test_a_models_answers_are_checked() -> None:
    sentences = ["This gland is normal here.", "We had coffee."]
    good = json.dumps({"medical": ["This gland is normal here.", "The tumour killed him."], "roi": []})
    split = ModelSplit(answers(f"Sure! {good} Bye"))
    found = split(sentences, TERMS)
    assert (found.medical, split.refused, split.failures) == (["This gland is normal here."], 1, 0)
    split = ModelSplit(answers("no json", "[1, 2]"))
    assert split(sentences, TERMS).medical == ["This gland is normal here."]
    assert split.failures == 1
    retried = ModelSplit(answers("{broken", good))
    assert retried(sentences, TERMS).medical == ["This gland is normal here."]
    assert support("the gland is normal", "this gland is normal here") == 0.75


def test_a_models_corrections_touch_only_what_is_suspicious() -> None:
    corrector = VocabularyCorrector(TERMS, GENERAL)
    answer = json.dumps({"lymphocites": "lymphocytes", "patient": "dog", "absent": "x"})
    model = ModelCorrector(answers(answer), corrector)
    found = model("The patient had lymphocites")
    assert found.text == "The patient had lymphocytes"
    assert found.changes == (("lymphocites", "lymphocytes"),)
    assert ModelCorrector(answers(), corrector)("the patient").changes == ()
    failing = ModelCorrector(answers("x", "y"), corrector)
    assert failing("lymphocites").text == "lymphocites"
    assert failing.failures == 1


def test_whispers_marks() -> None:
    decoded = "<|startoftranscript|><|en|><|0.00|> Hello there<|1.50|><|1.50|> and on<|3.00|><|endoftext|>"
    assert timestamped_segments(decoded, 30.0, 60.0) == [
        {"start": 30.0, "end": 31.5, "text": "Hello there"},
        {"start": 31.5, "end": 33.0, "text": "and on"},
    ]
    assert timestamped_segments("<|0.00|> cut off", 0.0, 9.0) == [{"start": 0.0, "end": 9.0, "text": "cut off"}]


def test_topics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "t.csv").write_text("label,description\nflowers,petals and blooms\nmusic,\n")
    topics = read_topics(tmp_path / "t.csv")
    assert topics == [Topic("flowers", "petals and blooms"), Topic("music", "music")]
    monkeypatch.setattr("paperworks.embedding.sentence_encoder", lambda: None)
    assert top_topics("the petals of this one", topics) == ["flowers", "music"]
    words = {"flowers": [1.0, 0], "music": [0, 1.0]}

    def encode(texts: list[str]) -> np.ndarray:
        return np.array([next((v for w, v in words.items() if w in t), [0.2, 0.8]) for t in texts])

    monkeypatch.setattr("paperworks.embedding.sentence_encoder", lambda: encode)
    assert top_topics("a song", topics) == ["music", "flowers"]
    assert top_topics("", topics) == []
