"""Shapes, their networks, and what they cost."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from paperworks.errors import InputError
from paperworks.papers.tas import (
    NetworkShape,
    SearchNetwork,
    ShapedNetwork,
    cifar_resnet,
    cost_penalty,
    depth_candidates,
    export_program,
    imagenet_resnet,
    inherit_weights,
    macs,
    parameters,
    plain_network,
    released_shape,
    total_cost,
    width_candidates,
)

BOTTLENECK = NetworkShape(3, (((2, 2, 8), (2, 3, 8)), ((4, 4, 16),)), (1, 2), "bottleneck", "large", 3, 5)
ODD = NetworkShape(6, (((4, 9), (5, 6)), ((7, 8), (9, 10)), ((3, 4),)), (1, 2, 2), "basic", "small", 1, 3)
CHAIN = plain_network(4, ((5, 6), (7,)), (2, 2), outputs=3, channels=1)


def counted(network: nn.Module, images: torch.Tensor) -> int:
    """Multiply-accumulates by hooks on the layers that run."""
    total = 0

    def note(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal total
        weight = module.get_parameter("weight")
        total += weight.numel() * (output[0, 0].numel() if isinstance(module, nn.Conv2d) else 1)

    hooks = [m.register_forward_hook(note) for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    with torch.no_grad():
        network.eval()(images)
    for hook in hooks:
        hook.remove()
    return total


@pytest.mark.parametrize("shape", [BOTTLENECK, ODD, CHAIN], ids=["bottleneck", "basic", "plain"])
@pytest.mark.parametrize("size", [(16, 16), (13, 9)])
def test_the_cost_is_what_runs(shape: NetworkShape, size: tuple[int, int]) -> None:
    network = ShapedNetwork.of(shape)
    images = torch.randn(1, shape.channels, *size)
    assert counted(network, images) == total_cost(shape, size)
    with FlopCounterMode(display=False) as flops, torch.no_grad():
        network(images)
    assert flops.get_total_flops() == 2 * total_cost(shape, size)
    assert sum(p.numel() for p in network.parameters()) == total_cost(shape, size, parameters)


@pytest.mark.parametrize(
    ("data", "depth", "millions", "full"),
    [
        ("cifar10", 20, 22.4445, 40.8132),
        ("cifar10", 32, 34.9453, 69.1247),
        ("cifar10", 56, 59.858, 125.748),
        ("cifar10", 110, 119.259, 253.150),
        ("cifar100", 20, 22.434, 40.819),
        ("cifar100", 32, 42.469, 69.130),
        ("cifar100", 56, 61.234, 125.754),
        ("cifar100", 110, 119.578, 253.156),
    ],
)
def test_released_shapes(data: str, depth: int, millions: float, full: float) -> None:
    shape = released_shape(data, depth)  # type: ignore[arg-type]
    assert total_cost(shape, (32, 32)) / 1e6 == pytest.approx(millions, abs=6e-4)
    whole = cifar_resnet(depth, outputs=shape.outputs)
    assert total_cost(whole, (32, 32)) / 1e6 == pytest.approx(full, abs=6e-4)


def test_imagenet_and_bottleneck_networks_have_their_known_sizes() -> None:
    assert total_cost(imagenet_resnet(50), (224, 224)) / 1e9 == pytest.approx(4.089, abs=1e-3)
    assert total_cost(imagenet_resnet(50), (224, 224), parameters) / 1e6 == pytest.approx(25.55, abs=0.01)
    assert total_cost(cifar_resnet(164), (32, 32)) / 1e6 == pytest.approx(247.647, abs=1e-3)


def test_candidates() -> None:
    assert width_candidates(16) == (4, 6, 8, 9, 11, 12, 14, 16)
    assert width_candidates(64) == (19, 25, 32, 38, 44, 51, 57, 64)
    assert width_candidates(3) == (1, 2, 3)
    assert width_candidates(1) == (1,)
    assert depth_candidates((2, 3, 9, 6)) == ((1, 2), (1, 2, 3), (1, 3, 5, 7, 9), (1, 3, 5, 6))
    assert depth_candidates((3, 4, 6, 3), "large") == ((1, 2, 3), (1, 2, 4), (2, 4, 6), (1, 2, 3))


def everything(space: SearchNetwork) -> float:
    """The mean cost by enumeration of all networks."""
    chances = [p.detach().numpy() for p in space.probabilities()]
    mean = 0.0
    for places in itertools.product(*(range(len(p)) for p in chances)):
        chance = float(np.prod([p[place] for p, place in zip(chances, places, strict=True)]))
        mean += chance * space.cost_of(space.genotype_at(list(places)))
    return mean


def corners(operator: object, inputs: int, outputs: int) -> float:
    """A cost that is no product of widths."""
    return float((inputs * 7 + outputs**2) % 11)


@pytest.mark.parametrize("cost", ["macs", "parameters", corners])
@pytest.mark.parametrize("block", ["basic", "plain"])
def test_the_expected_cost_is_the_mean_over_all_networks(block: str, cost: object) -> None:
    if block == "basic":
        shape = NetworkShape(4, (((3, 4), (2, 4)), ((6, 6),)), (1, 2), "basic", "small", 1, 3)
    else:
        shape = plain_network(4, ((4, 5, 4), (6,)), (1, 2), outputs=2, channels=1)
    space = SearchNetwork(shape, (6, 5), ratios=(0.5, 1.0), cost=cost, seed=3)  # type: ignore[arg-type]
    with torch.no_grad():
        for logits in space.architecture_parameters():
            logits.normal_(generator=torch.Generator().manual_seed(1))
    assert float(space.expected_cost().detach()) == pytest.approx(everything(space), rel=1e-12)


def test_penalty() -> None:
    cost = torch.tensor(100.0, requires_grad=True)
    for actual, slope in ((120.0, 0.01), (104.0, 0.0), (96.0, 0.0), (80.0, -0.01)):
        (gradient,) = torch.autograd.grad(cost_penalty(cost, actual, 100.0), cost)
        assert float(gradient) == pytest.approx(slope)
    (above,) = torch.autograd.grad(cost_penalty(cost, 101.0, 100.0, rule="code", full=200.0), cost)
    (below,) = torch.autograd.grad(cost_penalty(cost, 91.0, 100.0, rule="code", full=200.0), cost)
    assert (float(above), float(below)) == (pytest.approx(0.01), 0.0)
    with pytest.raises(InputError, match="full"):
        cost_penalty(cost, 1.0, 1.0, rule="code")


def test_a_saved_network_and_its_program(tmp_path: Path) -> None:
    network = ShapedNetwork.of(ODD, seed=4).eval()
    images = torch.randn(3, 1, 9, 9)
    expected = network(images)
    network.save_pretrained(tmp_path / "network")
    assert torch.equal(ShapedNetwork.from_pretrained(tmp_path / "network")(images), expected)
    export_program(network, images, tmp_path / "network.pt2")
    again = torch.export.load(tmp_path / "network.pt2").module()
    assert torch.equal(again(images), expected)
    assert torch.allclose(again(images[:1]), expected[:1], atol=1e-6)
    with pytest.raises(InputError, match="path"):
        export_program(network, images, tmp_path / "network.pt2")


def test_shapes_as_json(tmp_path: Path) -> None:
    ODD.save(tmp_path / "shape.json")
    assert NetworkShape.load(tmp_path / "shape.json") == ODD
    with pytest.raises(InputError, match="path"):
        ODD.save(tmp_path / "shape.json")
    (tmp_path / "bad.json").write_text("[1]", encoding="utf-8")
    with pytest.raises(InputError, match="path"):
        NetworkShape.load(tmp_path / "bad.json")
    with pytest.raises(InputError, match="stem"):
        NetworkShape.from_dict({name: value for name, value in ODD.to_dict().items() if name != "stem"})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("block", "dense"),
        ("stages", ((),)),
        ("stages", (((1, 2, 3),),)),
        ("stages", (((0, 2),),)),
        ("strides", (3, 1, 1)),
        ("stem", 0),
        ("stem_kind", "huge"),
    ],
)
def test_bad_shapes(field: str, value: object) -> None:
    with pytest.raises(InputError, match=field):
        dataclasses.replace(ODD, **{field: value})


def test_other_bad_input() -> None:
    with pytest.raises(InputError, match="depth"):
        cifar_resnet(21)
    with pytest.raises(InputError, match="depth"):
        imagenet_resnet(19)
    with pytest.raises(InputError, match="depth"):
        released_shape("cifar10", 164)
    with pytest.raises(InputError, match="ratios"):
        width_candidates(8, (0.0, 1.0))
    with pytest.raises(InputError, match="depths"):
        ODD.resized(ODD.widths, (3, 1, 1))
    with pytest.raises(InputError, match="cost"):
        SearchNetwork(ODD, (8, 8), cost="seconds")  # type: ignore[arg-type]


def test_inherited_weights_compute_the_same_where_nothing_is_cut() -> None:
    network = ShapedNetwork.of(ODD, seed=1).eval()
    same = inherit_weights(network, ODD).eval()
    images = torch.randn(2, 1, 8, 8)
    assert torch.equal(same(images), network(images))


def test_inherited_channels_are_the_strongest_and_the_function_of_zeroed_ones() -> None:
    network = ShapedNetwork.of(CHAIN, seed=1).eval()
    smaller = inherit_weights(network, CHAIN.resized((4, 3, 6, 7), (2, 1))).eval()
    conv = network.stages[0][0].convs[0]  # type: ignore[index, union-attr]
    weak = conv.conv.weight.abs().sum((1, 2, 3)).argsort()[:2]  # type: ignore[union-attr, operator]
    with torch.no_grad():
        conv.norm.weight[weak] = 0.0  # type: ignore[union-attr, index]
        conv.norm.bias[weak] = 0.0  # type: ignore[union-attr, index]
    images = torch.randn(2, 1, 8, 8)
    assert torch.allclose(smaller(images), network(images), atol=1e-6)
    with pytest.raises(InputError, match="shape"):
        inherit_weights(smaller, CHAIN)


def test_macs_of_an_operator() -> None:
    wide = SearchNetwork(ODD, (8, 8))
    assert wide.full_cost == total_cost(ODD, (8, 8), macs)
