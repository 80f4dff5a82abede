"""What a configuration costs: parameters and multiply-adds in closed form, and what sharing and slicing save.

A pass over N tokens of width D in G groups costs ``4 N D^2 + 2 N^2 D / G`` multiply-adds in its attention. Counted are
matrix products and convolutions; norms, softmax and activations are not.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from torch import nn

from paperworks.errors import InputError
from paperworks.papers.sret.configuration import SReTConfig
from paperworks.papers.sret.layers import stem_widths
from paperworks.papers.sret.recursion import check_groups


def attention_macs(tokens: int, width: int, groups: int = 1) -> int:
    """Multiply-adds of one pass of sliced attention, ``4 N D^2 + 2 N^2 D / G``.

    Examples
    --------
    >>> attention_macs(784, 64), attention_macs(784, 64, 8)
    (91521024, 22679552)
    """
    check_groups("groups", groups, tokens)
    return 4 * tokens * width**2 + 2 * tokens**2 * width // groups


@dataclass(frozen=True)
class StageCost:
    """Multiply-adds of a stage.

    Attributes
    ----------
    tokens, width, passes, distinct : N, D, passes, and blocks with weights of their own.
    linear : of queries, keys, values and the output map of all passes.
    attention, attention_unsliced : of scores and weighted sums, which are quadratic in N; with one group.
    mlp : of the blocks. nll : of the projections behind the passes.
    pooling : of the convolution behind the stage.
    """

    tokens: int
    width: int
    passes: int
    distinct: int
    linear: int
    attention: int
    attention_unsliced: int
    mlp: int
    nll: int
    pooling: int

    @property
    def macs(self) -> int:
        """All of the stage."""
        return self.linear + self.attention + self.mlp + self.nll + self.pooling


@dataclass(frozen=True)
class Profile:
    """What a model costs for one image.

    Attributes
    ----------
    parameters : trained numbers, each shared tensor once.
    parameters_unshared : of the same depth with a block of its own for each pass.
    stem, head : multiply-adds. stages : of the stages.
    """

    parameters: int
    parameters_unshared: int
    stem: int
    stages: tuple[StageCost, ...]
    head: int

    @property
    def macs(self) -> int:
        """Multiply-adds of one forward pass."""
        return self.stem + sum(stage.macs for stage in self.stages) + self.head

    @property
    def macs_unsliced(self) -> int:
        """Multiply-adds with one group everywhere."""
        return self.macs + sum(stage.attention_unsliced - stage.attention for stage in self.stages)

    @property
    def attention_share(self) -> float:
        """Share of the quadratic part of attention in all multiply-adds."""
        return sum(stage.attention for stage in self.stages) / self.macs

    @property
    def slicing_saves(self) -> float:
        """Share of the unsliced multiply-adds that slicing saves."""
        return 1 - self.macs / self.macs_unsliced

    @property
    def sharing_saves(self) -> float:
        """Share of the unshared parameters that sharing saves."""
        return 1 - self.parameters / self.parameters_unshared


def profile(model: nn.Module | SReTConfig, image_size: int | Sequence[int] | None = None) -> Profile:
    """Parameters and multiply-adds of a model, or of a configuration of one.

    ``image_size``: count for images of this size, whose position grid is another; None: the model's own.
    Raises InputError for a size that the model cannot have.
    """
    config = getattr(model, "config", model)
    if not isinstance(config, SReTConfig):
        raise InputError("model", type(model).__name__, "an SReT model, or an SReTConfig")
    if image_size is not None:
        config = SReTConfig(**{**config.to_dict(), "image_size": image_size})
    height, width = config.sides
    stem, channels = 0, _channels(config)
    for before, after, stride in zip(channels, channels[1:], config.stem_strides, strict=False):
        height, width = height // stride, width // stride
        stem += 9 * before * after * height * width
    stages = tuple(_stage(config, number) for number in range(len(config.depth)))
    head = config.widths[-1] * config.classes
    return Profile(_parameters(config, config.recursive_num), _parameters(config, config.depth), stem, stages, head)


def _channels(config: SReTConfig) -> list[int]:
    return stem_widths(config.num_channels, config.widths[0], len(config.stem_strides))


def _stage(config: SReTConfig, number: int) -> StageCost:
    tokens, width, passes = prod(config.grids[number]), config.widths[number], config.depth[number]
    distinct, hidden = config.recursive_num[number], int(config.mlp_ratio * width)
    first = distinct * tokens**2 * width // config.groups1[number]
    later = (passes - distinct) * tokens**2 * width // config.groups2[number]
    pooling = 0
    if number + 1 < len(config.depth):
        pooling = 9 * config.widths[number + 1] * prod(config.grids[number + 1])
    projected = int(config.np_mlp_ratio * width) if config.use_nll else 0
    return StageCost(
        tokens=tokens,
        width=width,
        passes=passes,
        distinct=distinct,
        linear=4 * tokens * width**2 * passes,
        attention=2 * (first + later),
        attention_unsliced=2 * passes * tokens**2 * width,
        mlp=2 * tokens * width * hidden * passes,
        nll=2 * tokens * width * projected * passes,
        pooling=pooling,
    )


def block_parameters(width: int, mlp_ratio: float, lrc: bool = True) -> int:
    """Parameters of a block: attention, MLP, two norms and four coefficients."""
    hidden = int(mlp_ratio * width)
    return 4 * width**2 + 4 * width + 2 * hidden * width + hidden + width + 4 * width + 4 * lrc


def projection_parameters(width: int, ratio: float, lrc: bool = True) -> int:
    """Parameters of the projection behind a pass."""
    hidden = int(ratio * width)
    return 2 * width + 2 * hidden * width + hidden + width + 2 * lrc


def _parameters(config: SReTConfig, distinct: Sequence[int]) -> int:
    widths, channels = config.widths, _channels(config)
    # a convolution of 3 x 3 with bias, and gain and bias of its norm
    total = sum(9 * a * b + 3 * b for a, b in itertools.pairwise(channels))
    total += widths[0] * prod(config.grids[0])
    total += sum(10 * after for after in widths[1:])  # poolings: nine weights and a bias for each channel
    for number, width in enumerate(widths):
        total += distinct[number] * block_parameters(width, config.mlp_ratio, config.use_lrc)
        if config.use_nll:
            total += config.depth[number] * projection_parameters(width, config.np_mlp_ratio, config.use_lrc)
    return total + 2 * widths[-1] + (widths[-1] + 1) * config.classes
