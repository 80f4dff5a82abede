"""The recipe on tables, images and texts; the story of the README; the estimator."""

from __future__ import annotations

import copy
import itertools
import json
import pickle
import shlex
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from transformers import AutoTokenizer, BertConfig, BertModel, ViTImageProcessor

import paperworks.papers.s3t
from paperworks import inputs, language, runs
from paperworks.cli import run_command
from paperworks.errors import InputError
from paperworks.nn import build_network
from paperworks.papers.s3t import Folder, S3TClassifier
from paperworks.papers.s3t.examples import read_records
from paperworks.papers.s3t.recipe import Config, run
from paperworks.runs import build_config

SMALL = {"width": 8, "layers": 2, "slices": 2, "rank": 2, "epochs": 2, "batch_size": 16, "streams": 20}
counter = itertools.count()


def go(tmp_path: Path, **options: Any) -> tuple[runs.Report, Path]:
    execution = runs.Run(tmp_path / f"run{next(counter)}", seed=0)
    report = run(build_config(Config, {"device": "cpu"} | options), execution)
    for made in report.files:
        assert (execution.files / made.path).exists()
    return report, execution.files


def patients(count: int = 240) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(count, 3))
    kind = np.where(rng.random(count) < 0.5, "a", "b")
    ill = x[:, 0] * 2 + (kind == "a") + rng.normal(size=count) * 0.3 > 0.5
    frame = pd.DataFrame(x * [1, 100, 0.01], columns=["x", "y", "z"])
    return frame.assign(kind=kind, diagnosis=np.where(ill, "ill", "well"), patient=[f"P{i}" for i in range(count)])


def test_the_story_of_the_readme(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    patients().to_csv("patients.csv", index=False)
    patients().drop(columns="diagnosis").iloc[:20].to_csv("new.csv", index=False)
    readme = (Path(paperworks.papers.s3t.__file__).parent / "README.md").read_text()
    story = readme.split("<!-- story -->")[1].split("<!-- end of story -->")[0]
    commands = [line.strip() for line in story.splitlines() if line.strip()]
    assert [c.split("--action ")[1].split()[0] if "--action" in c else "fit" for c in commands] == [
        "fit",
        "delete",
        "verify",
        "serve",
        "status",
    ]
    for command in commands:
        words = shlex.split(command)[1:]
        if "--action" not in words:
            small = SMALL | {"shards": 1, "slices": 3, "layers": 3}
            words += [f"--{name.replace('_', '-')}={value}" for name, value in small.items()]
        assert run_command([*words, "--device=cpu"]) in (0, None), capsys.readouterr()
    receipt = json.loads(Path("deleted/receipt.json").read_text())
    manifest = Folder("trained/s3t").read()
    assert set(receipt["records"]) == set(manifest.deleted) == {manifest.key(p) for p in ("P17", "P205")}
    answers = pd.read_csv("answers/predictions.csv")
    assert answers["id"].tolist() == [f"P{i}" for i in range(20)]
    assert (answers["prediction"].to_numpy() == patients()["diagnosis"].to_numpy()[:20]).mean() > 0.6
    assert "2 deleted" in json.loads(Path("verified/report.json").read_text())["headline"]


def test_all_deleted_then_retrained(tmp_path: Path) -> None:
    frame = patients(120)
    frame.to_csv(tmp_path / "people.csv", index=False)
    about = {"data": str(tmp_path / "people.csv"), "label": "diagnosis", "id": "patient"}
    report, files = go(tmp_path, shards=1, sequences=1, owner="kind", **about, **SMALL | {"aggregation": "mean_logits"})
    assert report.metrics["expected requests"] == report.metrics["expected requests, SISA"] == 2
    table = pd.read_csv(files / "records.csv").dropna(subset=["shard"])
    assert table.groupby("slice")["id"].count().gt(5).all()
    first = Folder(files / "s3t").read().sequences[0][0].order[0]
    (tmp_path / "ids.txt").write_text("\n".join([*table[table["slice"] == first]["id"][:2], ""]))
    report, out = go(tmp_path, action="delete", folder=files / "s3t", ids_file=tmp_path / "ids.txt")
    assert "RETRAINING IS DUE" in report.headline
    assert json.loads((out / "receipt.json").read_text())["status"] == "retrain-required"
    with pytest.raises(InputError, match="retrain is due"):
        go(tmp_path, action="serve", folder=files / "s3t", **about)
    report, _ = go(tmp_path, action="retrain", folder=files / "s3t", **about)
    assert report.metrics["shards"] == 1
    report, _ = go(tmp_path, action="serve", folder=files / "s3t", **about)
    assert report.metrics["accuracy"] > 0.5
    (files / "s3t" / "manifest.json").write_text(
        (files / "s3t" / "manifest.json").read_text().replace('"requests": 2', '"requests": 1')
    )
    with pytest.raises(InputError, match="was edited"):
        go(tmp_path, action="verify", folder=files / "s3t")


def test_risks_of_zero_are_never_due(tmp_path: Path) -> None:
    frame = patients(60).assign(leaves=lambda f: (f.index % 3 == 0).astype(int))
    frame.to_csv(tmp_path / "people.csv", index=False)
    about = {"data": str(tmp_path / "people.csv"), "label": "diagnosis", "id": "patient", "risk": "leaves"}
    report, files = go(tmp_path, shards=1, sequences=1, **about, **SMALL | {"epochs": 1})
    assert "never due" in report.headline
    assert "nan" not in json.dumps(report.to_dict())
    report, _ = go(tmp_path, action="status", folder=files / "s3t")
    assert "never due" in report.headline


def test_row_numbers_as_ids_need_the_file_of_the_fit(tmp_path: Path) -> None:
    frame = patients(60).drop(columns="patient")
    frame.to_csv(tmp_path / "people.csv", index=False)
    about = {"data": str(tmp_path / "people.csv"), "label": "diagnosis"}
    _, files = go(tmp_path, shards=1, sequences=1, **about, **SMALL | {"epochs": 1})
    table = pd.read_csv(files / "records.csv").dropna(subset=["shard"])
    first = Folder(files / "s3t").read().sequences[0][0].order[0]
    gone = int(table[table["slice"] == first]["id"].iloc[0])
    go(tmp_path, action="delete", folder=files / "s3t", ids=[str(gone)])
    frame.drop(index=gone).to_csv(tmp_path / "people.csv", index=False)
    with pytest.raises(InputError, match=r"^data: found 59 rows; expected 60 rows"):
        go(tmp_path, action="retrain", folder=files / "s3t", **about)
    frame.iloc[::-1].to_csv(tmp_path / "people.csv", index=False)
    with pytest.raises(InputError, match="other records than at fit"):
        go(tmp_path, action="retrain", folder=files / "s3t", **about)
    frame.to_csv(tmp_path / "people.csv", index=False)
    report, _ = go(tmp_path, action="retrain", folder=files / "s3t", **about)
    assert report.metrics["shards"] == 1


def test_ids_and_owners_are_taken_as_they_are_written(tmp_path: Path) -> None:
    lines = [f"{i / 7:.3f},{'ab'[i % 2]},00{i},123456789012345{i // 10}.0{i % 10}" for i in range(40)]
    (tmp_path / "people.csv").write_text("x,kind,number,user\n" + "\n".join(lines) + "\n")
    config = build_config(
        Config, {"data": str(tmp_path / "people.csv"), "label": "kind", "id": "number", "owner": "user"}
    )
    found = read_records(config, runs.Run(tmp_path / "run", seed=0))
    assert found.ids == [f"00{i}" for i in range(40)]
    assert len(set(found.owners)) == 40
    assert found.about["columns"] == ["x"]


def test_tables_are_read_as_in_every_other_paper(tmp_path: Path) -> None:
    """Row numbers leak and are left out; target, drop, missing and numeric mean what they mean elsewhere."""
    frame = patients(60).assign(row=range(60), code=[f"{i:03}" for i in range(60)], dose=["?", "n.d.", "1", "2"] * 15)
    frame.to_csv(tmp_path / "people.csv", index=False, sep=";", decimal=",")
    options = {"data": str(tmp_path / "people.csv"), "target": "diagnosis", "id": "patient", "missing": ["?", "n.d."]}

    def read(about: dict[str, Any] | None = None, **more: Any) -> Any:
        return read_records(
            build_config(Config, options | more), runs.Run(tmp_path / f"r{next(counter)}", seed=0), about
        )

    found = read(drop=["z"])
    assert found.about["columns"] == ["x", "y", "kind", "dose"]
    assert set(found.about["numeric"]) == {"x", "y", "dose"}
    assert "'row'" in found.notes[0]
    assert "'code'" in found.notes[0]
    dose = found.examples["inputs"][:4, -1].numpy()
    assert np.isnan(dose[:2]).all()
    assert dose[2:].tolist() == [1, 2]
    # Further records of a trained system are read as the first were, whatever numbers their rows.
    again = read(found.about, missing=[])
    assert again.about["columns"] == found.about["columns"]
    np.testing.assert_array_equal(again.examples["inputs"], found.examples["inputs"])
    assert "row" in read(keep_row_numbers=True).about["columns"]


def test_the_example_of_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readme = (Path(paperworks.papers.s3t.__file__).parent / "README.md").read_text()
    code = readme.split("```python")[1].split("```")[0]
    code = code.replace("n_shards=5, n_slices=6, ", "n_shards=1, n_slices=2, ").replace("r=16", "r=2")
    model = build_network("vit", image_size=8, outputs=2, seed=1, num_hidden_layers=2, hidden_size=8)
    source = "transformers.AutoModelForSequenceClassification.from_pretrained"
    monkeypatch.setattr(source, lambda *args, **options: model)
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    encoded = {"pixel_values": rng.normal(size=(24, 1, 8, 8)).astype(np.float32)}
    names: dict[str, Any] = {"encoded": encoded, "encoded_new": encoded, "labels": np.arange(24) % 2}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(code, names | {"ids": [f"user-{i}" for i in range(24)]})
    assert (tmp_path / "adapter" / "adapter_model.safetensors").exists()


def test_images_of_a_folder(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, bright in (("dark", 40), ("light", 200)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(20):
            pixels = rng.integers(bright - 40, bright + 40, size=(9, 7 + i % 2, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{i}.png")
    report, files = go(tmp_path, data=str(tmp_path / "photos"), shards=1, **SMALL)
    assert report.metrics["accuracy"] > 0.8
    go(
        tmp_path,
        action="delete",
        folder=files / "s3t",
        ids=[pd.read_csv(files / "records.csv").dropna(subset=["shard"])["id"].iloc[0]],
    )
    report, _ = go(tmp_path, action="serve", folder=files / "s3t", data=str(tmp_path / "photos"))
    assert report.metrics["records"] == 40


def test_texts_with_an_encoder_that_has_no_head(tmp_path: Path) -> None:
    encoder = BertModel(BertConfig(hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=8))
    encoder.save_pretrained(tmp_path / "encoder")
    AutoTokenizer.from_pretrained(inputs.path("minilm")).save_pretrained(tmp_path / "encoder")
    rows = [
        {"body": w, "kind": k, "user": i} for i in range(20) for w, k in ((f"good day {i}", "a"), (f"bad {i}", "b"))
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "mail.csv", index=False)
    options = {"data": str(tmp_path / "mail.csv"), "text": "body", "label": "kind", "length": 8}
    model = {"model": str(tmp_path / "encoder"), "shards": 1, "owner": "user", "learning_rate": 0.02}
    report, files = go(tmp_path, **options, **model, **SMALL)
    places = pd.read_csv(files / "records.csv").dropna(subset=["shard"]).assign(user=lambda t: t["row"] // 2)
    assert places.groupby("user")["slice"].nunique().max() == 1
    go(tmp_path, action="delete", folder=files / "s3t", ids=[str(places["id"].iloc[0])])
    report, _ = go(tmp_path, action="serve", folder=files / "s3t", **options)
    assert report.metrics["records"] == 40


def test_images_with_a_vision_model(tmp_path: Path) -> None:
    vision = build_network("vit", image_size=8, channels=3, outputs=5, hidden_size=8, num_hidden_layers=2)
    vision.save_pretrained(tmp_path / "vit")
    ViTImageProcessor(size={"height": 8, "width": 8}).save_pretrained(tmp_path / "vit")
    rng = np.random.default_rng(0)
    for name in ("one", "two", "three"):  # a head of five classes is replaced by one of three
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(10):
            Image.fromarray(rng.integers(0, 255, size=(9, 9, 3)).astype(np.uint8)).save(
                tmp_path / "photos" / name / f"{i}.png"
            )
    options = {"data": str(tmp_path / "photos"), "model": str(tmp_path / "vit")}
    _, files = go(tmp_path, shards=1, **options, **SMALL)
    report, _ = go(tmp_path, action="serve", folder=files / "s3t", data=options["data"])
    assert report.metrics["records"] == 30
    with pytest.raises(InputError, match=r"model: .*expected"):
        go(tmp_path, **options | {"model": str(tmp_path / "photos")})


def test_a_language_model_on_texts(tmp_path: Path) -> None:
    parts = [p for p in language.bundled_text("test").split("\n\n") if len(p) > 60][:16]
    (tmp_path / "notes.jsonl").write_text(
        "\n".join(json.dumps({"text": p, "id": f"n{i}"}) for i, p in enumerate(parts))
    )
    options = {"data": str(tmp_path / "notes.jsonl"), "kind": "language", "id": "id", "length": 8}
    report, files = go(tmp_path, shards=1, **options, **SMALL | {"epochs": 1})
    assert 1 < report.metrics["perplexity"] < 5 * report.metrics["perplexity of the base"]
    ids = pd.read_csv(files / "records.csv").dropna(subset=["shard"])["id"].tolist()
    go(tmp_path, action="delete", folder=files / "s3t", ids=ids[:1])
    report, _ = go(tmp_path, action="serve", folder=files / "s3t", **options)
    assert report.metrics["perplexity"] > 1


def test_the_estimator() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(160, 4))
    y = np.where(x[:, 0] > 0, "yes", "no")
    model = S3TClassifier(n_slices=2, layers=2, width=16, epochs=4, batch_size=16).fit(x[:120], y[:120])
    assert model.score(x[120:], y[120:]) > 0.8
    before = model.system_.status().expected_requests
    receipt = model.unlearn(5)
    assert receipt.status == "live"
    assert model.system_.status().expected_requests < before
    answer = model.predict_proba(x)
    assert answer.shape == (160, 2)
    stored = pickle.dumps(model)
    del model  # and its temporary folder
    copied = pickle.loads(stored)
    assert np.array_equal(copied.predict_proba(x), answer)
    assert copied.system_.verify([5]).records == {"5": "deleted"}
    kept = copy.deepcopy(copied)
    copied.unlearn(range(120))
    assert np.array_equal(kept.predict_proba(x), answer)
    with pytest.raises(InputError, match="one class"):
        S3TClassifier().fit(x, ["a"] * 160)
    with pytest.raises(InputError, match=r"^y: .*continuous"):
        S3TClassifier().fit(x, x[:, 0])
    small = {"n_slices": 2, "layers": 2, "width": 8, "rank": 1, "epochs": 0.2}
    assert S3TClassifier(random_state=None, **small).fit(x, y).predict(x).shape == (160,)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"action": "delete"}, "folder"),
        ({"action": "delete", "folder": "x"}, "ids"),
        ({"action": "verify", "folder": "no-such-folder"}, "folder"),
        ({"folder": "x"}, "folder"),
        ({"action": "plan"}, "gpu_hours"),
        ({"slices": 9, "layers": 8}, "slices"),
        ({"data": "people.csv"}, "label"),
        ({"data": "people.csv", "label": "no"}, "label"),
        ({"data": "people.csv", "label": "diagnosis", "id": "kind"}, "id"),
        ({"data": "people.csv", "label": "diagnosis", "owner": "nobody"}, "owner"),
        ({"data": "people.csv", "label": "diagnosis", "risk": "kind"}, "risk"),
        ({"data": "gaps.csv", "label": "diagnosis"}, "gaps.csv, line 2, column 'diagnosis'"),
        ({"data": "same.csv", "label": "diagnosis"}, "label"),
        ({"data": "people.csv", "label": "diagnosis", "shards": 500}, "records"),
        ({"data": "none.jsonl"}, "data"),
        ({"data": "people.csv", "label": "diagnosis", "key_file": "none"}, "key_file"),
    ],
)
def test_bad_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], field: str) -> None:
    monkeypatch.chdir(tmp_path)
    frame = patients(30)
    frame.to_csv("people.csv", index=False)
    frame.assign(diagnosis=frame["diagnosis"].where(frame.index > 2, "")).to_csv("gaps.csv", index=False)
    frame.assign(diagnosis="ill").to_csv("same.csv", index=False)
    with pytest.raises(InputError) as caught:
        go(tmp_path, **options)
    assert caught.value.field == field
