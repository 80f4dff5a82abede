"""The recipe on shapes, on a user's folder, and with a segmenter that was trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import paperworks as pw
from paperworks.errors import InputError
from paperworks.papers.gkc.segmenter import load_segmenter
from paperworks.papers.gkc.shape_world import make_scenes
from paperworks.runs import Report

QUICK: dict[str, Any] = {"steps": 2, "batch_size": 4, "points": 32, "progress": False}


def run(out: Path, **options: Any) -> Report:
    return pw.run("gkc", out=out, **{**QUICK, **options})


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Eight scenes as JPEG, with masks of 16 bits."""
    root = tmp_path_factory.mktemp("shapes")
    for name in ("images", "masks"):
        (root / name).mkdir()
    names = ["red circle", "blue square", "palace", "flower"]
    for scene in make_scenes(8, 5, ["red circle", "blue square"], names):
        Image.fromarray(scene.image).resize((70, 60)).save(root / "images" / f"{scene.name}.jpg")
        ids = Image.fromarray((scene.label_map(ignore=-1) + 11).astype(np.uint16))
        ids.resize((70, 60), Image.Resampling.NEAREST).save(root / "masks" / f"{scene.name}.png")
    (root / "names.json").write_text(json.dumps({n + 11: name for n, name in enumerate(names)}))
    return root / "images", root / "masks", root / "names.json"


@pytest.fixture(scope="module")
def trained(folders: tuple[Path, Path, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    """A run on the folder."""
    images, masks, names = map(str, folders)
    out = tmp_path_factory.mktemp("run") / "out"
    report = run(out, images=images, masks=masks, names=names, ask="red square|crimson box, blue circle", size=64)
    return out, report


def test_a_folder_of_yours(trained: tuple[Path, Report]) -> None:
    out, report = trained
    asked = next(t for t in report.tables if t.title == "Asked names")
    assert [row[0] for row in asked.rows] == ["red square", "blue circle"]
    assert "red circle" in asked.note
    assert "Of 2 images: red square in" in report.headline
    assert any(figure.title == "Asked names" for figure in report.figures)
    model = load_segmenter(out / "segmenter")
    assert model.vocabulary is not None
    assert model.vocabulary.class_names == ["red circle", "blue square", "palace", "flower"]
    content = json.loads((out / "maps" / "classes.json").read_text())
    assert list(content["names"].values())[:2] == ["red square", "blue circle"]
    maps = [np.asarray(Image.open(file)) for file in sorted((out / "maps").glob("*.png"))]
    assert len(maps) == 2
    assert all(m.shape == (60, 70) and m.min() >= 1 and m.max() <= 6 for m in maps)
    assert (out / "synonyms.json").is_file()
    assert "red circle" in (out / "accuracy.csv").read_text()


@pytest.mark.parametrize("output", ["panoptic", "instance"])
def test_a_segmenter_that_was_trained(
    trained: tuple[Path, Report], folders: tuple[Path, Path, Path], tmp_path: Path, output: str
) -> None:
    model, images = str(trained[0] / "segmenter"), str(folders[0])
    report = run(tmp_path / "out", model=model, images=images, ask="teapot", output=output, threshold=0.1, limit=3)
    assert "Of 3 images: teapot in" in report.headline
    content = json.loads((tmp_path / "out" / "maps" / "classes.json").read_text())
    assert len(content["segments"]) <= 3
    for row in content["segments"].values():
        assert all(segment["id"] >= 1 and segment["name"] in content["names"].values() for segment in row)


def test_bad_options(folders: tuple[Path, Path, Path], trained: tuple[Path, Report], tmp_path: Path) -> None:
    images, masks, names = map(str, folders)
    yours: dict[str, Any] = {"images": images, "masks": masks, "names": names}
    cases: list[tuple[str, dict[str, Any]]] = [
        ("masks", {"images": images}),
        ("names", {"images": images, "masks": masks}),
        ("images", {"masks": masks}),
        ("ask", {"model": str(trained[0] / "segmenter")}),
        ("ask", {**yours, "ask": " , "}),
        ("ask", {**yours, "ask": "cat, cat", "towers": str(tmp_path)}),  # before anything is read
        ("others", {**yours, "others": "wall, wall", "towers": str(tmp_path)}),
        ("ask", {"model": str(trained[0] / "segmenter"), "ask": "cat|dog, dog"}),
        ("captions", {**yours, "grounding": "captions"}),
        ("distillation", {**yours, "distillation": "point"}),
        ("model", {"model": str(tmp_path), "ask": "cat"}),
        ("start", {**yours, "start": str(tmp_path)}),
        ("towers", {**yours, "towers": str(tmp_path)}),
        ("synonyms", {**yours, "synonyms": names}),
        ("images", {**yours, "limit": 3}),
    ]
    for number, (field, options) in enumerate(cases):
        with pytest.raises(InputError) as caught:
            run(tmp_path / f"out{number}", **options)
        assert caught.value.field == field, options
