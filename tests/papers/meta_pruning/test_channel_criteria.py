"""Criteria, their gradients, and plans of channels, against their definitions."""

from __future__ import annotations

import pytest
import torch
from networks_of_tests import build
from torch import nn

from paperworks.errors import InputError
from paperworks.papers.meta_pruning import (
    group_importance,
    group_l2_scores,
    magnitude_masks,
    n_of_m_masks,
    pull,
    sparsity_gradient,
    speed_plans,
)
from paperworks.papers.meta_pruning.graph import tensors_of_model
from paperworks.papers.meta_pruning.targets import accuracy, accuracy_curve
from paperworks.structure.trace import TracedGroups, analyze, cut


@pytest.fixture(scope="module")
def perceptron() -> tuple[nn.Module, torch.Tensor, TracedGroups]:
    model, inputs = build("mlp")
    return model, inputs, analyze(model, inputs)


@pytest.fixture(scope="module")
def residual() -> tuple[nn.Module, torch.Tensor, TracedGroups]:
    model, inputs = build("residual")
    return model, inputs, analyze(model, inputs)


def test_group_l2_is_the_mean_of_the_squared_norms_of_the_members(
    perceptron: tuple[nn.Module, torch.Tensor, TracedGroups],
) -> None:
    model, _, groups = perceptron
    tensors = tensors_of_model(model)
    layers = model.layers
    first = torch.stack(
        [layers[0].weight.square().sum(1), layers[1].weight.square(), layers[3].weight.square().sum(0)]
    ).mean(0)
    scores = group_l2_scores(tensors, groups)
    assert torch.allclose(scores[None, "layers.0/ffn"].float(), first)


def test_the_sparsity_gradient_is_that_of_a_weighted_squared_norm(
    residual: tuple[nn.Module, torch.Tensor, TracedGroups],
) -> None:
    model, _, groups = residual
    tensors = {name: value.clone().requires_grad_(True) for name, value in tensors_of_model(model).items()}
    total = torch.zeros(())
    for units in groups.units.values():
        pulls = pull(group_importance(tensors, units)).detach()
        assert float(pulls.min()) == pytest.approx(1)
        assert float(pulls.max()) == pytest.approx(16)
        for piece in units.slices:
            if not piece.param.endswith("bias"):
                for unit in range(units.n_units):
                    positions = piece.index.table[unit]
                    chosen = tensors[piece.param].index_select(piece.axis, positions[positions >= 0])
                    total = total + 0.5 * 0.3 * pulls[unit] * chosen.square().sum()
    total.backward()
    found = sparsity_gradient({name: value.detach() for name, value in tensors.items()}, groups, 0.3)
    for name, value in tensors.items():
        if value.grad is None:
            assert name not in found
        else:
            assert torch.allclose(found[name], value.grad, rtol=1e-5)


def test_channels_that_are_alike_are_pulled_alike() -> None:
    assert torch.equal(pull(torch.full((4,), 2.0)), torch.ones(4))
    assert torch.equal(pull(torch.zeros(3)), torch.ones(3))
    weak, middle, strong = pull(torch.tensor([0.0, 1.0, 4.0])).tolist()
    assert (weak, middle, strong) == (16.0, 4.0, 1.0)
    with pytest.raises(InputError, match="weights"):
        pull(torch.tensor([float("nan"), 1.0]))


@pytest.mark.parametrize("criterion", ["group-l2", "group-l2-mean", "group-l2-none", "random"])
def test_plans_reach_their_speed_and_leave_a_channel_in_each_group(
    residual: tuple[nn.Module, torch.Tensor, TracedGroups], criterion: str
) -> None:
    model, _, groups = residual
    dense = groups.cost().macs
    speeds = [2.0, 1.0, 4.0]
    plans = speed_plans(tensors_of_model(model), groups, speeds, criterion=criterion)  # type: ignore[arg-type]
    for speed, plan in zip(speeds, plans, strict=True):
        assert groups.cost(plan).macs <= dense / speed
        assert all(len(kept) >= 1 for kept in plan.kept.values())
    for key, kept in plans[2].kept.items():
        assert set(kept) <= set(plans[0].kept[key])  # step by step: what is gone stays gone
    assert groups.cost(plans[1]).macs == dense


def test_a_channel_takes_the_weights_that_read_it_with_it(
    perceptron: tuple[nn.Module, torch.Tensor, TracedGroups],
) -> None:
    """Brute force: remove the weakest channel, compute all norms anew, and so on."""
    model, inputs, groups = perceptron
    (plan,) = speed_plans(tensors_of_model(model), groups, [2.0], steps=10**6)
    state = {name: value.clone() for name, value in tensors_of_model(model).items()}
    left = [list(range(6)), list(range(5))]
    while 64 * len(left[0]) + len(left[0]) * len(left[1]) + len(left[1]) * 3 > groups.cost().macs / len(inputs) / 2:
        one, two = left
        w0, w1, head = (
            state["layers.0.weight"][one],
            state["layers.3.weight"][two][:, one],
            state["head.weight"][:, two],
        )
        norms = [
            w0.square().sum(1) + state["layers.1.weight"][one].square() + w1.square().sum(0),
            w1.square().sum(1) + state["layers.4.weight"][two].square() + head.square().sum(0),
        ]
        scaled = [norm / norm.max() for norm in norms]
        which = int(scaled[1].min() < scaled[0].min())
        left[which].pop(int(scaled[which].argmin()))
    assert [list(plan.kept[None, name]) for name in ("layers.0/ffn", "layers.3/ffn")] == left


def test_curves_are_those_of_networks_that_are_cut(residual: tuple[nn.Module, torch.Tensor, TracedGroups]) -> None:
    model, _, groups = residual
    generator = torch.Generator().manual_seed(0)
    data = (torch.rand(64, 1, 8, 8, generator=generator), torch.randint(3, (64,), generator=generator))
    speeds = (1.0, 1.5, 3.0)
    curve = accuracy_curve(model, groups, data, speeds)
    plans = speed_plans(tensors_of_model(model), groups, speeds)
    assert curve.tolist() == [accuracy(cut(groups, plan), data) for plan in plans]


def test_masks_keep_the_largest_weights() -> None:
    tensors = {"a": torch.tensor([[1.0, -4.0, 2.0, 3.0, 9.0]]), "b": torch.tensor([[0.5, -8.0]])}
    masks = magnitude_masks(tensors, ["a", "b"], 3 / 7)
    assert masks["a"].tolist() == [[False, True, False, True, True]]
    assert masks["b"].tolist() == [[False, True]]
    pattern = n_of_m_masks(tensors, ["a", "b"])
    assert pattern["a"].tolist() == [[False, True, False, True, True]]  # the fifth has no block of four
    assert pattern["b"].tolist() == [[True, True]]
    for sparsity in (-0.1, 1.0, float("nan")):
        with pytest.raises(InputError, match="sparsity"):
            magnitude_masks(tensors, ["a"], sparsity)
    with pytest.raises(InputError, match="n"):
        n_of_m_masks(tensors, ["a"], 5, 4)


def test_targets_out_of_reach_are_refused(perceptron: tuple[nn.Module, torch.Tensor, TracedGroups]) -> None:
    model, _inputs, groups = perceptron
    tensors = tensors_of_model(model)
    for speed in (0.5, float("nan"), 1000.0):
        with pytest.raises(InputError, match="speedup"):
            speed_plans(tensors, groups, [speed])
    with pytest.raises(InputError, match="measure"):
        speed_plans(tensors, groups, [2.0], measure="flops")
    with pytest.raises(InputError, match="weights"):
        speed_plans({**tensors, "layers.0.weight": tensors["layers.0.weight"] * float("nan")}, groups, [2.0])
    linear = nn.Linear(3, 2)
    with pytest.raises(InputError, match="model"):
        speed_plans(tensors_of_model(linear), analyze(linear, torch.rand(2, 3)), [2.0])
