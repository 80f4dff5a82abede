"""Weights stored the other way round, padding that repeats the image, options without effect."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from paperworks.errors import InputError
from paperworks.papers.pruning_survey import (
    DynamicSparseTraining,
    PrunedClassifier,
    input_grams,
    prunable_weights,
    prune,
    read_spec,
)


class Turned(nn.Module):
    """Two of transformers' Conv1D, which store ``[in, out]``."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = Conv1D(8, 4), Conv1D(8, 8)  # the second is square: only its name tells the axes

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x).relu())


@pytest.mark.parametrize(
    "spec",
    [
        {"criterion": "wanda", "scope": "row"},
        {"criterion": "obs", "scope": "row"},
        {"scope": "row", "schedule": "iterative", "rounds": 2},
        {"speedup": "semi-structured", "pattern": "2:4"},
        {"speedup": "semi-structured", "pattern": "block:4x1"},
        {"criterion": "sparsegpt", "recovery": "update"},
        {"criterion": "sparsegpt", "speedup": "semi-structured", "pattern": "1:4"},
    ],
)
def test_weights_of_transformers_conv1d_are_pruned_as_those_of_linear_layers(spec: dict[str, Any]) -> None:
    torch.manual_seed(0)
    turned, plain = Turned(), nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8))
    for layer, other in ((plain[0], turned.first), (plain[2], turned.second)):
        nn.init.normal_(other.weight)
        layer.load_state_dict({"weight": other.weight.T, "bias": other.bias})
    x = torch.randn(40, 4)
    found, expected = prune(turned, spec, data=x), prune(plain, spec, data=x)
    for name, wanted in zip(found.masks, expected.masks.values(), strict=True):
        assert torch.equal(found.masks[name].T, wanted)
    torch.testing.assert_close(found.model(x), expected.model(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "options", [{"padding": 1, "padding_mode": "circular"}, {"padding": "same"}, {"padding": 2, "groups": 2}]
)
def test_grams_are_of_what_the_kernels_see(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(4, 6, 4 if options["padding"] == "same" else 3, bias=False, **options).double()
    x = torch.randn(3, 4, 7, 7, dtype=torch.float64)
    gram = input_grams(layer, prunable_weights(layer), [{"inputs": x}])["weight"]
    weight = layer.weight.detach().flatten(1).unflatten(0, (len(gram), -1))
    energy = ((weight @ gram) * weight).sum()
    torch.testing.assert_close(energy, layer(x).detach().square().sum(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("options", [{"padding": "same", "dilation": 2}, {"stride": 2, "groups": 2}])
def test_convolutions_in_one_dimension_have_grams(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    layer = nn.Conv1d(4, 6, 3, bias=False, **options).double()
    x = torch.randn(3, 4, 11, dtype=torch.float64)
    gram = input_grams(layer, prunable_weights(layer), [{"inputs": x}])["weight"]
    weight = layer.weight.detach().flatten(1).unflatten(0, (len(gram), -1))
    torch.testing.assert_close(((weight @ gram) * weight).sum(), layer(x).detach().square().sum(), rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"speedup": "semi-structured", "pattern": "2:4", "schedule": "gradual", "rounds": 2}, "schedule"),
        ({"criterion": "sparsegpt", "schedule": "iterative", "rounds": 2}, "schedule"),
        ({"scope": "erk", "floor": 0.1}, "floor"),
    ],
)
def test_options_that_would_do_nothing_are_refused(spec: dict[str, Any], field: str) -> None:
    with pytest.raises(InputError, match=field):
        read_spec(spec)


@pytest.mark.parametrize("spec", [{"when": "before", "weights": "initialised"}, {"recovery": "distil"}])
def test_the_classifier_refuses_what_it_does_not_do(spec: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="spec"):
        PrunedClassifier(spec=spec, steps=1).fit(np.eye(4), [0, 1, 0, 1])


def test_a_pattern_that_empties_a_layer_is_refused() -> None:
    model = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 2))
    spec = {"speedup": "semi-structured", "pattern": "block:8x16", "ratio": 0.7}
    with pytest.raises(InputError, match=r"2\.weight"):
        prune(model, spec)
    assert prune(model, {**spec, "allow_collapse": True}).report["least kept"] == 0


def test_rigl_grows_where_the_gradient_is_largest_also_what_has_just_left() -> None:
    model = nn.Sequential(nn.Linear(4, 1, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[0.1, 2.0, 3.0, 0.0]]))
    masks = {"0.weight": torch.tensor([[True, True, True, False]])}
    moving = DynamicSparseTraining(model, masks, until=100, every=1, alpha=0.5)
    with moving:
        model(torch.tensor([[9.0, 1, 1, 5]])).sum().backward()  # gradients 9, 1, 1, 5
        moving.after_step(1, 0.0, 0.1)
    assert moving.masks["0.weight"].tolist() == [[True, True, True, False]]
