"""The network that is searched in: every convolution has several widths at once, and every stage several depths."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import nn

from paperworks.errors import InputError
from paperworks.papers.tas.choices import RATIOS, DepthRule, Draw, depth_candidates, width_candidates
from paperworks.papers.tas.costs import COSTS, CostFunction, total_cost, wires
from paperworks.papers.tas.expectation import ExpectedCost
from paperworks.papers.tas.inheritance import inherit_weights
from paperworks.papers.tas.interpolation import channel_interpolation, pad_channels
from paperworks.papers.tas.network import ShapedNetwork, halving_pool, kaiming_convolution
from paperworks.papers.tas.shapes import KERNELS, NetworkShape
from paperworks.papers.tas.space import Genotype, SearchSpace
from paperworks.parameters import check_seed, check_whole

Searched = Literal["width", "depth"]
Blend = Literal["interpolate", "pad"]
CostName = Literal["macs", "parameters"]


class SearchNetwork(SearchSpace):
    """The search space around a shape.

    In every forward pass each convolution has ``sampled`` of its candidate widths: the first filters of one kernel,
    a BatchNorm for each candidate, brought to the widest drawn width by channel-wise interpolation and added with the
    weights that were drawn. The end of a stage is the mean of the outputs after all candidate depths.

    Parameters
    ----------
    shape : the full network.
    size : height and width of the images, for the cost.
    search : what is searched. What is not stays as in ``shape``.
    ratios : candidate widths as shares of the full ones.
    depth_rule : see ``depth_candidates``; default: ``large`` with the large stem.
    sampled : widths in a forward pass; as many as there are candidates is the full mixture.
    blend : how widths are made equal: the paper's interpolation, or zeros in further channels.
    cost : ``macs``, ``parameters``, or a function; see ``CostFunction``.
    seed : of the first weights and logits.

    Raises
    ------
    InputError : an option that is not one of those.
    """

    def __init__(
        self,
        shape: NetworkShape,
        size: tuple[int, int],
        *,
        search: Sequence[Searched] = ("width", "depth"),
        ratios: Sequence[float] = RATIOS,
        depth_rule: DepthRule | None = None,
        sampled: int = 2,
        blend: Blend = "interpolate",
        cost: CostName | CostFunction = "macs",
        seed: int = 0,
    ) -> None:
        check_seed("seed", seed)
        check_whole("sampled", sampled, 1)
        if not search or not set(search) <= {"width", "depth"}:
            raise InputError("search", tuple(search), "width, depth, or both")
        if blend not in ("interpolate", "pad"):
            raise InputError("blend", blend, "interpolate or pad")
        function, free = cost_function(cost), "width" in search
        widths = tuple(width_candidates(w, ratios) if free else (w,) for w in shape.widths)
        depths = depth_candidates(shape.depths, depth_rule or ("large" if shape.stem_kind == "large" else "small"))
        if "depth" not in search:
            depths = tuple((n,) for n in shape.depths)
        names = [wire.operator.name for wire in wires(shape, size) if wire.operator.part == "conv"]
        choices = {("widths", name): known for name, known in zip(names, widths, strict=True)}
        choices |= {("depths", f"stages.{stage}"): known for stage, known in enumerate(depths)}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            super().__init__(choices, sampled)
            self.shape, self.size, self.cost_function = shape, size, function
            self.width_candidates, self.depth_candidates = widths, depths
            self.expected = ExpectedCost(shape, size, widths, depths, function)
            self.full_cost = total_cost(shape, size, function)
            self._make(channel_interpolation if blend == "interpolate" else pad_channels)
            self.apply(kaiming_convolution)

    def _make(self, blend: _Blend) -> None:
        shape, numbers = self.shape, iter(range(len(self.width_candidates)))
        large = shape.stem_kind == "large"
        kernel, stride = (7, 2) if large else (3, 1)
        self.stem = WidthChoice(
            shape.channels, self.width_candidates, next(numbers), kernel=kernel, stride=stride, blend=blend
        )
        self.pool: nn.Module = nn.MaxPool2d(3, 2, 1) if large else nn.Identity()
        stages, width = [], shape.stem
        for stage, first in zip(shape.stages, shape.strides, strict=True):
            blocks: list[nn.Module] = []
            for place, widths in enumerate(stage):
                inside = [next(numbers) for _ in widths]
                blocks.append(
                    BlockChoice(
                        shape.block, width, self.width_candidates, inside, stride=1 if place else first, blend=blend
                    )
                )
                width = widths[-1]
            stages.append(nn.ModuleList(blocks))
        self.stages = nn.ModuleList(stages)
        self.head = nn.Linear(width, shape.outputs)
        self.blend = blend

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Logits ``[n, outputs]`` of images float ``[n, channels, H, W]``, of freshly drawn widths and depths."""
        draws, depths = self.draw()
        x = self.pool(self.stem(pixel_values, draws, frozen=self._frozen).relu())
        for number, stage in enumerate(self.stages):
            candidates, shares = self.depth_candidates[number], depths[number]
            wanted = [candidates[pick] for pick in shares.picks]
            ends: dict[int, torch.Tensor] = {}
            for place, block in enumerate(list(stage)[: max(wanted)], 1):  # type: ignore[call-overload]
                x = block(x, draws, frozen=self._frozen)
                if place in wanted:
                    ends[place] = x
            if len(ends) > 1:
                widest = max(end.shape[1] for end in ends.values())
                parts = [w * self.blend(ends[d], widest) for w, d in zip(shares.weights, wanted, strict=True)]
                x = torch.stack(parts).sum(0)
        weight = self.constant(self.head.weight)[:, : x.shape[1]]
        return nn.functional.linear(x.mean((2, 3)), weight, self.constant(self.head.bias))

    def expected_cost(self) -> torch.Tensor:
        """The mean cost of the networks, a float64 scalar with a gradient; see ``ExpectedCost``."""
        assert self.depths is not None
        return self.expected(self.widths.probabilities(), self.depths.probabilities())

    def shape_of(self, genotype: Genotype) -> NetworkShape:
        """The shape of a network of the space. Raises InputError for a genotype of another space."""
        self.check(genotype)
        widths, depths = genotype["widths"], genotype["depths"]
        order = [name for kind, name in self.choices if kind == "widths"]
        stages = [name for kind, name in self.choices if kind == "depths"]
        return self.shape.resized(tuple(widths[name] for name in order), tuple(depths[name] for name in stages))

    def cost_of(self, genotype: Genotype) -> float:
        """The cost of a network of the space, exactly."""
        return total_cost(self.shape_of(genotype), self.size, self.cost_function)

    def build(self, genotype: Genotype, *, seed: int = 0) -> ShapedNetwork:
        """A plain network of the space with fresh weights."""
        return ShapedNetwork.of(self.shape_of(genotype), seed=seed)

    def inherit(self, trained: nn.Module, genotype: Genotype) -> ShapedNetwork:
        """The network with slices of a trained full one's weights: see ``inherit_weights``."""
        if not isinstance(trained, ShapedNetwork):
            raise InputError("trained", type(trained).__name__, "a ShapedNetwork")
        return inherit_weights(trained, self.shape_of(genotype))


_Blend = Callable[[torch.Tensor, int], torch.Tensor]


def cost_function(cost: CostName | CostFunction) -> CostFunction:
    """The function that a cost names, or itself. Raises InputError for another name."""
    if callable(cost):
        return cost
    if cost not in COSTS:
        raise InputError("cost", repr(cost), f"{', '.join(COSTS)}, or a function of (operator, inputs, outputs)")
    return COSTS[cost]


class WidthChoice(nn.Module):
    """A convolution of several widths, with a BatchNorm for each.

    ``forward(x, draws)``: x float ``[n, c, H, W]`` may have fewer channels than the full network's input.
    """

    def __init__(
        self,
        inputs: int,
        candidates: Sequence[tuple[int, ...]],
        number: int,
        *,
        kernel: int,
        stride: int = 1,
        norm: bool = True,
        blend: _Blend = channel_interpolation,
    ) -> None:
        super().__init__()
        self.candidates, self.number, self.blend = candidates[number], number, blend
        width = max(self.candidates)
        self.conv = nn.Conv2d(inputs, width, kernel, stride, padding=kernel // 2, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(c) if norm else nn.Identity() for c in self.candidates)

    def forward(self, x: torch.Tensor, draws: Sequence[Draw], *, frozen: bool = False) -> torch.Tensor:
        draw = draws[self.number]
        widest = max(self.candidates[pick] for pick in draw.picks)
        weight = self.conv.weight.detach() if frozen else self.conv.weight
        # filters beyond the widest drawn width, and the columns of channels that the input has not, count nothing
        y = nn.functional.conv2d(x, weight[:widest, : x.shape[1]], None, self.conv.stride, self.conv.padding)
        if len(draw.picks) == 1:
            return self.norms[draw.picks[0]](y)
        mixed: torch.Tensor | None = None
        for pick, share in zip(draw.picks, draw.weights, strict=True):
            part = share * self.blend(self.norms[pick](y[:, : self.candidates[pick]]), widest)
            mixed = part if mixed is None else mixed + part
        assert mixed is not None
        return mixed


class BlockChoice(nn.Module):
    """A block whose convolutions have several widths. See ``NetworkShape``."""

    def __init__(
        self,
        kind: str,
        inputs: int,
        candidates: Sequence[tuple[int, ...]],
        numbers: Sequence[int],
        *,
        stride: int,
        blend: _Blend,
    ) -> None:
        super().__init__()
        self.residual = kind != "plain"
        kernels = KERNELS[kind]
        convs, width = [], inputs
        for place, (kernel, number) in enumerate(zip(kernels, numbers, strict=True)):
            step = stride if place == kernels.index(3) else 1
            convs.append(WidthChoice(width, candidates, number, kernel=kernel, stride=step, blend=blend))
            width = max(candidates[number])
        self.convs = nn.ModuleList(convs)
        self.pool: nn.Module = halving_pool() if stride == 2 else nn.Identity()
        self.shortcut: WidthChoice | None = None
        if self.residual and (stride == 2 or inputs != width):
            norm = stride == 1 and kind == "basic"
            self.shortcut = WidthChoice(inputs, candidates, numbers[-1], kernel=1, norm=norm, blend=blend)

    def forward(self, x: torch.Tensor, draws: Sequence[Draw], *, frozen: bool = False) -> torch.Tensor:
        y = x
        for place, conv in enumerate(self.convs):
            y = conv(y if place == 0 else y.relu(), draws, frozen=frozen)
        if not self.residual:
            return y.relu()
        if self.shortcut is not None:
            return (y + self.shortcut(self.pool(x), draws, frozen=frozen)).relu()
        return add_partly(y, x).relu()


def add_partly(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """The sum of feature maps ``[n, c, H, W]``: the narrower one is added to the first channels of the other."""
    if first.shape[1] == second.shape[1]:
        return first + second
    wide, narrow = (first, second) if first.shape[1] > second.shape[1] else (second, first)
    return torch.cat([wide[:, : narrow.shape[1]] + narrow, wide[:, narrow.shape[1] :]], 1)
