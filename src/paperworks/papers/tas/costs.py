"""What a shape costs: its operators one by one, in multiply-accumulates, parameters, or anything that is measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from paperworks.errors import InputError
from paperworks.papers.tas.shapes import KERNELS, NetworkShape

Part = Literal["conv", "shortcut", "identity", "linear"]


@dataclass(frozen=True)
class Operator:
    """One layer of a network, without its widths.

    Attributes
    ----------
    name : its module in ``ShapedNetwork``.
    part : ``conv``; ``shortcut`` (1x1, always there); ``identity`` (a shortcut that is a 1x1 convolution where the ends
        differ in width, and nothing where they agree); ``linear``.
    kernel, stride : of the convolution.
    positions : of the output, height times width.
    side : height and width of the input.
    norm : whether a BatchNorm follows.
    """

    name: str
    part: Part
    kernel: int
    stride: int
    positions: int
    side: tuple[int, int]
    norm: bool = True


CostFunction = Callable[[Operator, int, int], float]
"""``cost(operator, input width, output width)``: 0 or more, in any unit that adds up over operators."""


def macs(operator: Operator, inputs: int, outputs: int) -> float:
    """Multiply-accumulates of one image: kernel^2 x positions x input width x output width."""
    if operator.part == "identity" and inputs == outputs:
        return 0
    return operator.kernel**2 * operator.positions * inputs * outputs


def parameters(operator: Operator, inputs: int, outputs: int) -> float:
    """Parameters: the kernel, gain and shift of the BatchNorm, and the bias of the linear layer."""
    if operator.part == "identity" and inputs == outputs:
        return 0
    extra = 1 if operator.part == "linear" else 2 * operator.norm
    return operator.kernel**2 * inputs * outputs + extra * outputs


COSTS: dict[str, CostFunction] = {"macs": macs, "parameters": parameters}


@dataclass(frozen=True)
class Wire:
    """An operator of a network, with the convolutions that decide its widths, by their number in ``widths``.

    Attributes
    ----------
    sources : the convolution that makes the input; with several, one for each number of blocks (1, 2, ...) that the
        stage ``source_stage`` may keep. Empty: the image.
    target : the convolution that decides the output width; None for the classes.
    stage, block : where the operator is; None in the stem and the head.
    """

    operator: Operator
    sources: tuple[int, ...]
    source_stage: int | None
    target: int | None
    stage: int | None = None
    block: int = 0


def wires(shape: NetworkShape, size: tuple[int, int]) -> Iterator[Wire]:
    """The operators of a shape for images of ``size`` (height, width), in the order in which they run."""
    if min(size) < 1:
        raise InputError("size", size, "1 pixel or more")
    kernel, stride = (7, 2) if shape.stem_kind == "large" else (3, 1)
    inside = _halved(size) if stride == 2 else size
    yield Wire(Operator("stem", "conv", kernel, stride, inside[0] * inside[1], size), (), None, 0)
    size = _halved(inside) if shape.stem_kind == "large" else inside
    sources: tuple[int, ...] = (0,)
    source_stage: int | None = None
    number = 1
    for s, stage in enumerate(shape.stages):
        ends: list[int] = []
        for b, widths in enumerate(stage):
            stride = shape.strides[s] if b == 0 else 1
            before, last, entered = sources, number + len(widths) - 1, size
            came_from = source_stage
            for c, kernel in enumerate(KERNELS[shape.block]):
                step = stride if c == KERNELS[shape.block].index(3) else 1
                out = _halved(size) if step == 2 else size
                name = f"stages.{s}.{b}.convs.{c}"
                yield Wire(Operator(name, "conv", kernel, step, out[0] * out[1], size), before, came_from, number, s, b)
                before, came_from, size, number = (number,), None, out, number + 1
            if shape.block != "plain":
                part: Part = "shortcut" if stride == 2 else "identity"
                norm = part == "identity" and shape.block == "basic"
                operator = Operator(f"stages.{s}.{b}.shortcut", part, 1, stride, size[0] * size[1], entered, norm)
                yield Wire(operator, sources, source_stage, last, s, b)
            ends.append(last)
            sources, source_stage = (last,), None
        sources, source_stage = tuple(ends), s
    yield Wire(Operator("head", "linear", 1, 1, 1, (1, 1), False), sources, source_stage, None)


def total_cost(shape: NetworkShape, size: tuple[int, int], cost: CostFunction = macs) -> float:
    """The cost of a network for images of ``size`` (height, width): the sum over its operators."""
    found = shape.widths

    def of(wire: Wire) -> float:
        inputs = found[wire.sources[-1]] if wire.sources else shape.channels
        return cost(wire.operator, inputs, shape.outputs if wire.target is None else found[wire.target])

    return float(sum(of(wire) for wire in wires(shape, size)))


def _halved(size: tuple[int, int]) -> tuple[int, int]:
    return -(-size[0] // 2), -(-size[1] // 2)
