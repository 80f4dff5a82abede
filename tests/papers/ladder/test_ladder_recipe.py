"""The recipe on files of a user: arrays, metadata; and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from papers.ladder.tiny import options
from paperworks.errors import InputError
from paperworks.papers.ladder.config import Config
from paperworks.papers.ladder.demo import PASTES, coloured_digits, names_the_ground, plant
from paperworks.papers.ladder.files import read_npz, read_sentences
from paperworks.papers.ladder.recipe import run
from paperworks.papers.ladder.tasks import mail_text
from paperworks.runs import Run, build_config


@pytest.mark.filterwarnings("ignore")
def test_features_of_the_users_own(tmp_path: Path) -> None:
    audit = options(tmp_path)[0]
    report = run(build_config(Config, audit), Run(tmp_path / "run"))
    assert "water" in report.headline or "grass" in report.headline
    assert report.metrics["confirmed"] >= 1
    assert report.metrics["worst group after"] >= report.metrics["worst group before"]
    files = tmp_path / "run" / "files"
    for file in report.files:
        assert (files / file.path).exists(), file.path
    slices = pd.read_csv(files / "slices.csv")
    members = pd.read_csv(files / "membership.csv")
    assert len(members) == 160
    first = slices.iloc[0]
    inside = members[members["class"] == first["class"]][f"{first['class']}: without {first['attribute']}"] > 0
    assert inside.sum() == first["n_without"]
    assert (files / "report.md").read_text().startswith("# Error slices")


def test_metadata_of_the_users_own(tmp_path: Path) -> None:
    report = run(build_config(Config, options(tmp_path)[1]), Run(tmp_path / "run"))
    assert "age >= 70" in report.headline or "age >=" in report.headline
    table = pd.read_csv(tmp_path / "run" / "files" / "predicates.csv")
    best = table[table["class"] == "all"].iloc[0]
    assert best["error_inside"] == 1.0
    assert best["confirmed"]


def test_predictions_with_missing_cells_are_those_of_whole_numbers(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    label, kind = draw.integers(0, 3, 200), draw.choice(["a", "b"], 200)
    guess = np.where((kind == "a") & (draw.random(200) < 0.6), (label + 1) % 3, label).astype(float)
    guess[:10] = np.nan  # so that the column is read as decimal numbers: 1.0 is the label 1
    pd.DataFrame({"kind": kind, "label": label, "guess": guess}).to_csv(tmp_path / "t.csv", index=False)
    config = build_config(Config, {"metadata": str(tmp_path / "t.csv"), "prediction": "guess"})
    report = run(config, Run(tmp_path / "run"))
    assert report.metrics["rows"] == 190
    assert report.metrics["error"] == pytest.approx(float((guess != label)[10:].mean()))
    assert "kind = a" in report.headline
    assert "10 rows without a label or a prediction are left out." in report.notes


def test_without_predictions_a_logistic_model_is_trained(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    sex = draw.choice(["f", "m"], 300)
    x = draw.normal(size=300)
    label = np.where(sex == "m", x > 0, x < 0)
    pd.DataFrame({"x": x, "sex": sex, "label": label.astype(int)}).to_csv(tmp_path / "t.csv", index=False)
    config = build_config(Config, {"metadata": str(tmp_path / "t.csv"), "hide": ("sex",)})
    report = run(config, Run(tmp_path / "run"))
    assert report.metrics["error"] > 0.3
    with pytest.raises(InputError, match=r"hide: found 'sax'.*did you mean 'sex'"):
        run(build_config(Config, {"metadata": str(tmp_path / "t.csv"), "hide": ("sax",)}), Run(tmp_path / "other"))


BAD: list[tuple[dict[str, Any], str]] = [
    ({"features": "a.npz"}, "sentences: found nothing"),
    ({"backend": "static"}, "hypotheses: found nothing"),
    ({"llm": "x"}, "llm: found 'x'; expected --backend transformers"),
    ({"backend": "endpoint", "endpoint": "http://localhost"}, "endpoint_model: found nothing"),
    ({"features": "a", "metadata": "b", "sentences": "c"}, "metadata: found an option beside features"),
    ({"data": "photos"}, "data: found photos"),
    ({"model": "folder"}, "data: found digits; expected the data that the model"),
    ({"sentences": "a.txt"}, "sentences: found 'a.txt'; expected features, model: it does nothing with digits"),
    ({"metadata": "m.csv", "plant": "x"}, "plant: found 'x'; expected spam-assassin"),
    ({"metadata": "m.csv", "top_k": 3}, "top_k: found 3; expected digits"),
    ({"data": "spam-assassin", "steps": 7}, "steps: found 7; expected digits"),
    ({"lr": 0.1}, "lr: found 0.1; expected --optimizer sgd"),
    ({"metadata": "m.csv", "prediction": "p", "hide": ("x",)}, "hide: found x; expected no --prediction"),
]


@pytest.mark.parametrize(("values", "message"), BAD, ids=[b[1][:24] for b in BAD])
def test_options_that_do_not_go_together(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_config(Config, values)


def test_bad_arrays(tmp_path: Path) -> None:
    audit = options(tmp_path)[0]
    arrays = dict(np.load(audit["features"]))
    changes: list[tuple[dict[str, Any], str]] = [
        ({"features_train": None}, "without features_train"),
        ({"pred_val": None}, "without pred_val and proba_val"),
        ({"head_bias": None}, "one of head_weight and head_bias"),
        ({"feature_val": np.ones(3)}, "did you mean 'features_val'"),
        ({"y_val": arrays["y_val"][:5]}, "features_val and y_val"),
        ({"sentence_emb": arrays["sentence_emb"][:3]}, "sentences: found 10, for 3 vectors in sentence_emb"),
        ({"features_test": arrays["features_val"], "y_test": arrays["y_val"]}, "the rows of validation"),
        ({"groups_test": arrays["groups_test"][:3]}, "groups"),
    ]
    for number, (change, message) in enumerate(changes):
        made = {k: v for k, v in (arrays | change).items() if v is not None}
        np.savez(tmp_path / f"{number}.npz", **made)
        with pytest.raises(InputError, match=message):
            run(
                build_config(Config, audit | {"features": str(tmp_path / f"{number}.npz")}),
                Run(tmp_path / f"r{number}"),
            )
    np.save(tmp_path / "one.npy", np.ones(3))
    with pytest.raises(InputError, match="a single array"):
        read_npz(tmp_path / "one.npy")


def test_sentences_of_a_table_and_of_reports(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text('image,caption\na,"A bird. A tree."\nb,A lake\n')
    assert read_sentences(tmp_path / "c.csv", None, "captions") == ["A bird", "A tree", "A lake"]
    with pytest.raises(InputError, match=r"caption: found 'captain'.*did you mean 'caption'"):
        read_sentences(tmp_path / "c.csv", "captain", "captions")
    (tmp_path / "r.txt").write_text("Chest tube seen on the left. Fine.\n")
    assert read_sentences(tmp_path / "r.txt", None, "reports") == ["Chest tube seen on the left"]
    (tmp_path / "e.txt").write_text("\n \n")
    with pytest.raises(InputError, match="without a sentence"):
        read_sentences(tmp_path / "e.txt", None, "captions")


def test_digits_on_ground_have_the_correlation_asked_for_and_captions_that_are_true() -> None:
    parts = coloured_digits(3, {"train": 0.95, "val": 0.5, "test": 0.0})
    assert np.mean(parts["train"].ground == parts["train"].y) == pytest.approx(0.95, abs=0.03)
    assert np.mean(parts["val"].ground == parts["val"].y) == pytest.approx(0.5, abs=0.05)
    assert not np.any(parts["test"].ground == parts["test"].y)
    val = parts["val"]
    assert len(val.y) % PASTES["val"] == 0
    blue = val.images[:, 2].mean(axis=(1, 2)) > val.images[:, 1].mean(axis=(1, 2))
    assert np.mean(blue == val.ground) > 0.99
    for caption, ground in zip(val.captions, val.ground, strict=True):
        assert names_the_ground(caption.replace(".", ""), int(ground))
        assert not names_the_ground(caption.replace(".", ""), 1 - int(ground))


def test_planted_words_and_mails() -> None:
    y = np.arange(2000) % 2
    texts, has = plant(["x"] * 2000, y, "token", 0.9, np.random.default_rng(0))
    assert np.mean(has[y == 1]) == pytest.approx(0.9, abs=0.03)
    assert np.mean(has[y == 0]) == pytest.approx(0.1, abs=0.03)
    assert [t.startswith("token ") for t in texts] == has.tolist()
    raw = "From: a@b.c\nSubject: Hello  there\n\n<b>Buy</b> now at http://x.y me@z.com\n"
    assert mail_text(raw) == "Hello there. Buy now at"
