"""The estimator: images of every form, teachers, another resolution, saving; and the recipe's own input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from tiny_sret import SMALL, small
from transformers import pipeline

from paperworks import runs
from paperworks.classification import load_classifier
from paperworks.errors import InputError
from paperworks.inputs.images import read_images
from paperworks.papers.sret import SReTClassifier, SReTConfig, SReTForImageClassification, network_config
from paperworks.papers.sret.classifier import decay_groups
from paperworks.papers.sret.config import Config
from paperworks.papers.sret.recipe import load_model, read_source
from paperworks.papers.sret.teachers import check_logits, teacher_logits


def bright(n: int = 40, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Dark images and bright ones, float32 [n, 8, 8] in [0, 1], with their names."""
    rng = np.random.default_rng(seed)
    code = rng.integers(0, 2, n)
    return (0.4 * rng.random((n, 8, 8)) + 0.5 * code[:, None, None]).astype(np.float32), np.array(["dark", "light"])[
        code
    ]


def two(**options: Any) -> SReTClassifier:
    network = SReTConfig(**{**SMALL, "num_labels": 2, **options.pop("network", {})})
    return SReTClassifier(network, **{"epochs": 6, "batch_size": 16, "learning_rate": 5e-3, "device": "cpu", **options})


@pytest.fixture(scope="module")
def fitted() -> SReTClassifier:
    return two().fit(*bright())


def test_it_learns_and_keeps_scikit_learn_s_conventions(fitted: SReTClassifier) -> None:
    images, names = bright(30, seed=1)
    assert fitted.score(images, names) > 0.9
    assert fitted.classes_.tolist() == ["dark", "light"]
    probabilities = fitted.predict_proba(images)
    assert probabilities.shape == (30, 2)
    assert np.allclose(probabilities.sum(1), 1)
    assert (fitted.predict(images) == fitted.classes_[probabilities.argmax(1)]).all()
    assert fitted.features(images).shape == (30, 16)
    copy = clone(two(epochs=3))
    assert copy.get_params()["epochs"] == 3
    assert fitted.mean_ == pytest.approx(bright()[0].mean(), abs=1e-5)


def test_the_same_seed_gives_the_same_network(fitted: SReTClassifier) -> None:
    again = two().fit(*bright())
    images = bright(10, seed=2)[0]
    assert np.array_equal(again.predict_proba(images), fitted.predict_proba(images))


def test_saved_classifiers_load_here_and_in_transformers(fitted: SReTClassifier, tmp_path: Path) -> None:
    images = bright(12, seed=3)[0]
    stored = np.rint(255 * images).astype(np.uint8)
    fitted.save_pretrained(tmp_path / "c")
    again = SReTClassifier.from_pretrained(tmp_path / "c", device="cpu")
    assert np.array_equal(again.predict_proba(images), fitted.predict_proba(images))
    theirs = load_classifier(tmp_path / "c")
    assert theirs.class_names == ("dark", "light")
    found = theirs.predict_proba(read_images(stored), device="cpu")
    assert np.allclose(found, fitted.predict_proba(stored), atol=1e-4)
    with pytest.raises(InputError, match="folder"):
        fitted.save_pretrained(tmp_path / "c")
    with pytest.raises(InputError, match="a folder of SReTClassifier"):
        SReTClassifier.from_pretrained(tmp_path)


def test_finetune_at_another_resolution(fitted: SReTClassifier) -> None:
    images, names = bright(20)
    larger = np.kron(images, np.ones((1, 2, 2), dtype=np.float32))
    tuned = fitted.finetune_at(16, larger, names, epochs=1)
    assert tuned.model_.config.image_size == 16
    assert tuned.score(larger, names) > 0.8
    assert fitted.model_.config.image_size == 8, "the first classifier stays as it was"
    assert tuned.learning_rate == pytest.approx(5e-4)
    with pytest.raises(InputError, match=r"groups1\[0\]"):
        fitted.finetune_at(12, images, names, groups1=(5, 1))
    with pytest.raises(InputError, match="epoch: found an option"):
        fitted.finetune_at(16, images, names, epoch=1)
    with pytest.raises(InputError, match="'grey'"):
        fitted.finetune_at(8, images, np.array(["grey"] * 20))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images of several modes, depths and sizes in a folder per class; one of them broken, one animated."""
    rng = np.random.default_rng(0)
    for name, level in (("dark", 40), ("light", 200)):
        (tmp_path / "f" / name).mkdir(parents=True)
        pixels = rng.integers(0, 40, (9, 8, 3), dtype=np.uint8) + np.uint8(level)
        for mode in ("RGB", "L", "P", "CMYK", "1", "LA"):
            image = Image.fromarray(pixels).convert("L" if mode == "LA" else mode).convert(mode)
            image.save(tmp_path / "f" / name / f"{mode}.{'jpg' if mode == 'CMYK' else 'png'}")
        Image.fromarray(pixels[..., 0].astype(np.uint16) * 257).save(tmp_path / "f" / name / "deep.png")
    frames = [Image.fromarray(pixels[..., i]) for i in range(3)]
    frames[0].save(tmp_path / "f" / "light" / "moving.gif", save_all=True, append_images=frames[1:])
    (tmp_path / "f" / "dark" / "broken.png").write_bytes(b"no image")
    return tmp_path / "f"


def test_a_folder_of_all_kinds_of_images(folder: Path, tmp_path: Path) -> None:
    made = two(network={"num_channels": 3}, image_size=8, epochs=1).fit(str(folder))
    assert made.predict_proba(str(folder)).shape == (15, 2)
    assert 0 <= made.score(folder) <= 1
    grey = two(epochs=1).fit(str(folder))
    assert grey.predict_proba(folder).shape == (15, 2), "colours become grey for a network of one channel"
    with pytest.raises(InputError, match="channels: found 1; expected 3"):
        SReTClassifier(small(num_channels=3), channels=1, epochs=1, device="cpu").fit(folder)
    made.save_pretrained(tmp_path / "c")
    said = pipeline("image-classification", model=str(tmp_path / "c"), device="cpu")(str(folder / "dark" / "RGB.png"))
    expected = made.predict_proba(read_images(folder / "dark" / "RGB.png"))[0]
    assert {one["label"]: one["score"] for one in said} == pytest.approx(
        dict(zip(("dark", "light"), expected, strict=True)), abs=1e-3
    )
    source = read_source(Config(data=str(folder)), runs.Run(tmp_path / "run"))
    assert any("broken.png" in note for note in source.notes)
    assert any("moving.gif" in note for note in source.notes)
    assert len(source.train) + len(source.test) == 15


def test_mixed_sizes_are_refused_without_a_size(folder: Path) -> None:
    Image.new("L", (20, 30)).save(folder / "dark" / "other.png")
    with pytest.raises(InputError, match=r"image_size: found images of 2 sizes \(9 x 8, 30 x 20\)"):
        SReTClassifier(epochs=1, device="cpu").fit(folder)


def test_soft_labels_of_a_teacher_alone(fitted: SReTClassifier) -> None:
    images, names = bright(30, seed=4)
    few = [*np.flatnonzero(names == "dark")[:2], *np.flatnonzero(names == "light")[:2]]
    taught = two(teacher=fitted, epochs=12).fit(images, np.where(names == "dark", "light", "dark"))
    assert taught.score(images, names) > 0.9, "with alpha 1 the labels do not count"
    more = two(teacher=fitted, epochs=12).fit(images[few], names[few], unlabelled=np.delete(images, few, 0))
    assert more.score(images, names) > 0.9


def test_teachers_of_every_kind(fitted: SReTClassifier, tmp_path: Path) -> None:
    images, names = bright(20, seed=5)
    data = read_images(images)
    classes = ["dark", "light"]
    expected = np.log(fitted.predict_proba(images))
    assert np.allclose(teacher_logits(fitted, data, classes), expected, atol=1e-5)
    assert np.allclose(teacher_logits(fitted, data, classes[::-1]), expected[:, ::-1], atol=1e-5)
    linear = LogisticRegression().fit(images.reshape(20, -1), names)
    assert np.allclose(teacher_logits(linear, data, classes), np.log(linear.predict_proba(images.reshape(20, -1))))
    logits = np.stack([np.arange(20.0), -np.arange(20.0)], 1)
    assert np.allclose(teacher_logits(logits, data, classes), logits)
    module = small(num_labels=2)
    found = two(teacher=module, epochs=0.5).fit(images, names)
    assert len(found.losses_) == 1
    fitted.save_pretrained(tmp_path / "t")
    stored = read_images(np.rint(255 * images).astype(np.uint8))
    assert np.allclose(teacher_logits(tmp_path / "t", stored, classes), fitted_log(fitted, stored), atol=1e-3)

    few = LogisticRegression().fit(images[:, 0], names)
    cases: list[tuple[Any, str]] = [
        (few, "8 features; expected 64"),
        (logits[:, :1], r"shape \(20, 1\)"),
        (fitted.predict_proba(images), "rows that add up to 1: probabilities"),
        (np.full((20, 2), np.nan), "NaN"),
        (LogisticRegression(), "not fitted"),
        (object(), "predict_proba"),
        (LogisticRegression().fit(images.reshape(20, -1), np.arange(20) % 3), "3 classes; expected the 2"),
        (LogisticRegression().fit(images.reshape(20, -1), np.where(names == "dark", "x", "y")), "class 'x'"),
    ]
    for teacher, message in cases:
        with pytest.raises(InputError, match=message):
            teacher_logits(teacher, data, classes)


def fitted_log(fitted: SReTClassifier, data: Any) -> np.ndarray:
    return np.log(fitted.predict_proba(data))


def test_bad_input_is_named() -> None:
    images, names = bright(8)
    cases: list[tuple[dict[str, Any], str]] = [
        ({"random_state": -1}, "random_state"),
        ({"batch_size": 1}, "batch_size"),
        ({"learning_rate": -1}, "learning_rate"),
        ({"alpha": 2}, "alpha"),
        ({"channels": 2}, "channels"),
        ({"network": {"num_labels": 3}}, "network: found 1 channels and 3 classes"),
        ({"teacher": np.zeros((3, 2))}, "teacher"),
    ]
    for options, message in cases:
        with pytest.raises(InputError, match=message):
            two(**options).fit(images, names)
    with pytest.raises(InputError, match="one class"):
        two().fit(images, np.zeros(8))
    with pytest.raises(InputError, match="y: found shape"):
        two().fit(images, names[:3])
    with pytest.raises(InputError, match="labels"):
        two().fit(images)
    with pytest.raises(InputError, match="unlabelled: found 8 images; expected a teacher"):
        two().fit(images, names, unlabelled=images)
    with pytest.raises(InputError, match="network"):
        SReTClassifier("huge", device="cpu").fit(images, names)
    with pytest.raises(InputError):
        two().fit(images * 300, names)
    with pytest.raises(InputError, match="probabilities"):
        check_logits("teacher", np.full((3, 2), 0.5), 3, 2)


def test_a_trained_network_is_tuned_and_its_head_fits_the_classes() -> None:
    images, names = bright(16)
    network = small()
    found = SReTClassifier(network, epochs=0.5, device="cpu").fit(images, names)
    assert found.model_.classifier.out_features == 2
    assert network.classifier.out_features == 5
    assert found.model_.config.id2label == {0: "dark", 1: "light"}
    larger = SReTClassifier(network, image_size=16, epochs=0.5, device="cpu").fit(images, names)
    assert larger.model_.config.image_size == 16


def test_weight_decay_leaves_positions_and_coefficients() -> None:
    decayed, kept = decay_groups(small())
    assert all(p.ndim >= 2 for p in decayed["params"])
    assert kept["weight_decay"] == 0
    assert sum(p.numel() for p in [*decayed["params"], *kept["params"]]) == sum(p.numel() for p in small().parameters())


@pytest.mark.parametrize("side", [5, 8, 28, 32, 64, 95, 96, 224])
def test_networks_fit_images_of_any_size(side: int) -> None:
    config = network_config("auto", (side, side + 3), 3, 7)
    assert config.classes == 7
    assert all(0 <= got - side < 32 for got in (config.sides[0], config.sides[1] - 3))
    assert config.grids[0][0] <= 28
    assert len(config.depth) == (3 if side >= 96 else 2)


def test_the_default_network_is_the_specification_s() -> None:
    config = network_config("auto", (8, 8), 1, 10)
    assert (config.widths, config.recursive_num, config.loops) == ([32, 64], [1, 2], [2, 2])
    assert (config.groups1, config.groups2) == ([4, 2], [2, 2])
    plain = network_config("auto", (8, 8), 1, 10, sliced=False, loops=3)
    assert (plain.groups1, plain.groups2, plain.loops) == ([1, 1], [1, 1], [3, 3])


def test_what_the_recipe_refuses(tmp_path: Path) -> None:
    for options, message in (
        ({"alpha": 0.5}, "alpha"),
        ({"model": "x", "network": "tiny"}, "network"),
        ({"model": "x", "loops": 3}, "loops"),
    ):
        with pytest.raises(InputError, match=message):
            runs.build_config(Config, options)
    run = runs.Run(tmp_path / "run")
    images = np.zeros((6, 8, 8), np.uint8)
    np.savez(tmp_path / "one.npz", images=images, labels=np.zeros(6, int))
    np.savez(tmp_path / "few.npz", images=images, labels=np.array([0, 0, 0, 0, 0, 1]))
    with pytest.raises(InputError, match="one class"):
        read_source(Config(data=str(tmp_path / "one.npz")), run)
    with pytest.raises(InputError, match="1 image of class '1'"):
        read_source(Config(data=str(tmp_path / "few.npz")), run)
    small().save_pretrained(tmp_path / "m")
    assert isinstance(load_model(tmp_path / "m"), SReTForImageClassification)
    with pytest.raises(InputError, match="model"):
        load_model(tmp_path / "none")
    torch.save({}, tmp_path / "x.pth")
    with pytest.raises(InputError, match="path"):
        load_model(tmp_path / "x.pth")
