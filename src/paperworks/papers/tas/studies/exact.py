"""Identities of the search, on small networks with random weights, and the operations of the released shapes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
import torch

from paperworks import runs
from paperworks.papers.tas.costs import total_cost
from paperworks.papers.tas.inheritance import narrows
from paperworks.papers.tas.interpolation import channel_interpolation
from paperworks.papers.tas.network import ShapedNetwork
from paperworks.papers.tas.released import RELEASED, released_shape
from paperworks.papers.tas.searched import searched_weights
from paperworks.papers.tas.shapes import NetworkShape, cifar_resnet, plain_network
from paperworks.papers.tas.supernet import SearchNetwork
from paperworks.papers.tas.traced import TracedSpace
from paperworks.runs import Finding, Run, largest
from paperworks.structure.trace import cut

MILLIONS = {
    ("cifar10", 20): 22.4445,
    ("cifar10", 32): 34.9453,
    ("cifar10", 56): 59.858,
    ("cifar10", 110): 119.259,
    ("cifar100", 20): 22.434,
    ("cifar100", 32): 42.469,
    ("cifar100", 56): 61.234,
    ("cifar100", 110): 119.578,
}
"""Multiply-accumulates of the released shapes, in millions, counted from the released configurations beforehand."""
REPORTED = {
    ("cifar10", 20): 22.4,
    ("cifar10", 32): 35.0,
    ("cifar10", 56): 59.5,
    ("cifar10", 110): 119.0,
    ("cifar100", 20): 22.4,
    ("cifar100", 32): 42.5,
    ("cifar100", 56): 61.2,
    ("cifar100", 110): 120.0,
}
"""The same in the paper's tables, three digits."""


@runs.study(claims=["channel-wise-interpolation"], title="Interpolation along the channels", minutes=0.1)
def interpolation(run: Run, fast: bool) -> Iterator[Finding]:
    """Every pair of widths up to 64, against the means over intervals written out."""
    worst = 0.0
    widths = range(1, 25 if fast else 65)
    generator = run.torch_rng("features")
    for channels in widths:
        x = torch.randn(2, channels, 3, dtype=torch.float64, generator=generator)
        for width in widths:
            ends = [(t * channels // width, math.ceil((t + 1) * channels / width)) for t in range(width)]
            expected = torch.stack([x[:, low:high].mean(1) for low, high in ends], 1)
            worst = largest((worst, float((channel_interpolation(x, width) - expected).abs().max())))
    yield Finding(
        "channel-wise-interpolation",
        "the largest difference from the explicit means over intervals",
        "exact",
        worst,
        "<=",
        1e-12,
        detail=f"all pairs of widths up to {len(widths)}, float64",
    )
    x = torch.randn(2, 12, 5, 5, generator=generator)
    same = float((channel_interpolation(x, 12) - x).abs().max())
    yield Finding("channel-wise-interpolation", "equal widths change nothing", "exact", same, "<=", 0.0)


@runs.study(claims=["expected-cost"], title="The mean cost, by enumeration", minutes=0.3)
def expected_cost(run: Run, fast: bool) -> Iterator[Finding]:
    """All widths and depths of small residual and plain networks, and of a traced residual network."""
    residual = NetworkShape(4, (((3, 4), (2, 4)), ((6, 6),)), (1, 2), "basic", "small", 1, 3)
    chain = plain_network(4, ((4, 5, 4), (6,)), (1, 2), outputs=2, channels=1)
    worst = 0.0
    count = 0
    for seed in range(2 if fast else 5):
        generator = run.torch_rng(f"logits {seed}")
        for shape, cost in itertools.product((residual, chain), ("macs", "parameters")):
            space = SearchNetwork(shape, (6, 5), ratios=(0.5, 1.0), cost=cost, seed=seed)  # type: ignore[arg-type]
            _random_logits(space, generator)
            mean, networks = _enumerated(space)
            worst, count = largest((worst, abs(float(space.expected_cost().detach()) / mean - 1))), count + networks
    yield Finding(
        "expected-cost",
        "the largest relative difference of the differentiable cost from the mean over all networks",
        "exact",
        worst,
        "<=",
        1e-12,
        detail=f"{count:,} networks, one by one, in multiply-accumulates and in parameters",
    )
    traced = TracedSpace(
        ShapedNetwork.of(residual), torch.randn(2, 1, 6, 5, generator=run.torch_rng("images")), ratios=(0.5, 1.0)
    )
    _random_logits(traced, run.torch_rng("traced"))
    mean, networks = _enumerated(traced)
    yield Finding(
        "expected-cost",
        "the same for the groups of a traced residual network, whose streams have one width in several layers",
        "exact",
        abs(float(traced.expected_cost().detach()) / mean - 1),
        "<=",
        1e-12,
        detail=f"{networks:,} networks",
    )


def _random_logits(space: SearchNetwork | TracedSpace, generator: torch.Generator) -> None:
    with torch.no_grad():
        for logits in space.architecture_parameters():
            logits.normal_(generator=generator)


def _enumerated(space: SearchNetwork | TracedSpace) -> tuple[float, int]:
    chances = [p.detach().numpy() for p in space.probabilities()]
    mean, count = 0.0, 0
    for places in itertools.product(*(range(len(p)) for p in chances)):
        chance = float(np.prod([p[place] for p, place in zip(chances, places, strict=True)]))
        mean += chance * space.cost_of(space.genotype_at(list(places)))
        count += 1
    return mean, count


@runs.study(claims=["certain-choice-is-the-plain-network"], title="Certain choices and plain networks", minutes=0.2)
def certain_choice(run: Run, fast: bool) -> Iterator[Finding]:
    """Random networks of the spaces of a plain, a residual and a traced network."""
    images = torch.randn(4, 1, 12, 12, generator=run.torch_rng("images"))
    generator = run.torch_rng("networks")
    drawn, set_to, tried, left = 0.0, 0.0, 0, 0
    chain = plain_network(8, ((12, 12, 12), (16, 16)), (1, 2), outputs=4, channels=1)
    for shape in (chain, cifar_resnet(14, outputs=4, channels=1, width=8)):
        space = SearchNetwork(shape, (12, 12), sampled=1, seed=run.seed)
        with torch.no_grad():
            for _ in range(10):
                space.train()(images)
        space.eval()
        for _ in range(10 if fast else 100):
            drawn = largest((drawn, _difference(space, _with_equal_ends(_drawn(space, generator)), images)))
            genotype = _drawn(space, generator)
            if narrows(space.shape_of(genotype)):
                left += 1
                continue
            plain = searched_weights(space, genotype).eval()
            with torch.no_grad(), space.certain(genotype):
                set_to, tried = largest((set_to, float((space(images) - plain(images)).abs().max()))), tried + 1
    yield Finding(
        "certain-choice-is-the-plain-network",
        "the largest difference of a logit between the search network, with logits of 50, and the plain network",
        "exact",
        drawn,
        "<=",
        1e-5,
        detail="200 networks of a chain and of a ResNet-14, one width drawn, blocks of a stage with ends of one width; "
        "ends of several widths are interpolated to the widest of all depths, so that there the two are different",
    )
    yield Finding(
        "certain-choice-is-the-plain-network",
        "the same where nothing is drawn and only the chosen blocks run, with ends of any width",
        "exact",
        set_to,
        "<=",
        1e-5,
        detail=f"{tried} networks; {left} are left out, whose residual stream becomes narrower: there the search "
        "network hands on the wider stream",
    )
    traced = TracedSpace(ShapedNetwork.of(cifar_resnet(8, outputs=4, channels=1, width=8)), images, start="given")
    traced.eval()
    worst = 0.0
    for _ in range(2 if fast else 6):
        genotype = _drawn(traced, generator)
        smaller = cut(traced.groups, traced.plan(genotype)).eval()
        with torch.no_grad(), traced.certain(genotype):
            worst = largest((worst, float((traced(images) - smaller(images)).abs().max())))
    yield Finding(
        "certain-choice-is-the-plain-network",
        "the same between a traced ResNet-8 with certain widths and the module that is cut to them",
        "exact",
        worst,
        "<=",
        1e-5,
    )


def _drawn(space: SearchNetwork | TracedSpace, generator: torch.Generator) -> dict[str, dict[str, int]]:
    return space.genotype_at(
        [int(torch.randint(len(known), (), generator=generator)) for known in space.choices.values()]
    )


def _with_equal_ends(genotype: dict[str, dict[str, int]]) -> dict[str, dict[str, int]]:
    """The network with one width at the ends of all blocks of a stage, and of the stem as of the first stage."""
    widths = dict(genotype["widths"])
    last = max(name.rpartition(".")[2] for name in widths if name != "stem")
    for name in widths:
        if name.endswith(f".convs.{last}"):
            widths[name] = widths[f"stages.{name.split('.')[1]}.0.convs.{last}"]
    if last != "0":
        widths["stem"] = widths[f"stages.0.0.convs.{last}"]
    return {**genotype, "widths": widths}


def _difference(space: SearchNetwork, genotype: dict[str, dict[str, int]], images: torch.Tensor) -> float:
    """With logits of 50 at the chosen candidates, drawn as in the search."""
    plain = searched_weights(space, genotype).eval()
    places = space.positions(genotype)
    count = len(space.widths.sizes)
    assert space.depths is not None
    with torch.no_grad():
        for logits, chosen in ((space.widths.logits, places[:count]), (space.depths.logits, places[count:])):
            logits.zero_()
            logits[torch.arange(len(chosen)), torch.tensor(chosen)] = 50.0
        space.temperature, space.generator = 0.1, torch.Generator().manual_seed(0)
        return float((space(images) - plain(images)).abs().max())


@runs.study(claims=["released-shapes"], title="Operations of the released shapes", minutes=0.1)
def released_shapes(run: Run, fast: bool) -> Iterator[Finding]:
    """Counted by our cost from the released widths and depths, beside the paper's figures."""
    for data, depth in RELEASED:
        shape = released_shape(data, depth)  # type: ignore[arg-type]
        full = total_cost(cifar_resnet(depth, outputs=shape.outputs), (32, 32)) / 1e6
        found = total_cost(shape, (32, 32)) / 1e6
        yield Finding(
            "released-shapes",
            f"{data}, ResNet-{depth}: millions of multiply-accumulates",
            "exact",
            found,
            "==",
            MILLIONS[data, depth],
            tolerance=6e-4,
            baseline=full,
            baseline_name="the full network",
            detail=f"{1 - found / full:.1%} fewer than {full:.3f}; the paper's table: {REPORTED[data, depth]:g}",
        )
