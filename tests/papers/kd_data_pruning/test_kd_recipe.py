"""The recipe on digits and on the user's own images, table and texts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from paperworks import nn
from paperworks.errors import InputError
from paperworks.papers.kd_data_pruning import recipe, study
from paperworks.papers.kd_data_pruning.config import Config
from paperworks.runs import Run, build_config

QUICK = {"steps": 12, "teacher_steps": 24, "early_steps": 4, "early_runs": 1, "width": 16, "device": "cpu"}


def execute(folder: Path, **options: object) -> tuple[object, Path]:
    run = Run(folder / "run")
    return recipe.run(build_config(Config, {**QUICK, **options}), run), run.files


def test_digits_keep_a_share_and_save_what_tools_load(tmp_path: Path) -> None:
    report, files = execute(tmp_path, method="el2n", fraction=0.2, balance=True)
    kept = pd.read_csv(files / "kept.csv", dtype={"id": str})
    scores = pd.read_csv(files / "scores.csv", dtype={"id": str})
    assert len(kept) == report.metrics["kept"] == round(0.2 * len(scores))
    assert scores["kept"].sum() == len(kept)
    assert kept["id"].is_unique
    labels = load_digits().target
    assert (labels[kept["row"]] == kept["label"]).all()
    worst = scores.groupby("label").apply(lambda g: g[g["kept"]]["score"].min() - g[~g["kept"]]["score"].max())
    assert (worst >= 0).all()  # within each class the largest scores are kept
    student = nn.MLP.from_pretrained(files / "student")
    assert student.config["hidden"] == [16, 16]
    assert report.metrics["alpha"] == 0.9
    assert {row[0] for row in report.tables[0].rows} >= {"teacher, all rows", "random, labels only"}


def test_a_stopped_run_goes_on_to_the_same_result(tmp_path: Path) -> None:
    whole, _ = execute(tmp_path / "a", fraction=0.3)
    first = Run(tmp_path / "b" / "run")

    class Stop(Exception):
        pass

    def listener(event: dict) -> None:
        if event["kind"] == "step" and "students" in event["text"]:
            raise Stop

    stopped = Run(tmp_path / "b" / "run", listener=listener)
    with pytest.raises(Stop):
        recipe.run(build_config(Config, {**QUICK, "fraction": 0.3}), stopped)
    again = recipe.run(build_config(Config, {**QUICK, "fraction": 0.3}), first)
    assert again.metrics == whole.metrics


def test_image_folders_of_mixed_sizes_with_a_wider_teacher(tmp_path: Path) -> None:
    images, labels = load_digits(return_X_y=True)
    for i in range(80):
        place = tmp_path / "in" / f"digit {labels[i]}" / f"{i}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        side = 16 if i % 2 else 18
        Image.fromarray((images[i].reshape(8, 8) * 15).astype(np.uint8)).resize((side, side)).save(place)
    (tmp_path / "in" / "digit 0" / "broken.png").write_text("x")
    report, files = execute(
        tmp_path,
        data=str(tmp_path / "in"),
        teacher_width=2,
        augment=True,
        fraction=0.5,
        method="herding",
        alpha="1",
        steps=6,
        teacher_steps=12,
    )
    kept = pd.read_csv(files / "kept.csv")
    assert kept["id"].str.match(r"digit \d/\d+\.png").all()
    assert any("broken.png" in note for note in report.lead)
    assert any("resized to 17 x 17" in note for note in report.lead)
    assert nn.SmallCNN.from_pretrained(files / "teacher").config["widths"] == [8, 16, 32]
    assert nn.SmallCNN.from_pretrained(files / "student").config["widths"] == [4, 8, 16]


def test_a_student_that_is_no_better_than_the_most_frequent_class_says_so(tmp_path: Path) -> None:
    """Three rows of a rare class among 200: none is kept, and accuracy alone would look like success."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"a": rng.normal(size=200), "b": rng.normal(size=200), "kind": ["usual"] * 200})
    table.loc[[5, 50, 150], "kind"] = "fraud"
    table.to_csv(tmp_path / "t.csv", index=False)
    data = str(tmp_path / "t.csv")
    report, _ = execute(
        tmp_path, data=data, label="kind", fraction=0.1, method="random", alpha="0", steps=20, teacher_steps=20
    )
    held = next(t for t in report.tables if t.title == "Held-out rows")
    always = next(row for row in held.rows if str(row[0]).startswith("no row: always usual"))
    assert always[3] == report.metrics["majority_accuracy"] > 0.97
    assert report.metrics["accuracy"] <= always[3]
    assert "no better than to say usual, the most frequent class, of every row" in report.headline
    assert any("No row is kept of fraud" in note for note in report.lead)


def test_tables_with_gaps_and_words(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    n = 120
    colour, number = rng.choice(["red", "blue", ""], n), rng.normal(size=n).round(2).astype(str)
    number[:5] = "?"
    frame = pd.DataFrame({"colour": colour, "number": number, "kind": np.where(colour == "red", "a", "b")})
    frame.to_csv(tmp_path / "t.csv", index=False)
    report, files = execute(
        tmp_path,
        data=str(tmp_path / "t.csv"),
        label="kind",
        fraction=0.5,
        method="forgetting",
        steps=150,
        teacher_steps=150,
    )
    assert report.metrics["accuracy"] > 0.9
    assert set(pd.read_csv(files / "kept.csv")["label"]) <= {"a", "b"}


def test_texts_with_empty_ones_and_copies(tmp_path: Path) -> None:
    lines = [{"text": f"good fine nice {i % 7}", "label": "plus"} for i in range(40)]
    lines += [{"text": f"bad awful {i}", "label": "minus"} for i in range(40)] + [{"text": "", "label": "minus"}]
    (tmp_path / "t.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    report, _ = execute(tmp_path, data=str(tmp_path / "t.jsonl"), fraction=0.3, alpha="grid", steps=40)
    assert report.metrics["accuracy"] > 0.9
    notes = " ".join([*report.lead, *report.notes])
    assert "1 texts are empty" in " ".join(report.lead)
    assert "more than once" in notes
    assert "weights tried" in notes


def test_a_text_classifier_of_transformers(tmp_path: Path) -> None:
    import transformers as hf

    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad"]))
    hf.BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    hf.BertForSequenceClassification(hf.BertConfig(vocab_size=7, num_labels=2, **sizes)).save_pretrained(folder)
    frame = pd.DataFrame({"text": ["good"] * 20 + ["bad"] * 20, "label": [1] * 20 + [0] * 20})
    frame.to_csv(tmp_path / "t.csv", index=False)
    small = {"model": str(folder), "fraction": 0.5, "steps": 4, "teacher_steps": 4}
    _, files = execute(tmp_path, data=str(tmp_path / "t.csv"), text="text", **small)
    hf.AutoModelForSequenceClassification.from_pretrained(files / "student")
    hf.AutoTokenizer.from_pretrained(files / "student")
    with pytest.raises(InputError) as error:
        execute(tmp_path / "x", data="digits", model=str(folder))
    assert error.value.field == "model"


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"fraction": 0}, "fraction"),
        ({"fraction": 1.5}, "fraction"),
        ({"method": "el3n"}, "method"),
        ({"alpha": "2"}, "alpha"),
        ({"alpha": "best"}, "alpha"),
        ({"temperature": 0}, "temperature"),
        ({"augment": True, "kind": "table"}, "augment"),
        ({"augment": True, "data": "wine"}, "augment"),
        ({"model": "folder", "teacher_width": 2}, "teacher_width"),
        ({"data": "digit"}, "images"),
        ({"data": "one.csv", "label": "y"}, "label"),
        ({"data": "one.csv", "kind": "table"}, "label"),
        ({"data": "few.csv", "label": "y"}, "label"),
        ({"data": "gap.csv", "label": "y", "text": "x"}, "label"),
        ({"data": "gap.csv", "label": "y", "text": "z"}, "text"),
        ({"data": "few.jsonl"}, "data"),
        ({"data": "unlabelled"}, "labels"),
    ],
)
def test_bad_input_names_the_option(tmp_path: Path, options: dict, field: str) -> None:
    (tmp_path / "one.csv").write_text("x,y\n" + "1,a\n" * 9)
    (tmp_path / "few.csv").write_text("x,y\n1,b\n" + "1,a\n" * 9)
    (tmp_path / "gap.csv").write_text("x,y\n1,b\n2,\n" + "1,a\n" * 9)
    (tmp_path / "few.jsonl").write_text("{")
    (tmp_path / "unlabelled").mkdir()
    Image.fromarray(np.zeros((4, 4), dtype=np.uint8)).save(tmp_path / "unlabelled/a.png")
    if (tmp_path / str(options.get("data", "-"))).exists():
        options = {**options, "data": str(tmp_path / options["data"])}
    with pytest.raises(InputError) as error:
        execute(tmp_path, **options)
    assert error.value.field == field


@pytest.mark.parametrize("name", ["isotropic", "teachers-data"])
def test_studies_in_closed_form_hold(tmp_path: Path, name: str) -> None:
    chosen = next(s for s in vars(study).values() if getattr(s, "name", "") == name)
    findings = chosen(Run(tmp_path), True)
    assert findings
    assert all(finding.holds for finding in findings if finding.kind == "exact")
