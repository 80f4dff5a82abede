"""The recipe on tables and on a user's probabilities, WordNet spaces, and bad options."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest

from paperworks.errors import InputError
from paperworks.papers.loki import from_text_encoder, from_wordnet, load_space, loki_predict
from paperworks.papers.loki.recipe import Config, run
from paperworks.runs import Report, Run, build_config


def execute(tmp_path: Path, **options: Any) -> tuple[Report, Path]:
    made = Run(tmp_path / "run")
    return run(build_config(Config, options), made), made.files  # type: ignore[arg-type]


@pytest.fixture
def taxonomy(tmp_path: Path) -> Path:
    path = tmp_path / "taxonomy.csv"
    path.write_text("parent,child\nanimal,cat\nanimal,dog\ndog,poodle\ndog,beagle\nanimal,bird\nbird,crow\n")
    return path


def test_probabilities_of_the_user(tmp_path: Path, taxonomy: Path) -> None:
    rng = np.random.default_rng(0)
    names = ["poodle", "cat", "crow"]
    p = rng.dirichlet(np.ones(3), size=40)
    frame = pd.DataFrame(p, columns=names)
    frame["label"] = rng.choice(["beagle", "cat", "bird"], 40)
    frame.to_csv(tmp_path / "p.csv", index=False)
    report, files = execute(tmp_path, probabilities=str(tmp_path / "p.csv"), space=str(taxonomy))
    space = load_space(taxonomy)
    expected = [space.labels[i] for i in loki_predict(p, space, space.index(names))]
    written = pd.read_csv(files / "predictions.csv")
    assert written["loki"].tolist() == expected
    d = space.paired(space.index(expected), space.index(frame["label"].tolist()))
    assert report.metrics["squared distance, Loki"] == pytest.approx((d**2).mean())
    matrix = pd.read_csv(files / "squared_distances.csv", index_col="observed")
    assert matrix.columns[(p @ matrix.loc[names].to_numpy()).argmin(axis=1)].tolist() == expected
    states = pd.read_csv(files / "labels.csv").set_index("label")["state"]
    assert states["animal"] == "reachable"
    assert states["beagle"] == "not reachable"
    assert report.tables[1].rows[0][0] == "beagle"  # the only label that no path reaches
    assert load_space(files / "space.npz").labels == space.labels


def test_a_table_with_ordered_labels(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=300)
    frame = pd.DataFrame({"x": x, "colour": rng.choice(["red", "blue"], 300), "grade": (x * 40 + 300).round(1)})
    frame.to_csv(tmp_path / "t.csv", index=False)
    report, _ = execute(
        tmp_path, data=str(tmp_path / "t.csv"), label="grade", bins=9, observed=("0", "4", "8"), folds=3, repeats=1
    )
    assert report.metrics["labels"] == 9
    assert report.metrics["observed"] == 3
    assert report.metrics["squared distance, Loki"] < report.metrics["squared distance, argmax"]
    assert "quantiles" in " ".join(report.lead)


def test_headline_says_when_nothing_is_gained(tmp_path: Path) -> None:
    frame = pd.DataFrame({"1": [1.0, 0.0], "2": [0.0, 0.0], "5": [0.0, 1.0], "label": [1, 5]})
    frame.to_csv(tmp_path / "p.csv", index=False)
    report, _ = execute(tmp_path, probabilities=str(tmp_path / "p.csv"))
    assert "no better than argmax" in report.headline


def test_logits_are_told_and_negative_ones_refused(tmp_path: Path, taxonomy: Path) -> None:
    pd.DataFrame({"cat": [9.0, 1.0], "dog": [3.0, 4.0]}).to_csv(tmp_path / "p.csv", index=False)
    report, _ = execute(tmp_path, probabilities=str(tmp_path / "p.csv"), space=str(taxonomy))
    assert "softmax" in " ".join(report.lead)
    pd.DataFrame({"cat": [9.0, -1.0], "dog": [3.0, 4.0]}).to_csv(tmp_path / "q.csv", index=False)
    with pytest.raises(InputError, match="softmax"):
        execute(tmp_path, probabilities=str(tmp_path / "q.csv"), space=str(taxonomy))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"temperature": "-1"}, "temperature"),
        ({"temperature": "warm"}, "temperature"),
        ({"bins": 1}, "bins"),
        ({"data": "none.csv", "label": "y"}, "none.csv"),
        ({"observed": ("0", "99")}, "99"),
        ({"observed": ("0",)}, "two labels"),
        ({"space": "ordinl"}, "did you mean 'ordinal'"),
        ({"probabilities": "none.csv"}, "not there"),
        ({"probabilities": "p.csv", "bins": 7}, "beside probabilities"),
    ],
)
def test_bad_options(options: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words):
        execute(tmp_path, **options)


def test_unknown_labels_are_named(tmp_path: Path, taxonomy: Path) -> None:
    pd.DataFrame({"cat": [1.0], "unicorn": [0.0]}).to_csv(tmp_path / "p.csv", index=False)
    with pytest.raises(InputError, match="unicorn"):
        execute(tmp_path, probabilities=str(tmp_path / "p.csv"), space=str(taxonomy))
    np.savez(tmp_path / "p.npz", values=np.ones((1, 2)))
    with pytest.raises(InputError, match="arrays probabilities"):
        execute(tmp_path, probabilities=str(tmp_path / "p.npz"), space=str(taxonomy))


class Words:
    """A WordNet of seven synsets; 'hammock' has two hypernyms."""

    above: ClassVar[dict[str, list[str]]] = {
        "chair": ["seat"],
        "sofa": ["seat"],
        "seat": ["furniture"],
        "bed": ["furniture"],
        "hammock": ["bed", "seat"],
        "furniture": ["thing"],
        "thing": [],
    }

    def synsets(self, lemma: str, pos: str) -> list[Any]:
        return [SimpleNamespace(id=lemma)] if lemma in self.above else []

    def hypernyms(self, synset: str) -> list[Any]:
        return [SimpleNamespace(id=x) for x in self.above[synset]]


def test_spaces_from_wordnet() -> None:
    words: Any = Words()
    tree = from_wordnet(words, ["chair", "sofa", "hammock"])
    assert tree.labels == ("chair", "sofa", "hammock")
    assert tree.distances([0]).tolist() == [[0, 2, 4]]  # the first hypernym of hammock is bed
    graph = from_wordnet(words, ["chair", "sofa", "hammock"], graph=True)
    assert graph.distances([0]).tolist() == [[0, 2, 2]]
    whole = from_wordnet(words, ["chair", "bed"], inner=True)
    assert set(whole.labels) == {"chair", "bed", "seat", "furniture"}  # the chain above furniture is left out
    assert from_wordnet(words, {"my chair": "chair", "my bed": "bed"}).labels == ("my chair", "my bed")
    with pytest.raises(InputError, match="unicorn"):
        from_wordnet(words, ["chair", "unicorn"])
    with pytest.raises(InputError, match="one synset"):
        from_wordnet(words, {"a": "chair", "b": "chair"})


def test_space_from_an_encoder() -> None:
    vectors = {"a": [2.0, 0.0], "b": [0.0, 1.0]}
    space = from_text_encoder(["a", "b"], lambda names: [vectors[n] for n in names])
    assert space.squared([0]).tolist() == [[0, 2]]
    with pytest.raises(InputError, match="no names"):
        from_text_encoder([], lambda names: [])
