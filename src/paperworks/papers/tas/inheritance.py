"""Weights of a larger network in a network of a smaller shape: a departure from the paper, which starts afresh."""

from __future__ import annotations

import itertools
from typing import Literal

import torch
from torch import nn

from paperworks.errors import InputError
from paperworks.papers.tas.network import Block, ConvNorm, ShapedNetwork
from paperworks.papers.tas.shapes import NetworkShape

Order = Literal["magnitude", "first"]
Chosen = torch.Tensor
"""Positions of the kept channels, int64 [kept]."""


def inherit_weights(source: ShapedNetwork, shape: NetworkShape, *, order: Order = "magnitude") -> ShapedNetwork:
    """A network of ``shape`` whose weights are slices of a trained larger one.

    Parameters
    ----------
    source : a network with at least the widths and blocks of ``shape``.
    order : which channels stay inside a block: those whose filters have the largest L1 norm, or the ``first``. At the
        ends of residual blocks it is always the first, so that shortcuts add the same channels. Shortcuts that
        the smaller network needs and the larger does not have begin as the identity on the common channels.

    Raises
    ------
    InputError : a shape that is not within the network's.
    """
    if order not in ("magnitude", "first"):
        raise InputError("order", repr(order), "magnitude or first")
    network = ShapedNetwork.of(shape)
    kept = _inside(source.stem, shape.stem, "first" if shape.block != "plain" else order)
    with torch.no_grad():
        _copy(network.stem, source.stem, torch.arange(shape.channels), kept)
        for number, (small, large) in enumerate(zip(network.stages, source.stages, strict=True)):
            assert isinstance(small, nn.Sequential)
            assert isinstance(large, nn.Sequential)
            if len(small) > len(large):
                raise InputError("shape", f"{len(small)} blocks in stage {number}", f"at most {len(large)}")
            for target, origin in zip(small, large, strict=False):
                assert isinstance(target, Block)
                assert isinstance(origin, Block)
                kept = _copy_block(target, origin, kept, order)
        network.head.weight.copy_(source.head.weight[:, kept])
        network.head.bias.copy_(source.head.bias)
    return network


def _copy_block(target: Block, origin: Block, entering: Chosen, order: Order) -> Chosen:
    kept = entering
    pairs = list(zip(target.convs, origin.convs, strict=True))
    for place, (small, large) in enumerate(pairs):
        assert isinstance(small, ConvNorm)
        assert isinstance(large, ConvNorm)
        end = target.residual and place == len(pairs) - 1
        out = _inside(large, small.conv.out_channels, "first" if end else order)
        _copy(small, large, kept, out)
        kept = out
    mine, other = shortcut_of(target), shortcut_of(origin)
    if mine is not None and other is not None:
        _copy(mine, other, entering, kept)
    elif mine is not None:
        hand_on(mine, entering, kept)
    return kept


def _inside(layer: ConvNorm, width: int, order: Order) -> Chosen:
    full = layer.conv.out_channels
    if width > full:
        raise InputError("shape", f"a convolution of width {width}", f"at most {full}, as in the larger network")
    if order == "first":
        return torch.arange(width)
    norms = layer.conv.weight.detach().abs().sum((1, 2, 3))
    return norms.argsort(descending=True, stable=True)[:width].sort().values


def _copy(target: ConvNorm, origin: ConvNorm, inputs: Chosen, outputs: Chosen) -> None:
    target.conv.weight.copy_(origin.conv.weight[outputs][:, inputs])
    if isinstance(target.norm, nn.BatchNorm2d) and isinstance(origin.norm, nn.BatchNorm2d):
        copy_norm(target.norm, origin.norm, outputs)


def copy_norm(target: nn.BatchNorm2d, origin: nn.BatchNorm2d, kept: Chosen) -> None:
    """Gain, shift and statistics of the kept channels."""
    for name in ("weight", "bias", "running_mean", "running_var"):
        getattr(target, name).copy_(getattr(origin, name)[kept])


def shortcut_of(block: Block) -> ConvNorm | None:
    found = [module for module in block.shortcut.modules() if isinstance(module, ConvNorm)]
    return found[0] if found else None


def hand_on(shortcut: ConvNorm, inputs: Chosen, outputs: Chosen) -> None:
    """The 1x1 convolution that hands on the channels that both ends have, and a BatchNorm that does nothing."""
    shortcut.conv.weight.copy_((outputs[:, None] == inputs[None, :]).float()[:, :, None, None])
    if isinstance(shortcut.norm, nn.BatchNorm2d):
        shortcut.norm.weight.fill_((1 + shortcut.norm.eps) ** 0.5)


def narrows(shape: NetworkShape) -> bool:
    """Whether a block of residual shape makes the stream narrower than it enters (see ``searched_weights``)."""
    if shape.block == "plain":
        return False
    ends = [[shape.stem]] + [[block[-1] for block in stage] for stage in shape.stages]
    for stride, (before, inside) in zip(shape.strides, itertools.pairwise(ends), strict=True):
        # a first block of stride 2 has a convolution as its shortcut
        stream = inside if stride == 2 else [before[-1], *inside]
        if any(a > b for a, b in itertools.pairwise(stream)):
            return True
    return False
