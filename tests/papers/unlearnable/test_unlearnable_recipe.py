"""The recipe on the forms of images that users have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import paperworks as pw
from paperworks.errors import InputError
from paperworks.inputs.images import read_images
from paperworks.runs import Report

QUICK: dict[str, Any] = {
    "steps": 2,
    "epochs": 1,
    "test_epochs": 1,
    "ratios": (0.5, 1.0),
    "compare": False,
    "progress": False,
}


def folder_of(root: Path, *, mode: str = "RGB", suffix: str = "png", side: int = 9, count: int = 12) -> Path:
    """Two classes of images, of which one is brighter."""
    rng = np.random.default_rng(0)
    channels = {"L": 1, "RGB": 3, "RGBA": 4}[mode]
    for kind, level in (("dark", 60), ("light", 180)):
        (root / kind).mkdir(parents=True)
        for number in range(count):
            pixels = np.clip(rng.normal(level, 20, size=(side, side, channels)), 0, 255).astype(np.uint8)
            image = Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels, mode)
            image.save(root / kind / f"{number}.{suffix}")
    return root


def run(data: Path | str, out: Path, **options: Any) -> Report:
    return pw.run("unlearnable", data=str(data), out=out, **{**QUICK, **options})


@pytest.mark.parametrize(("mode", "suffix"), [("RGBA", "png"), ("L", "jpg")])
def test_a_folder_comes_back_within_the_budget(tmp_path: Path, mode: str, suffix: str) -> None:
    source = folder_of(tmp_path / "images", mode=mode, suffix=suffix)
    report = run(source, tmp_path / "out", eps=8 / 255)
    before, after = read_images(source), read_images(tmp_path / "out/protected")
    assert len(after) == len(before) == 24
    names = [Path(before.image_name(i)).with_suffix(".png") for i in range(24)]
    assert sorted(map(str, names)) == sorted(after.image_name(i) for i in range(24))
    largest = 0
    for i, name in enumerate(names):
        j = next(k for k in range(24) if after.image_name(k) == str(name))
        a, b = before[i].astype(int), after[j].astype(int)
        assert a.shape == b.shape
        largest = max(largest, int(np.abs(a - b).max()))
        if mode == "RGBA":
            np.testing.assert_array_equal(a[..., 3], b[..., 3])
    assert 1 <= largest <= 8
    assert report.metrics["largest change"] <= 8 / 255 + 1e-6
    assert 0 <= report.metrics["accuracy, trained on protected images"] <= 1
    said = " ".join(report.notes)
    assert "cannot use the budget" in said
    assert "Who has clean images" in said


def test_images_of_several_sizes_need_a_size(tmp_path: Path) -> None:
    source = folder_of(tmp_path / "images")
    Image.fromarray(np.zeros((12, 15, 3), dtype=np.uint8)).save(source / "dark" / "other.png")
    with pytest.raises(InputError, match="2 sizes"):
        run(source, tmp_path / "out")
    run(source, tmp_path / "out", size=8)
    assert {image.shape for image in read_images(tmp_path / "out/protected")} == {(8, 8, 3)}


def test_arrays_with_a_split_of_their_own_are_protected_in_training_only(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    y = np.arange(40) % 2
    images = np.clip(rng.normal(90 + 80 * y[:, None, None], 20, (40, 6, 6)), 0, 255).astype(np.uint8)
    np.savez(tmp_path / "images.npz", images=images, labels=y)
    report = run(tmp_path / "images.npz", tmp_path / "out", eps=0.1)
    assert report.tables[1].rows[0] == ["images", 40]
    stored = next((tmp_path / "out/protected").glob("*.npz"))
    with np.load(stored) as content:
        assert content["images"].dtype == np.uint8
        assert 1 <= np.abs(content["images"].astype(int) - images).max() <= 25


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"eps": 0}, "eps"),
        ({"ratios": (0.0,)}, "ratios"),
        ({"eps": 8}, "eps"),
        ({"norm": "2"}, "eps"),
        ({"retrain": False}, "retrain"),
        ({"model": "no-such-folder"}, "model"),
        ({"test_size": 0.001}, "test_size"),
    ],
)
def test_bad_options(tmp_path: Path, options: dict[str, Any], field: str) -> None:
    with pytest.raises(InputError) as refused:
        run("digits", tmp_path / "out", **options)
    assert refused.value.field.strip("-") == field


def test_a_test_that_tells_nothing_says_so(tmp_path: Path) -> None:
    report = run("digits", tmp_path / "out", limit=100, ratios=(1.0,), norm="2", eps=3.0)
    assert "This tests nothing" in report.headline  # one epoch on 80 digits
    assert "100 of them" in report.lead[0]
    assert "clean part alone" not in report.tables[0].note


def test_one_class_and_missing_labels_are_refused(tmp_path: Path) -> None:
    source = folder_of(tmp_path / "images", count=4)
    for path in (source / "light").iterdir():
        path.unlink()
    (source / "light").rmdir()
    with pytest.raises(InputError, match=r"one class|none in"):
        run(source, tmp_path / "out")


def test_a_classifier_of_transformers_is_the_surrogate(tmp_path: Path) -> None:
    from transformers import ResNetConfig, ResNetForImageClassification, ViTImageProcessor

    source = folder_of(tmp_path / "images")
    config = ResNetConfig(
        num_channels=3, embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], layer_type="basic", num_labels=2
    )
    ResNetForImageClassification(config).save_pretrained(tmp_path / "resnet")
    ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(tmp_path / "resnet")
    report = run(source, tmp_path / "out", model=str(tmp_path / "resnet"), retrain=False, eps=0.1)
    assert report.metrics["largest change"] > 0
