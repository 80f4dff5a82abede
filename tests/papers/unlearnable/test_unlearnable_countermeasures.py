"""Counter-measures: what each does to images is known by hand, by another library or in closed form."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from paperworks.errors import InputError
from paperworks.papers.unlearnable import AdversarialTraining, grey, jpeg, orthogonal_projection, reduce_bits
from paperworks.papers.unlearnable.surrogates import SurrogateTraining


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).random((12, 3, 8, 8), dtype=np.float32)


def test_jpeg_is_that_of_pillow(images: np.ndarray) -> None:
    for channels, quality in ((1, 10), (3, 60)):
        given = images[:, :channels]
        found = jpeg(given, quality)
        for before, after in zip(given, found, strict=True):
            values = np.round(before.transpose(1, 2, 0) * 255).astype(np.uint8)
            file = io.BytesIO()
            Image.fromarray(values.squeeze()).save(file, "JPEG", quality=quality)
            np.testing.assert_array_equal(
                np.round(after * 255).transpose(1, 2, 0).squeeze(), np.asarray(Image.open(file))
            )
    even = np.full((1, 1, 8, 8), 128 / 255, np.float32)
    np.testing.assert_allclose(jpeg(even, 10), even, atol=1e-6)
    assert np.abs(jpeg(images, 10) - images).mean() > np.abs(jpeg(images, 95) - images).mean()


@pytest.mark.parametrize("bits", [1, 2, 8])
def test_fewer_bits_are_the_nearest_levels(images: np.ndarray, bits: int) -> None:
    found = reduce_bits(images, bits)
    levels = np.linspace(0, 1, 2**bits, dtype=np.float32)
    nearest = np.abs(images[..., None] - levels).min(-1)
    np.testing.assert_allclose(np.abs(found - images), nearest, atol=1e-6)
    np.testing.assert_array_equal(reduce_bits(found, bits), found)


def test_grey_images_have_equal_channels(images: np.ndarray) -> None:
    found = grey(images)
    np.testing.assert_allclose(found[:, 0], images.mean(1), atol=1e-6)
    assert found.shape == images.shape
    assert (found == found[:, :1]).all()
    np.testing.assert_allclose(grey(images[:, :1]), images[:, :1])


def test_the_projection_removes_as_many_directions_as_there_are_classes() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.random((60, 1, 3, 3), dtype=np.float32), np.arange(60) % 4
    x[y == 2, 0, 1, 1] += 5  # a linear shortcut
    found = orthogonal_projection(x, y)
    assert found.shape == x.shape
    assert np.linalg.matrix_rank(found.reshape(60, -1), tol=1e-3) == 9 - 4
    before, after = (float(abs(v[y == 2].mean(0) - v[y != 2].mean(0)).max()) for v in (x, found))
    assert after < before / 2
    np.testing.assert_array_equal(orthogonal_projection(x, y), found)


def test_the_worst_change_of_a_linear_model_is_known() -> None:
    """For two classes the loss of a linear model rises along the sign of the weights' difference."""
    torch.manual_seed(0)
    model = torch.nn.Linear(6, 2)
    images, labels = torch.rand(20, 6) * 0.4 + 0.3, torch.arange(20) % 2
    found = AdversarialTraining(eps=0.1).worst(model, images, labels)
    slope = (model.weight[1] - model.weight[0]).detach().sign()
    expected = images + 0.1 * torch.where(labels[:, None] == 0, slope, -slope)
    torch.testing.assert_close(found, expected)
    assert AdversarialTraining(eps=0.9).worst(model, images, labels).aminmax() == (0, 1)


def test_adversarial_training_makes_a_model_that_holds_out_better() -> None:
    rng = np.random.default_rng(0)
    y = np.arange(200) % 2
    x = (np.stack([y + rng.normal(0, 0.6, 200), 0.12 * (2 * y - 1) + 0.5 + rng.normal(0, 0.01, 200)], 1)).astype(
        np.float32
    )
    x = (x - x.min(0)) / (x.max(0) - x.min(0))
    kept = {}
    for name, how in (
        ("plain", SurrogateTraining(epochs=40)),
        ("adversarial", AdversarialTraining(epochs=40, eps=0.3)),
    ):
        torch.manual_seed(0)
        model = how.train(torch.nn.Linear(2, 2), x, y, 0, "cpu")
        attacked = AdversarialTraining(eps=0.3).worst(model, torch.from_numpy(x), torch.from_numpy(y))
        kept[name] = float((model(attacked).argmax(1).numpy() == y).mean())
    assert kept["adversarial"] >= kept["plain"]


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda x: jpeg(x, 0), "quality"),
        (lambda x: jpeg(x[:, :2]), "X"),
        (lambda x: jpeg(x * 2), "X"),
        (lambda x: reduce_bits(x, 9), "bits"),
        (lambda x: grey(x[0]), "X"),
        (lambda x: orthogonal_projection(x, np.zeros(12), random_state=-1), "random_state"),
        (lambda x: AdversarialTraining(eps=0), "eps"),
        (lambda x: AdversarialTraining(attack_steps=0), "attack_steps"),
    ],
)
def test_bad_input_names_its_field(images: np.ndarray, call: Callable[[np.ndarray], Any], field: str) -> None:
    with pytest.raises(InputError) as caught:
        call(images)
    assert caught.value.field == field
