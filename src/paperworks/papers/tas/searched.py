"""What the search network knows about one of its networks, as a plain network: to compare the two."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from paperworks.papers.tas.inheritance import copy_norm, hand_on, shortcut_of
from paperworks.papers.tas.network import Block, ConvNorm, ShapedNetwork
from paperworks.papers.tas.space import Genotype
from paperworks.papers.tas.supernet import BlockChoice, SearchNetwork, WidthChoice


def searched_weights(network: SearchNetwork, genotype: Genotype) -> ShapedNetwork:
    """The plain network of a genotype with the weights that the search network has for it.

    In evaluation mode it computes what ``network.certain(genotype)`` computes wherever no block makes the residual
    stream narrower: there the search network hands on the wider stream, and a plain network cannot.
    """
    plain, genotype = network.build(genotype), network.genotype_at(network.positions(genotype))
    widths, depths = list(genotype["widths"].values()), list(genotype["depths"].values())
    with torch.no_grad():
        _take(plain.stem, network.stem, widths)
        for stage, small in enumerate(plain.stages):
            assert isinstance(small, nn.Sequential)
            blocks: Sequence[nn.Module] = list(network.stages[stage])[: depths[stage]]  # type: ignore[call-overload]
            for target, origin in zip(small, blocks, strict=True):
                assert isinstance(target, Block)
                assert isinstance(origin, BlockChoice)
                for conv, choice in zip(target.convs, origin.convs, strict=True):
                    assert isinstance(conv, ConvNorm)
                    assert isinstance(choice, WidthChoice)
                    _take(conv, choice, widths)
                mine = shortcut_of(target)
                if mine is not None and origin.shortcut is not None:
                    _take(mine, origin.shortcut, widths)
                elif mine is not None:
                    hand_on(mine, torch.arange(mine.conv.in_channels), torch.arange(mine.conv.out_channels))
        plain.head.weight.copy_(network.head.weight[:, : plain.head.in_features])
        plain.head.bias.copy_(network.head.bias)
    return plain


def _take(target: ConvNorm, origin: WidthChoice, widths: Sequence[int]) -> None:
    out, inputs = target.conv.out_channels, target.conv.in_channels
    target.conv.weight.copy_(origin.conv.weight[:out, :inputs])
    norm = origin.norms[origin.candidates.index(widths[origin.number])]
    if isinstance(target.norm, nn.BatchNorm2d):
        assert isinstance(norm, nn.BatchNorm2d)
        copy_norm(target.norm, norm, torch.arange(out))
