"""The recipe on the user's files and on bundled data, and bad options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from paperworks.errors import InputError
from paperworks.inputs.wordnet import Pointer, Synset
from paperworks.papers.embedding_limits import load_beir, make_limit, make_qrels, synonyms_from_wordnet
from paperworks.papers.embedding_limits.recipe import Config, run
from paperworks.papers.embedding_limits.wordlists import bundled_words
from paperworks.runs import Report, Run, build_config


def execute(tmp_path: Path, **options: Any) -> tuple[Report, Path]:
    made = Run(tmp_path / "run")
    return run(build_config(Config, {"device": "cpu", "critical": ()} | options), made), made.files  # type: ignore[arg-type]


def test_ids_and_vectors_of_the_user(tmp_path: Path) -> None:
    lines = [f"q{i},d{j}" for i, row in enumerate(make_qrels("cycle", 8, 8, 2).toarray()) for j in np.flatnonzero(row)]
    (tmp_path / "clicks.csv").write_text("query,document\n" + "\n".join(lines) + "\n")
    rng = np.random.default_rng(0)
    np.save(tmp_path / "q.npy", rng.normal(size=(8, 4)))
    np.save(tmp_path / "d.npy", rng.normal(size=(8, 4)))
    report, files = execute(
        tmp_path,
        data=str(tmp_path / "clicks.csv"),
        query_vectors=str(tmp_path / "q.npy"),
        document_vectors=str(tmp_path / "d.npy"),
        dims=(1, 4),
        similarity="dot",
    )
    least = int(report.metrics["dimensions that return all result sets"])
    assert 2 <= least <= 4
    assert report.headline.startswith(f"clicks.csv: {least} dimensions can return all 8 result sets")
    stored = np.load(files / "fitted_vectors.npz")
    scores = stored["queries"] @ stored["documents"].T
    relevant = make_qrels("cycle", 8, 8, 2).toarray()
    order = [stored["document_ids"].tolist().index(f"d{j}") for j in range(8)]
    assert (np.argsort(-scores, axis=1)[:, :2] >= 0).all()
    scores = scores[[stored["query_ids"].tolist().index(f"q{i}") for i in range(8)]][:, order]
    assert (np.where(relevant, scores, 9).min(1) > np.where(relevant, -9, scores).max(1)).all()
    assert "norms other than 1" in " ".join(report.notes)
    assert pd.read_csv(files / "hits.csv")["query"].tolist() == [f"q{i}" for i in range(8)]


def test_a_folder_with_texts_and_drawn_queries(tmp_path: Path) -> None:
    words = [f"thing{i}" for i in range(60)]
    data = make_limit(words, ["ann", "bo"], ["Day", "Eve", "Fox"], make_qrels("dense", 6, 15, 2), min_items=6)
    data.save_beir(tmp_path / "beir")
    report, files = execute(tmp_path, data=str(tmp_path / "beir"), encoder="none", dims=(8,), most_queries=9)
    assert report.metrics["recall@2, BM25"] == 100
    assert "9 result sets" in report.headline
    assert "drawn" in " ".join(report.notes)
    assert len(np.load(files / "fitted_vectors.npz")["queries"]) == 9
    assert len(pd.read_csv(files / "hits.csv")) == 15


def test_limit_style_data_from_the_users_items(tmp_path: Path) -> None:
    (tmp_path / "items.txt").write_text("# mine\n" + "\n".join(f"hobby {i}" for i in range(40)))
    report, files = execute(
        tmp_path, items=str(tmp_path / "items.txt"), n_docs=6, n_queries=15, min_items=8, encoder="none", dims=(6,)
    )
    made = load_beir(files / "data")
    assert made.queries is not None
    assert all(q.startswith("Who likes hobby ") for q in made.queries)
    assert report.metrics["recall@2, item TF-IDF"] == 100
    assert len(report.figures) == 2
    assert report.metrics["query graph density"] > 0


def test_headline_names_the_fewest_dimensions_of_the_most_sets(tmp_path: Path) -> None:
    (tmp_path / "q.csv").write_text("".join(f"q{i},d{j}\n" for i in range(9) for j in (i, (i + 1) % 9)))
    report, _ = execute(tmp_path, data=str(tmp_path / "q.csv"), dims=(1,), max_iter=100)
    most = max(row[1] for row in report.tables[0].rows)  # type: ignore[type-var]
    assert f"fitted in 1 dimension return {most} of 9 result sets" in report.headline
    assert "dimensions that return all result sets" not in report.metrics


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"data": "limit-smal"}, "did you mean 'limit-small'"),
        ({"data": "python-imports", "n_docs": 5}, "LIMIT-style"),
        ({"query_vectors": "x.npy"}, "one side only"),
        ({"dims": ()}, "one dimension or more"),
        ({"truncate": (0,)}, "1 or more"),
        ({"critical": (60,)}, "at most 45"),
        ({"gamma": 2.0}, "gamma"),
        ({"pattern": "disjoint"}, "2000 or more"),
        ({"items": "none.txt"}, "not there"),
        ({"query_vectors": "x.npy", "document_vectors": "y.npy", "n_docs": 9, "n_queries": 3, "dims": (1,)}, "x.npy"),
    ],
)
def test_bad_options(options: dict[str, Any], word: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=word):
        execute(tmp_path, **options)


class Words:
    """A WordNet of four nouns."""

    made = {  # noqa: RUF012
        "pumpkin": Synset(
            "n1", "n", "noun.food", ("pumpkin", "Cucurbita pepo"), "", (Pointer("hypernym", "n9", 0, 0),)
        ),
        "cat": Synset("n2", "n", "noun.animal", ("cat", "true cat"), "", (Pointer("hypernym", "n9", 0, 0),)),
        "fork": Synset("n3", "n", "noun.artifact", ("fork",), "", (Pointer("hypernym", "n9", 0, 0),)),
    }

    def synsets(self, lemma: str, pos: str) -> list[Synset]:
        return [self.made[lemma]] if lemma in self.made else []

    def hypernyms(self, synset: Synset) -> list[Synset]:
        return [Synset("n9", "n", "", ("cutlery",), "", ())]


def test_synonyms_share_no_stem_where_that_can_be() -> None:
    words: Any = Words()
    found = synonyms_from_wordnet(("pumpkin", "cat", "fork"), words)
    assert found == {"pumpkin": "Cucurbita pepo", "cat": "cutlery", "fork": "cutlery"}
    with pytest.raises(InputError, match="spoon"):
        synonyms_from_wordnet(("spoon",), words)


def test_bundled_lists_are_enough_for_limit() -> None:
    words = bundled_words()
    assert len(words.items) == len({w[:5] for w in words.items}) == 1900
    assert not set(words.first_names) & set(words.last_names)
    assert len(words.first_names) * len(words.last_names) > 50_000
