"""ModHiFi-U: which kernels are edited, what is left, attacks, and synthetic samples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch import nn

from paperworks.errors import InputError
from paperworks.nn import build_network
from paperworks.papers.modhifi import ClassUnlearner, SyntheticImages, frechet_distance
from paperworks.papers.modhifi.attacks import (
    forgetting,
    gradient_ascent,
    membership_auc,
    probe_accuracy,
    random_edits,
    recalled,
    without_logit,
)
from paperworks.papers.modhifi.unlearner import best_pairs, with_edits
from paperworks.pruning import train_classifier


def blobs(per_class: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Three classes: a bright corner each."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(3).repeat_interleave(per_class)
    images = 0.3 * torch.rand(3 * per_class, 1, 6, 6, generator=generator)
    for k, (row, column) in enumerate(((0, 0), (0, 3), (3, 0))):
        images[labels == k, :, row : row + 3, column : column + 3] += 0.7
    return images, labels


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    model = build_network("small-cnn", image_size=6, outputs=3, widths=(8, 12))
    data = torch.utils.data.TensorDataset(*blobs(40, 0))
    train_classifier(model, data, epochs=20, learning_rate=0.1, device="cpu")
    return model.eval()


def test_a_class_is_forgotten_and_comes_back_with_the_statistics(trained: nn.Module) -> None:
    x, y = blobs(30, 1)
    test = blobs(20, 2)
    dense = forgetting(trained, test, 1)
    assert dense.forget == dense.remain == 1
    one = ClassUnlearner(layers=1, min_agreement=0.8).fit(trained, x[y == 1], x[y != 1])
    ours = forgetting(one.model_, test, 1)
    assert one.report_.met
    assert ours.forget < 0.5
    assert ours.remain > 0.7
    assert ours.confidence < dense.confidence
    back = forgetting(recalled(one.model_, x[y != 1]), test, 1)
    assert back.forget >= ours.forget
    assert [trial[0] for trial in one.report_.trials] == sorted(trial[0] for trial in one.report_.trials)
    assert one.report_.edit == "zero"
    assert 0 < one.report_.share <= 0.5
    assert probe_accuracy(one.model_, (x, y), test, 1) > 0.8
    assert 0 <= membership_auc(one.model_, x[y == 1], test[0][test[1] == 1]) <= 1


def test_only_the_best_pairs_are_edited(trained: nn.Module) -> None:
    x, y = blobs(10, 3)
    one = ClassUnlearner(0.25, layers=2).fit(trained, x[y == 0])
    for path, pairs in one.report_.edited.items():
        before, after = (m.get_submodule(path).weight.detach() for m in (trained, one.model_))
        assert bool((after[pairs] == 0).all())
        assert torch.equal(after[~pairs], before[~pairs])
        assert pairs.sum(1).tolist() == [round(0.25 * pairs.shape[1])] * len(pairs)
    others = [n for n, _ in trained.named_parameters() if n.rpartition(".")[0] not in one.report_.edited]
    state = dict(one.model_.named_parameters())
    assert all(torch.equal(state[n], p) for n, p in trained.named_parameters() if n in others)
    random = random_edits(trained, one.report_.edited, "zero", seed=1)
    for path, pairs in one.report_.edited.items():
        assert int((random.get_submodule(path).weight.flatten(2).abs().sum(2) == 0).sum()) == int(pairs.sum())


def test_pairs_of_an_output_and_of_a_layer() -> None:
    scores = torch.tensor([[1.0, 9, 2, 3], [4, 3, 2, 1]])
    assert best_pairs(scores, 0.25).tolist() == [[False, True, False, False], [True, False, False, False]]
    assert best_pairs(scores, 0.01).sum() == 2
    assert best_pairs(scores, 0.01, "layer").tolist() == [[False, True, False, False], [False] * 4]
    layer = nn.Sequential(nn.Linear(4, 2))
    negated = with_edits(layer, {"0": best_pairs(scores, 0.25)}, "negate")
    torch.testing.assert_close(negated[0].weight[0, 1], -layer[0].weight[0, 1])
    assert torch.equal(negated[0].weight[0, 0], layer[0].weight[0, 0])


def test_transformers_are_negated_in_all_linear_layers_but_the_last() -> None:
    model = build_network("tiny-vit", image_size=6, patch_size=3, width=16, layers=2, heads=2, outputs=3)
    one = ClassUnlearner(0.1).fit(model, blobs(4, 0)[0])
    assert one.report_.edit == "negate"
    assert list(one.report_.edited) == [f"blocks.{i}.linear{k}" for i in (0, 1) for k in (1, 2)]


def test_simple_ways_beside_it(trained: nn.Module) -> None:
    x, y = blobs(20, 4)
    hidden = without_logit(trained, 1)
    assert forgetting(hidden, (x, y), 1).forget == 0
    assert probe_accuracy(hidden, (x, y), (x, y), 1) > 0.9
    before = forgetting(trained, (x, y), 1).confidence
    assert (
        forgetting(gradient_ascent(trained, x[y == 1], y[y == 1], steps=5, learning_rate=0.01), (x, y), 1).confidence
        < before
    )


@pytest.mark.parametrize("kind", ["density", "mixture", "moments", "noise"])
def test_synthetic_images_follow_their_class(kind: Any) -> None:
    x, y = blobs(40, 5)
    source = SyntheticImages(kind, components=2).fit(x, y)
    made, codes = source.sample(60, seed=1)
    assert made.shape == (180, 1, 6, 6)
    assert made.dtype == torch.float32
    assert torch.bincount(codes).tolist() == [60, 60, 60]
    assert float(made.min()) >= float(x.min())
    assert float(made.max()) <= float(x.max())
    again, _ = source.sample(60, seed=1)
    assert torch.equal(made, again)
    centres = torch.stack([x[y == k].mean(0) for k in range(3)])
    nearest = (made[:, None] - centres).flatten(2).norm(dim=2).argmin(1)
    share = float((nearest == codes).double().mean())
    assert share < 0.6 if kind == "noise" else share > 0.95
    if kind != "noise":
        torch.testing.assert_close(made[codes == 2].mean(0), centres[2], atol=0.12, rtol=0)


def test_moments_have_the_covariance_of_the_class() -> None:
    generator = torch.Generator().manual_seed(6)
    x = torch.randn(200, 3, generator=generator) @ torch.tensor([[1.0, 0.5, 0], [0, 1, 0], [0, 0, 0.2]])
    made, _ = SyntheticImages("moments").fit(x).sample(20000)
    inside = ((x > made.min()) & (x < made.max())).all()
    assert bool(inside) or made.shape == (20000, 3)
    torch.testing.assert_close(torch.cov(made.T), torch.cov(x.T), atol=0.1, rtol=0.1)


def test_frechet_distance_is_that_of_the_definition() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(50, 3)), rng.normal(1, 2, size=(60, 3))
    s, t = np.cov(a.T), np.cov(b.T)
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(s + t - 2 * sqrtm(s @ t).real)
    assert frechet_distance(a, b) == pytest.approx(expected)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    with pytest.raises(InputError, match="features"):
        frechet_distance(a, b[:, :2])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"p": 0}, "p"),
        ({"layers": "last"}, "auto"),
        ({"layers": 0}, "layers"),
        ({"edit": "halve"}, "negate"),
        ({"within": "network"}, "output"),
        ({"score": "best"}, "rowsum"),
        ({"min_agreement": 0}, "min_agreement"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ClassUnlearner(**options)


def test_bad_input(trained: nn.Module) -> None:
    x, y = blobs(4, 0)
    for call, message in (
        (lambda: ClassUnlearner().fit(trained, x[:0]), "at least one"),
        (lambda: ClassUnlearner(layers=99).fit(trained, x), "at most"),
        (lambda: ClassUnlearner(layers=["nothing"]).fit(trained, x), "one of"),
        (lambda: forgetting(trained, (x, y), 7), "some, but not all"),
        (lambda: without_logit(trained, 7), "0 to 2"),
        (lambda: without_logit(nn.Sequential(nn.Flatten(), nn.Linear(36, 3, bias=False)), 0), "bias"),
        (lambda: SyntheticImages("gauss"), "density"),  # type: ignore[arg-type]
        (lambda: SyntheticImages(bandwidth=-1), "bandwidth"),
        (lambda: SyntheticImages().fit(x[:0]), "finite images"),
        (lambda: SyntheticImages().fit(x).sample(0), "per_class"),
    ):
        with pytest.raises(InputError, match=message):
            call()
