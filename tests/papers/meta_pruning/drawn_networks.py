"""Random networks of a few units a layer, for properties that must hold of any of them."""

from __future__ import annotations

import torch
from hypothesis import strategies as st
from torch import nn

widths = st.integers(1, 4)
"""Layers of one unit are as good as any."""


class Residual(nn.Module):
    """``x + branch(x)``."""

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.branch(x)


class Concatenated(nn.Module):
    """Outputs of branches, one behind the other; with the input in front where ``own``."""

    def __init__(self, branches: list[nn.Module], own: bool) -> None:
        super().__init__()
        self.branches, self.own = nn.ModuleList(branches), own

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = [branch(x) for branch in self.branches]
        return torch.cat([x, *found] if self.own else found, 1)


class SharedNorm(nn.Module):
    """One norm after each of two layers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.second(self.norm(self.first(x)).relu())).relu()


@st.composite
def convolutions(draw: st.DrawFn, inputs: int) -> tuple[nn.Module, int]:
    """A convolution with or without bias and norm, a residual branch, a depthwise one, or several side by side."""
    kind = draw(st.sampled_from(["plain", "residual", "depthwise", "grouped", "concatenated", "norm"]))
    bias, normed, kernel = draw(st.booleans()), draw(st.booleans()), draw(st.sampled_from([1, 3]))
    width = draw(widths)

    def plain(before: int, after: int, groups: int = 1) -> nn.Sequential:
        layers: list[nn.Module] = [nn.Conv2d(before, after, kernel, padding=kernel // 2, bias=bias, groups=groups)]
        if normed:
            layers.append(nn.BatchNorm2d(after))
        return nn.Sequential(*layers, nn.ReLU())

    if kind == "plain":
        return plain(inputs, width), width
    if kind == "residual":
        return Residual(nn.Sequential(plain(inputs, width), nn.Conv2d(width, inputs, 1, bias=bias))), inputs
    if kind == "depthwise":
        return nn.Sequential(plain(inputs, width), plain(width, width, width)), width
    if kind == "grouped":
        return nn.Sequential(plain(inputs, 4), plain(4, 2 * width, 2)), 2 * width
    if kind == "concatenated":
        other, own = draw(widths), draw(st.booleans())
        made = Concatenated([plain(inputs, width), plain(inputs, other)], own)
        return made, width + other + inputs * own
    return nn.Sequential(nn.BatchNorm2d(inputs), nn.ReLU()), inputs


@st.composite
def linears(draw: st.DrawFn, inputs: int) -> tuple[nn.Module, int]:
    """A linear layer with or without bias and norm, a residual branch with its norm in front, or a shared norm."""
    kind = draw(st.sampled_from(["plain", "residual", "concatenated", "shared norm"]))
    bias, norm, width = draw(st.booleans()), draw(st.sampled_from([None, nn.BatchNorm1d, nn.LayerNorm])), draw(widths)

    def plain(before: int, after: int) -> nn.Sequential:
        normed = [] if norm is None else [norm(after)]
        return nn.Sequential(nn.Linear(before, after, bias=bias), *normed, nn.ReLU())

    if kind == "plain":
        return plain(inputs, width), width
    if kind == "residual":
        front = [] if norm is None else [norm(inputs)]
        return Residual(nn.Sequential(*front, plain(inputs, width), nn.Linear(width, inputs, bias=bias))), inputs
    if kind == "concatenated":
        own = draw(st.booleans())
        return Concatenated([plain(inputs, width)], own), width + inputs * own
    return SharedNorm(inputs), inputs


@st.composite
def networks(draw: st.DrawFn) -> tuple[nn.Module, torch.Tensor]:
    """A network in evaluation mode with random parameters and statistics, and a batch of two inputs."""
    layers: list[nn.Module] = []
    width = draw(widths)
    with_images = draw(st.booleans())
    inputs = torch.Size([2, width, 3, 3] if with_images else [2, width])
    if with_images:
        for _ in range(draw(st.integers(1, 3))):
            layer, width = draw(convolutions(width))
            layers.append(layer)
        if draw(st.booleans()):
            layers.append(nn.Flatten())
            width *= 9
        else:
            layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    for _ in range(draw(st.integers(0 if with_images else 1, 2))):
        layer, width = draw(linears(width))
        layers.append(layer)
    model = nn.Sequential(*layers, nn.Linear(width, draw(widths)))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    for tensor in [*model.parameters(), *model.buffers()]:
        if tensor.is_floating_point():
            tensor.data = torch.rand(tensor.shape, generator=generator) + 0.1
    return model.eval(), torch.rand(inputs, generator=generator)
