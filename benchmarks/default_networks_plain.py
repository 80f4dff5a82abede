"""Plain networks that the default networks of the papers are compared with.

They are made of torch's modules with torch's own initialisation, and nothing of Paperworks. Others of the comparison
are models of transformers.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn


def parameters(model: nn.Module) -> int:
    """Numbers that are trained."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def nearest_size(make: Callable[[int], nn.Module], sizes: Sequence[int], wanted: int) -> int:
    """The size whose network has most nearly ``wanted`` parameters."""
    return min(sizes, key=lambda size: abs(parameters(make(size)) - wanted))


def perceptron(inputs: int, hidden: Sequence[int], outputs: int, *, norm: bool = False) -> nn.Sequential:
    """Linear, BatchNorm where it is wanted, ReLU; then Linear."""
    layers: list[nn.Module] = [nn.Flatten()]
    for before, after in itertools.pairwise((inputs, *hidden)):
        layers += [nn.Linear(before, after), *([nn.BatchNorm1d(after)] if norm else []), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear((inputs, *hidden)[-1], outputs))


def convolutions(channels: int, widths: Sequence[int], strides: Sequence[int], outputs: int) -> nn.Sequential:
    """3 x 3 convolutions with biases and ReLU, the mean over positions, Linear."""
    layers: list[nn.Module] = []
    for (before, after), stride in zip(itertools.pairwise((channels, *widths)), strides, strict=True):
        layers += [nn.Conv2d(before, after, 3, stride, 1), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], outputs))


class _Residual(nn.Module):
    def __init__(self, before: int, width: int, stride: int, residual: bool) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            *(nn.Conv2d(before, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()),
            *(nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)),
        )
        self.residual = residual
        self.shortcut: nn.Module = nn.Identity()
        if residual and (stride != 1 or before != width):
            self.shortcut = nn.Sequential(nn.Conv2d(before, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (self.branch(x) + self.shortcut(x) if self.residual else self.branch(x)).relu()


class ResidualNetwork(nn.Module):
    """He et al. 2016 for small images: a 3 x 3 stem, stages of basic blocks, the mean over positions, Linear."""

    def __init__(
        self, channels: int, widths: Sequence[int], outputs: int | None, *, blocks: int = 1, residual: bool = True
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(channels, widths[0], 3, 1, 1, bias=False), nn.BatchNorm2d(widths[0])]
        layers.append(nn.ReLU())
        for number, (before, width) in enumerate(itertools.pairwise((widths[0], *widths))):
            for block in range(blocks):
                stride = 2 if number and not block else 1
                layers.append(_Residual(width if block else before, width, stride, residual))
        self.body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Identity() if outputs is None else nn.Linear(widths[-1], outputs)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(inputs))


class PreNormTransformer(nn.Module):
    """Causal pre-normalised blocks of torch, each with weights of its own, and learned positions N(0, 0.02)."""

    def __init__(self, width: int, layers: int, heads: int, tokens: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, heads, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True)
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)
        self.positions = nn.Parameter(0.02 * torch.randn(tokens, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.positions[: x.shape[1]]
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1], device=x.device)
        for layer in self.layers:
            x = layer(x, src_mask=mask, is_causal=True)
        return self.norm(x)


class ClickPerceptron(nn.Module):
    """``nn.Embedding`` for every field, a linear term, pairs of embeddings and a perceptron with BatchNorm (DeepFM)."""

    def __init__(self, field_dims: Sequence[int], dim: int, hidden: Sequence[int]) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(size, dim) for size in field_dims)
        self.weights = nn.ModuleList(nn.Embedding(size, 1) for size in field_dims)
        self.deep = perceptron(len(field_dims) * dim, hidden, 1, norm=True)
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        each: list[Any] = [table(inputs[:, i]) for i, table in enumerate(self.tables)]
        linear = sum((w(inputs[:, i])[:, 0] for i, w in enumerate(self.weights)), self.bias)
        stacked = torch.stack(each, 1)
        pairs = sum((stacked[:, i] * stacked[:, j]).sum(1) for i, j in itertools.combinations(range(len(each)), 2))
        return linear + pairs + self.deep(stacked)[:, 0]
