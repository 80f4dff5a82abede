"""The parts of the network: sliced attention, the block with learnable residual coefficients, projection, stem."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from paperworks.errors import InputError
from paperworks.papers.sret.recursion import check_groups, into_groups, out_of_groups

EPS = 1e-6
"""Of every layer normalisation."""


class GroupAttention(nn.Module):
    """Multi-head self-attention inside groups of tokens.

    ``o_i = sum_{j in the group of i} softmax_j(q_i k_j / sqrt(d)) v_j``, and a linear map of the heads side by side.
    Groups are runs of N / G consecutive tokens, after the permutation where there is one.

    Parameters
    ----------
    width : D, of the tokens.
    heads : h; the width of a head is d = D / h.
    dropout : share of attention weights dropped in training.
    """

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        if width % heads:
            raise InputError("heads", heads, f"a divisor of the width {width}")
        self.heads, self.dropout = heads, dropout
        self.qkv = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)

    def forward(self, tokens: Tensor, groups: int = 1, permutation: Tensor | None = None) -> Tensor:
        """Tokens ``[n, N, D]``; ``permutation`` int64 ``[N]``, where each position of the sliced order comes from.

        Raises InputError for a group count that does not divide N.
        """
        check_groups("groups", groups, tokens.shape[1])
        sliced = into_groups(tokens, groups, permutation)
        n, length, width = sliced.shape
        q, k, v = self.qkv(sliced).view(n, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        dropout = self.dropout if self.training else 0.0
        mixed = functional.scaled_dot_product_attention(q, k, v, dropout_p=dropout)
        mixed = mixed.transpose(1, 2).reshape(n, length, width)
        return self.output(out_of_groups(mixed, groups, permutation))


class MLP(nn.Module):
    """Linear, GELU, Linear, with dropout after each."""

    def __init__(self, width: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.expand = nn.Linear(width, hidden)
        self.contract = nn.Linear(hidden, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens of the same shape."""
        hidden = self.dropout(functional.gelu(self.expand(tokens)))
        return self.dropout(self.contract(hidden))


class DropPath(nn.Module):
    """Stochastic depth (Huang et al. 2016): the branch of an example is dropped in training with ``probability``."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, branch: Tensor) -> Tensor:
        """A branch ``[n, ...]``; what is kept is scaled up, so that its expectation stays."""
        if not self.training or self.probability == 0:
            return branch
        kept = 1 - self.probability
        mask = branch.new_empty(len(branch), *[1] * (branch.ndim - 1)).bernoulli_(kept)
        return branch * mask / kept


def _coefficients(count: int, learned: bool) -> nn.Parameter | None:
    return nn.Parameter(torch.ones(count)) if learned else None


def _sum(x: Tensor, branch: Tensor, coefficients: Tensor | None, first: int) -> Tensor:
    """``a x + b branch`` with two of the coefficients, or the plain sum."""
    return x + branch if coefficients is None else coefficients[first] * x + coefficients[first + 1] * branch


class Block(nn.Module):
    """A transformer block with learnable residual coefficients (LRC).

    ``x <- a1 x + a2 DropPath(attention(LN(x)))``, then ``x <- a3 x + a4 DropPath(MLP(LN(x)))``; a1 to a4 begin at 1.

    Parameters
    ----------
    width, heads : of the attention.
    mlp_ratio : the hidden layer of the MLP has ``int(mlp_ratio * width)`` units.
    lrc : learn the coefficients; otherwise they are 1.
    dropout, attention_dropout, drop_path : shares dropped in training.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        mlp_ratio: float = 4.0,
        *,
        lrc: bool = True,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width, eps=EPS)
        self.attention = GroupAttention(width, heads, attention_dropout)
        self.attention_out = nn.Dropout(dropout)
        self.mlp_norm = nn.LayerNorm(width, eps=EPS)
        self.mlp = MLP(width, int(mlp_ratio * width), dropout)
        self.drop_path = DropPath(drop_path)
        self.coefficients = _coefficients(4, lrc)

    def forward(self, tokens: Tensor, groups: int = 1, permutation: Tensor | None = None) -> Tensor:
        """Tokens ``[n, N, D]``; see ``GroupAttention``."""
        branch = self.attention_out(self.attention(self.attention_norm(tokens), groups, permutation))
        tokens = _sum(tokens, self.drop_path(branch), self.coefficients, 0)
        return _sum(tokens, self.drop_path(self.mlp(self.mlp_norm(tokens))), self.coefficients, 2)


class NonlinearProjection(nn.Module):
    """The projection behind every pass (NLL): ``b1 x + b2 MLP(LN(x))``, with weights that are never shared."""

    def __init__(self, width: int, ratio: float = 1.0, *, lrc: bool = True, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=EPS)
        self.mlp = MLP(width, int(ratio * width), dropout)
        self.coefficients = _coefficients(2, lrc)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens of the same shape."""
        return _sum(tokens, self.mlp(self.norm(tokens)), self.coefficients, 0)


def stem_widths(channels: int, width: int, convolutions: int) -> list[int]:
    """Channels in front of, between and behind the convolutions of a stem."""
    return [channels, *([width // 2] if convolutions > 1 else []), *[width] * max(convolutions - 1, 1)]


class ConvStem(nn.Module):
    """Convolutions of 3 x 3, each with a normalisation and ReLU: channels -> D // 2 -> D -> D ..., or D at once.

    Parameters
    ----------
    channels, width : of the images, and D.
    strides : of the convolutions, as many as there are; three in the paper.
    norm : "batch", or "group", which does not depend on the other images of a batch.
    """

    def __init__(
        self,
        channels: int,
        width: int,
        strides: Sequence[int] = (2, 2, 2),
        norm: Literal["batch", "group"] = "batch",
    ) -> None:
        super().__init__()
        widths = stem_widths(channels, width, len(strides))
        layers: list[nn.Module] = []
        for before, after, stride in zip(widths, widths[1:], strides, strict=False):
            layers.append(nn.Conv2d(before, after, 3, stride, 1))
            layers.append(nn.BatchNorm2d(after) if norm == "batch" else nn.GroupNorm(math.gcd(after, 8), after))
            layers.append(nn.ReLU())
        self.layers = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        """Maps ``[n, D, H', W']`` of images ``[n, channels, H, W]``."""
        return self.layers(images)
