"""The recipe: every action on small input, what the report says, bad input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from paperworks.errors import InputError
from paperworks.nn import TinyViT
from paperworks.papers.hires_llava.actions import tune
from paperworks.papers.hires_llava.config import Config
from paperworks.papers.hires_llava.entitygrid.answerers import RandomAnswerer
from paperworks.papers.hires_llava.recipe import run as recipe
from paperworks.runs import Report, Run, build_config

SMALL = {"steps": 2, "batch_size": 4, "test_images": 9, "pretrain_steps": 2}


def report_of(folder: Path, **options: Any) -> Report:
    return recipe(build_config(Config, {"device": "cpu", **SMALL, **options}), Run(folder / "run", seed=0))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("encoder") / "tower"
    TinyViT(image_size=16, patch_size=4, channels=3, width=8, layers=1, heads=2, outputs=2).save_pretrained(folder)
    return str(folder)


def test_the_default_probe(tmp_path: Path) -> None:
    report = report_of(tmp_path, limit=2)
    assert "Where slices meet, tokens of TinyViT change by" in report.headline
    assert [f.title for f in report.figures][-1] == "EntityGrid: accuracy at the nine positions"
    assert len(report.tables[1].rows) == 3
    content = json.loads((tmp_path / "run" / "files" / "fragmentation.json").read_text())
    assert len(content["entitygrid"]) == 3


def test_a_folder_of_scans_with_a_broken_and_a_deep_one(tmp_path: Path, encoder: str) -> None:
    folder = tmp_path / "scans"
    folder.mkdir()
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (50, 40), dtype=np.uint8)).save(folder / "grey.png")
    Image.fromarray(rng.integers(0, 2**16, (50, 40), dtype=np.uint16)).save(folder / "deep.png")
    (folder / "broken.png").write_bytes(b"no image")
    report = report_of(tmp_path, images=str(folder), encoder=encoder, steps=0)
    assert any("broken.png" in line for line in report.lead)
    assert "2 images cut into slices" in report.lead[0]
    assert len(report.tables) == 1
    assert "EntityGrid was left out" in report.notes[-1]
    without = report_of(tmp_path / "without", images=str(folder), steps=0)
    assert any("No encoder was given" in line for line in without.lead)


def test_the_benchmark_with_templates(tmp_path: Path) -> None:
    report = report_of(tmp_path, action="entitygrid", test_images=18)
    assert report.metrics["inside"] > report.metrics["edge"]
    files = tmp_path / "run" / "files"
    assert (files / "entitygrid" / "test.jsonl").is_file()
    assert len((files / "answers.jsonl").read_text().splitlines()) == len(
        (files / "entitygrid" / "test.jsonl").read_text().splitlines()
    )


def test_train_then_ask(tmp_path: Path, encoder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    report = report_of(tmp_path, action="train", encoder=encoder, train_images=9)
    assert [row[0] for row in report.tables[0].rows] == ["stage 1", "stage 2", "stage 3"]
    model = tmp_path / "run" / "files" / "model"
    asked = report_of(tmp_path / "ask", action="entitygrid", answerer=str(model), test_images=9)
    assert "model" in asked.headline
    records = tmp_path / "records.json"
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(tmp_path / "x.png")
    turns = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "Nothing"}]
    records.write_text(json.dumps([{"id": "1", "image": "x.png", "conversations": turns}]))
    # the questions afterwards are those of the first run
    monkeypatch.setattr(tune, "model_answerer", lambda model: RandomAnswerer(0))
    own = report_of(tmp_path / "own", action="train", encoder=encoder, records=str(records), stage="2")
    assert own.lead == [f"1 records of records.json, images in {tmp_path.name}"]


def test_classify_a_folder(tmp_path: Path, encoder: str) -> None:
    rng = np.random.default_rng(0)
    for name, level in (("dark", 30), ("light", 200)):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(8):
            pixels = np.clip(rng.normal(level, 20, (24, 40, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{i}.png")
    report = report_of(tmp_path, action="classify", images=str(tmp_path / "images"), encoder=encoder)
    assert "4 unseen images" in report.headline
    assert (tmp_path / "run" / "files" / "classifier" / "head.safetensors").is_file()


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"layers": "some"}, "layers"),
        ({"kernel": 2}, "kernel"),
        ({"canvas": 33}, "canvas"),
        ({"endpoint": "http://x"}, "endpoint"),
        ({"endpoint_model": "x"}, "endpoint"),
        ({"action": "train", "steps": 0}, "steps"),
        ({"images": "nowhere-at-all"}, "images"),
        ({"encoder": "nowhere-at-all"}, "vision"),
        ({"entities": "nowhere-at-all"}, "images"),
        ({"action": "entitygrid", "answerer": "nowhere-at-all"}, "folder"),
        ({"action": "train", "records": "nowhere-at-all"}, "records"),
        ({"action": "train", "llm": "nowhere-at-all"}, "model"),
        ({"layers": "7", "limit": 1}, "sra_layers"),
    ],
)
def test_bad_options_are_named(tmp_path: Path, options: dict[str, Any], field: str) -> None:
    with pytest.raises(InputError, match=f"^{field}"):
        report_of(tmp_path, **options)
