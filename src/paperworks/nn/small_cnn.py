"""A small convolutional network, plain or residual."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn

from paperworks.nn.saving import SavedNetwork, require


class SmallCNN(SavedNetwork):
    """A small convolutional network for images of any size: stages of 3x3 convolutions, each at half the resolution.

    ::

        pixel_values [n, channels, H, W]
              |  stem: conv 3x3 -> norm -> ReLU
              |  stage 1:  block * blocks                   widths[0]
              |  stage 2:  block (stride 2) * blocks        widths[1]
              |  ...                                        widths[-1]
              v
        mean over positions -> Linear -> logits [n, outputs]

        block:  x -> conv 3x3 -> norm -> ReLU -> conv 3x3 -> norm -> (+ shortcut of x, with residual) -> ReLU

    The shortcut is the identity, or a 1x1 convolution with a norm where width or resolution change (He et al. 2016).
    The first weights are those that torch draws. A norm follows each convolution, so that their scale does not change
    the output but divides their gradient: wider ones, such as Kaiming's, turn less in a step of SGD.

    Parameters
    ----------
    channels : of the images.
    widths : channels of each stage.
    blocks : blocks in each stage.
    outputs : logits.
    residual : add the shortcuts. Without them blocks are plain.
    norm : ``batch``, or ``group`` (in at most 8 groups), whose output does not depend on the other examples.

    Examples
    --------
    >>> SmallCNN(channels=3, widths=(8, 16), outputs=5)(torch.zeros(2, 3, 12, 12)).shape
    torch.Size([2, 5])
    """

    def __init__(
        self,
        *,
        channels: int = 1,
        widths: Sequence[int] = (32, 64, 128),
        blocks: int = 1,
        outputs: int = 10,
        residual: bool = True,
        norm: Literal["batch", "group"] = "batch",
    ) -> None:
        super().__init__(
            channels=channels, widths=list(widths), blocks=blocks, outputs=outputs, residual=residual, norm=norm
        )
        require("channels", channels, channels >= 1, "1 or more")
        require("widths", widths, bool(widths) and all(w >= 1 for w in widths), "widths of 1 or more")
        require("blocks", blocks, blocks >= 1, "1 or more")
        require("outputs", outputs, outputs >= 1, "1 or more")
        require("norm", norm, norm in ("batch", "group"), "batch or group")
        first = widths[0]
        self.stem = nn.Sequential(nn.Conv2d(channels, first, 3, padding=1, bias=False), _norm(norm, first))
        stages: list[nn.Module] = []
        for number, (before, width) in enumerate(itertools.pairwise((first, *widths))):
            for block in range(blocks):
                stride = 2 if number and not block else 1
                stages.append(ConvBlock(width if block else before, width, stride, residual=residual, norm=norm))
        self.blocks = nn.Sequential(*stages)
        self.head = nn.Linear(widths[-1], outputs)

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Logits ``[n, outputs]`` of images float ``[n, channels, H, W]``."""
        return self.head(self.features(pixel_values))

    def features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Mean over positions of the last stage, float ``[n, widths[-1]]``."""
        return self.blocks(self.stem(pixel_values).relu()).mean((2, 3))


class ConvBlock(nn.Module):
    """Two 3x3 convolutions with norms, and a shortcut around them if ``residual``."""

    def __init__(self, before: int, width: int, stride: int, *, residual: bool, norm: str) -> None:
        super().__init__()
        self.residual = residual
        self.conv1 = nn.Conv2d(before, width, 3, stride, padding=1, bias=False)
        self.norm1 = _norm(norm, width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = _norm(norm, width)
        self.shortcut: nn.Module = nn.Identity()
        if residual and (stride != 1 or before != width):
            self.shortcut = nn.Sequential(nn.Conv2d(before, width, 1, stride, bias=False), _norm(norm, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm2(self.conv2(self.norm1(self.conv1(x)).relu()))
        return (y + self.shortcut(x) if self.residual else y).relu()


def _norm(kind: str, width: int) -> nn.Module:
    return nn.BatchNorm2d(width) if kind == "batch" else nn.GroupNorm(math.gcd(8, width), width)
