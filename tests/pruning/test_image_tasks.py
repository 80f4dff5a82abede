"""Labelled images as a task, classifiers by name or folder, and the one protocol of training around a cut."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from paperworks.errors import InputError
from paperworks.nn import SmallCNN, build_network
from paperworks.pruning import (
    ImageOptions,
    ImageTask,
    accuracy,
    image_task,
    model_maker,
    reestimate_norms,
    steps_of,
    train_classifier,
)
from paperworks.runs import Run


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> ImageTask:
    return image_task(ImageOptions(limit=200), Run(tmp_path_factory.mktemp("run")))


def test_digits_are_split_by_class(digits: ImageTask) -> None:
    train, test = digits.train.tensors, digits.test.tensors
    assert len(train[0]) + len(test[0]) == 200
    assert train[0].dtype == torch.float32
    assert float(train[0].max()) <= 1
    assert set(test[1].tolist()) == set(range(10))
    assert digits.shape == (1, 8, 8)
    few = digits.of_classes([3, 7])
    assert few.class_names == ("3", "7")
    assert len(few.train) == int(((train[1] == 3) | (train[1] == 7)).sum())
    assert torch.equal(few.train.tensors[1].unique(), torch.tensor([0, 1]))
    assert len(digits.part(slice(0, 5)).train) == 5


@pytest.mark.parametrize("name", ["auto", "mlp", "small-cnn", "resnet"])
def test_a_maker_gives_logits_that_depend_on_the_seed(name: str, digits: ImageTask) -> None:
    make, trained = model_maker(name, digits)
    assert not trained
    first, again, other = (make(seed).eval()(digits.example) for seed in (0, 0, 1))
    assert first.shape == (2, 10)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_folder_is_a_trained_classifier(digits: ImageTask, tmp_path: Path) -> None:
    SmallCNN(widths=(4,), outputs=10).save_pretrained(tmp_path / "own")
    make, trained = model_maker(str(tmp_path / "own"), digits)
    assert trained
    assert make(0) is not make(0)
    SmallCNN(widths=(4,), outputs=3).save_pretrained(tmp_path / "three")
    with pytest.raises(InputError, match="10 classes"):
        model_maker(str(tmp_path / "three"), digits)
    with pytest.raises(InputError):
        model_maker(str(tmp_path / "nothing"), digits)


def _npz(folder: Path, labels: list[int], shape: tuple[int, ...] = (8, 8)) -> str:
    images = np.random.default_rng(0).integers(0, 255, (len(labels), *shape), dtype=np.uint8)
    np.savez(folder / "set.npz", images=images, labels=np.array(labels))
    return str(folder / "set.npz")


@pytest.mark.parametrize(("labels", "words"), [([0] * 8, "one class"), ([0] * 8 + [1] * 2, "2 images of class")])
def test_images_that_are_no_task(labels: list[int], words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words):
        image_task(ImageOptions(data=_npz(tmp_path, labels)), Run(tmp_path / "run"))


def test_images_that_are_not_square(digits: ImageTask, tmp_path: Path) -> None:
    task = image_task(ImageOptions(data=_npz(tmp_path, [0, 1] * 8, (8, 12))), Run(tmp_path / "run"))
    with pytest.raises(InputError, match="square"):
        model_maker("tiny-vit", task)
    assert model_maker("auto", task)[0](0)(task.example).shape == (2, 2)


def test_training_learns_in_steps_or_epochs(digits: ImageTask) -> None:
    model = build_network("mlp", image_size=8)
    before = accuracy(model, digits.train, "cpu")
    result = train_classifier(model, digits.train, epochs=25, learning_rate=0.2, device="cpu")
    assert result is not None
    assert result.steps == steps_of(25, digits.train)
    assert accuracy(model, digits.train, "cpu") > before + 0.3
    assert train_classifier(model, digits.train, epochs=0) is None
    with pytest.raises(InputError):
        train_classifier(model, digits.train)


def test_after_a_short_training_norms_have_the_statistics_of_the_data(digits: ImageTask) -> None:
    def first_norm(settle: bool) -> tuple[torch.Tensor, torch.Tensor]:
        model = build_network("small-cnn", image_size=8, widths=(4,))
        assert isinstance(model, SmallCNN)
        train_classifier(model, digits.train, steps=3, settle_norms=settle, device="cpu")
        with torch.no_grad():
            wanted = model.stem[0](digits.train.tensors[0]).mean((0, 2, 3))
        norm = model.stem[1]
        assert isinstance(norm, nn.BatchNorm2d)
        assert norm.running_mean is not None
        return norm.running_mean, wanted

    assert torch.allclose(*first_norm(True), atol=1e-5)
    assert not torch.allclose(*first_norm(False), atol=1e-2)


def test_statistics_of_norms_are_those_of_the_inputs() -> None:
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2)).eval()
    inputs = torch.randn(64, 3, 4, 4) * 2 + 5
    assert reestimate_norms(model, inputs) == 2
    first = model[0]
    assert isinstance(first, nn.BatchNorm2d)
    assert torch.allclose(first.running_mean, inputs.mean((0, 2, 3)), atol=1e-5)
    assert torch.allclose(first.running_var, inputs.transpose(0, 1).flatten(1).var(1), atol=1e-4)
    assert first.momentum == 0.1
    assert not first.training
    assert reestimate_norms(nn.Linear(2, 2), inputs) == 0


def test_batch_statistics_of_batches_by_name_and_without_some_norms() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.BatchNorm1d(3), nn.BatchNorm1d(3)

        def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
            return self.second(self.first(pixel_values))

    model, inputs = Named(), torch.randn(40, 3, generator=torch.Generator().manual_seed(0)) * 3 + 1
    batches = [{"pixel_values": part} for part in inputs.split(20)]
    assert reestimate_norms(model, batches, passes=2, skip=["second"]) == 1
    torch.testing.assert_close(model.first.running_mean, inputs.mean(0))
    unbiased = torch.stack([part.var(0) for part in inputs.split(20)]).mean(0)
    torch.testing.assert_close(model.first.running_var, unbiased)
    assert torch.equal(model.second.running_mean, torch.zeros(3))
    with pytest.raises(InputError, match="two"):
        reestimate_norms(model, [{"pixel_values": inputs[:1]}])
    with pytest.raises(InputError, match="not finite"):
        reestimate_norms(model, inputs.new_full((4, 3), float("nan")))
