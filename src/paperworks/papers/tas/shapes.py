"""Shapes of convolutional networks: the width of every convolution, and the number of blocks of every stage."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, get_args

from paperworks.errors import InputError
from paperworks.runs.files import new_file

BlockName = Literal["plain", "basic", "bottleneck"]
StemName = Literal["small", "large"]
KERNELS: dict[str, tuple[int, ...]] = {"plain": (3,), "basic": (3, 3), "bottleneck": (1, 3, 1)}
"""Kernels of the convolutions of a block. The stride of a block is that of its first convolution of kernel 3."""
EXPANSION = 4
"""The last convolution of an unpruned bottleneck is so many times as wide as the others."""

Stages = tuple[tuple[tuple[int, ...], ...], ...]
"""Widths by stage, block and convolution."""


@dataclass(frozen=True)
class NetworkShape:
    """A convolutional network in numbers.

    ::

        small stem: conv 3x3            large stem: conv 7x7 of stride 2, max pooling 3x3 of stride 2
        block:      convolutions with BatchNorm, ReLU between them; + shortcut (none in plain blocks); ReLU
        shortcut:   average pooling 2x2 and conv 1x1 where the stride is 2; conv 1x1 where the ends differ in width
                    (with BatchNorm, in bottlenecks without); else the identity
        head:       mean over positions, linear

    Attributes
    ----------
    stem : width of the first convolution.
    stages : widths of the convolutions of every block of every stage.
    strides : stride of the first block of each stage, 1 or 2.
    block : ``plain`` (one convolution 3x3), ``basic`` (two) or ``bottleneck`` (1x1, 3x3, 1x1).
    stem_kind : ``small`` for small images, ``large`` for those of ImageNet's size.
    channels : of the images.
    outputs : classes.
    """

    stem: int
    stages: Stages
    strides: tuple[int, ...]
    block: BlockName = "basic"
    stem_kind: StemName = "small"
    channels: int = 3
    outputs: int = 10

    def __post_init__(self) -> None:
        stages = tuple(tuple(tuple(int(w) for w in block) for block in stage) for stage in self.stages)
        object.__setattr__(self, "stages", stages)
        object.__setattr__(self, "strides", tuple(self.strides))
        _require("block", self.block, self.block in get_args(BlockName), "plain, basic or bottleneck")
        _require("stem_kind", self.stem_kind, self.stem_kind in get_args(StemName), "small or large")
        _require("stages", "an empty one", bool(stages) and all(stages), "at least one block in every stage")
        length = len(KERNELS[self.block])
        for block in (block for stage in stages for block in stage):
            _require("stages", f"a block of {len(block)} widths", len(block) == length, f"{length} in {self.block}")
            _require("stages", block, all(w >= 1 for w in block), "widths of 1 or more")
        right = len(self.strides) == len(stages) and all(s in (1, 2) for s in self.strides)
        _require("strides", self.strides, right, f"{len(stages)} of 1 or 2, one per stage")
        for name in ("stem", "channels", "outputs"):
            _require(name, getattr(self, name), getattr(self, name) >= 1, "1 or more")

    @property
    def widths(self) -> tuple[int, ...]:
        """The widths of all convolutions of the stem and the blocks, in their order."""
        return (self.stem, *(w for stage in self.stages for block in stage for w in block))

    @property
    def depths(self) -> tuple[int, ...]:
        """Blocks by stage."""
        return tuple(len(stage) for stage in self.stages)

    def resized(self, widths: tuple[int, ...], depths: tuple[int, ...]) -> NetworkShape:
        """The same network with other widths (of all convolutions, those that leave too) and its first blocks only.

        Raises InputError for another number of widths or stages, or for more blocks than there are.
        """
        _require("widths", f"{len(widths)}", len(widths) == len(self.widths), f"{len(self.widths)} numbers")
        fits = len(depths) == len(self.stages) and all(
            1 <= d <= full for d, full in zip(depths, self.depths, strict=True)
        )
        _require("depths", depths, fits, f"numbers from 1 to {self.depths}")
        rest = iter(widths[1:])
        stages = [[tuple(next(rest) for _ in block) for block in stage] for stage in self.stages]
        kept = tuple(tuple(stage[:depth]) for stage, depth in zip(stages, depths, strict=True))
        return dataclasses.replace(self, stem=widths[0], stages=kept)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**dataclasses.asdict(self), "stages": [[list(b) for b in s] for s in self.stages]}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The shape that ``to_dict`` gave. Raises InputError for values that are none."""
        known = {field.name for field in dataclasses.fields(cls)}
        odd = sorted(set(values) ^ known)
        if odd:
            raise InputError(odd[0], "missing, or not known", f"exactly {', '.join(sorted(known))}")
        try:
            return cls(**values)
        except (TypeError, ValueError) as error:
            raise InputError("shape", str(error), "numbers by stage, block and convolution") from error

    def save(self, path: str | Path) -> None:
        """Write the shape as JSON to a new file."""
        with new_file(Path(path)) as aside:
            aside.write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """The shape that ``save`` wrote. Raises InputError naming ``path`` for what is none."""
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError("path", f"{path} ({error})", "a JSON file of a network's shape") from error
        if not isinstance(values, dict):
            raise InputError("path", f"{path}, a {type(values).__name__}", "an object")
        return cls.from_dict(values)


def cifar_resnet(depth: int = 20, *, outputs: int = 10, channels: int = 3, width: int = 16) -> NetworkShape:
    """The residual networks of the paper for small images: 3 stages of widths 16, 32 and 64 (He et al. 2016).

    ``depth``: 6 n + 2 layers (8, 14, 20, 32, 56, 110) are basic blocks; 164 (9 n + 2) are bottlenecks.
    """
    if depth == 164:
        return _residual("bottleneck", (18, 18, 18), (width, 2 * width, 4 * width), width, (1, 2, 2), outputs, channels)
    _require("depth", depth, depth >= 8 and (depth - 2) % 6 == 0, "8, 14, 20, 32, 56, 110 (6 n + 2), or 164")
    blocks = ((depth - 2) // 6,) * 3
    return _residual("basic", blocks, (width, 2 * width, 4 * width), width, (1, 2, 2), outputs, channels)


IMAGENET: dict[int, tuple[BlockName, tuple[int, ...]]] = {
    18: ("basic", (2, 2, 2, 2)),
    34: ("basic", (3, 4, 6, 3)),
    50: ("bottleneck", (3, 4, 6, 3)),
    101: ("bottleneck", (3, 4, 23, 3)),
}


def imagenet_resnet(depth: int = 50, *, outputs: int = 1000, channels: int = 3) -> NetworkShape:
    """The residual networks for large images: 4 stages of widths 64 to 512; 18, 34, 50 or 101 layers."""
    _require("depth", depth, depth in IMAGENET, "18, 34, 50 or 101")
    block, blocks = IMAGENET[depth]
    shape = _residual(block, blocks, (64, 128, 256, 512), 64, (1, 2, 2, 2), outputs, channels)
    return dataclasses.replace(shape, stem_kind="large")


def plain_network(
    stem: int, stages: tuple[tuple[int, ...], ...], strides: tuple[int, ...], *, outputs: int = 10, channels: int = 3
) -> NetworkShape:
    """A chain of convolutions 3x3 without shortcuts; ``stages``: widths of the convolutions of each stage."""
    blocks = tuple(tuple((w,) for w in stage) for stage in stages)
    return NetworkShape(stem, blocks, strides, "plain", "small", channels, outputs)


def _residual(
    block: BlockName,
    blocks: tuple[int, ...],
    widths: tuple[int, ...],
    stem: int,
    strides: tuple[int, ...],
    outputs: int,
    channels: int,
) -> NetworkShape:
    def of(width: int) -> tuple[int, ...]:
        return (width, width, EXPANSION * width) if block == "bottleneck" else (width, width)

    stages = tuple(tuple(of(w) for _ in range(count)) for w, count in zip(widths, blocks, strict=True))
    return NetworkShape(stem, stages, strides, block, "small", channels, outputs)


def _require(field: str, found: object, right: bool, expected: str) -> None:
    if not right:
        raise InputError(field, found, expected)
