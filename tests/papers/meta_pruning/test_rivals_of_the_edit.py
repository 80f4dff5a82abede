"""What the metanetwork is measured beside: growing regularisation, group L1, Taylor scores, each computed anew."""

from __future__ import annotations

import copy

import pytest
import torch
from networks_of_tests import build
from torch import nn

from paperworks.papers.meta_pruning.controls import growing_fine_tune, l1_scores, taylor_scores_on
from paperworks.papers.meta_pruning.graph import tensors_of_model
from paperworks.papers.meta_pruning.targets import Examples
from paperworks.structure.trace import TracedGroups, analyze

FIRST, SECOND = (None, "layers.0/ffn"), (None, "layers.3/ffn")


@pytest.fixture(scope="module")
def perceptron() -> tuple[nn.Module, TracedGroups]:
    """64-6-5-3 with norms: Linear, norm, ReLU, Linear, norm, ReLU, Linear."""
    model, inputs = build("mlp")
    for module in model.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    return model, analyze(model, inputs)


@pytest.fixture(scope="module")
def data() -> Examples:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(40, 1, 8, 8, generator=generator), torch.arange(40) % 3


def members(model: nn.Module) -> dict[object, list[tuple[torch.Tensor, int]]]:
    """The tensors of each group with the axis of the channels, without biases, by hand."""
    layers, head = model.layers, model.head  # type: ignore[attr-defined]
    return {
        FIRST: [(layers[0].weight, 0), (layers[1].weight, 0), (layers[3].weight, 1)],
        SECOND: [(layers[3].weight, 0), (layers[4].weight, 0), (head.weight, 1)],
    }


def by_channel(tensor: torch.Tensor, axis: int) -> torch.Tensor:
    return tensor.movedim(axis, 0).reshape(tensor.shape[axis], -1)


def test_group_l1_is_the_mean_of_the_sums_of_magnitudes(perceptron: tuple[nn.Module, TracedGroups]) -> None:
    model, groups = perceptron
    with torch.no_grad():
        model.layers[3].weight[0] = -2.0  # type: ignore[attr-defined]  # signs count nothing
    scores = l1_scores(groups)(tensors_of_model(model))
    for key, found in members(model).items():
        sums = [by_channel(tensor.detach(), axis).abs().sum(1) for tensor, axis in found]
        assert torch.allclose(scores[key].float(), torch.stack(sums).mean(0), rtol=1e-5)  # type: ignore[index]


def test_taylor_scores_are_those_of_the_weights_that_are_left(
    perceptron: tuple[nn.Module, TracedGroups], data: Examples
) -> None:
    model, groups = perceptron
    left = {name: value.clone() for name, value in tensors_of_model(model).items()}
    for name in ("layers.0.weight", "layers.0.bias", "layers.1.weight", "layers.1.bias"):
        left[name][2] = 0  # a channel that is gone
    left["layers.3.weight"][:, 2] = 0
    scores = taylor_scores_on(model, groups, data)(left)
    own = copy.deepcopy(model).eval()
    own.load_state_dict({**own.state_dict(), **left})
    nn.functional.cross_entropy(own(data[0]), data[1]).backward()
    layers = own.layers  # type: ignore[attr-defined]
    biases = {FIRST: [layers[0].bias, layers[1].bias], SECOND: [layers[3].bias, layers[4].bias]}
    for key, found in members(own).items():
        total = torch.zeros(())
        for tensor, axis in [*found, *((bias, 0) for bias in biases[key])]:  # type: ignore[index]
            total = total + by_channel(tensor.detach() * tensor.grad, axis).sum(1)
        assert torch.allclose(scores[key].float(), total.square(), rtol=1e-3, atol=1e-12)  # type: ignore[index]
    assert scores[FIRST][2] == 0
    assert float(scores[FIRST].max()) > 0


@pytest.mark.parametrize("uniform", [True, False])
def test_growing_regularisation_adds_a_decay_that_rises(
    perceptron: tuple[nn.Module, TracedGroups], data: Examples, uniform: bool
) -> None:
    """The same steps written out: whole batches, momentum 0.9, a decay of the channels that grows every second step."""
    model, groups = perceptron
    growth, every, steps, rate = 0.5, 2, 5, 0.05
    tuned = growing_fine_tune(
        copy.deepcopy(model),
        groups,
        data,
        growth=growth,
        every=every,
        uniform=uniform,
        epochs=steps,
        learning_rate=rate,
        batch_size=len(data[1]),
        weight_decay=0.0,
        device="cpu",
    )
    own = copy.deepcopy(model).train()
    decay = {FIRST: torch.zeros(6), SECOND: torch.zeros(5)}
    speed = {name: torch.zeros_like(p) for name, p in own.named_parameters()}
    for step in range(steps):
        own.zero_grad()
        nn.functional.cross_entropy(own(data[0]), data[1]).backward()
        with torch.no_grad():
            for key, found in members(own).items():
                norms = torch.stack([by_channel(t, a).square().sum(1) for t, a in found]).mean(0).sqrt()
                if step % every == 0:
                    weak = (norms.max() - norms) / (norms.max() - norms.min())
                    decay[key] += growth * (1.0 if uniform else weak)  # type: ignore[index]
                for tensor, axis in found:
                    shape = [-1 if a == axis else 1 for a in range(tensor.ndim)]
                    tensor.grad += decay[key].view(shape) * tensor  # type: ignore[index, operator]
            for name, parameter in own.named_parameters():
                speed[name] = 0.9 * speed[name] + parameter.grad  # type: ignore[operator]
                parameter -= rate * speed[name]
    for name, parameter in own.named_parameters():
        assert torch.allclose(tuned.get_parameter(name), parameter, atol=2e-5), name
    assert not tuned.training
