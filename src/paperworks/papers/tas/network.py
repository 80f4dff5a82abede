"""The network of a shape, in plain torch modules."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from torch import nn

from paperworks.errors import InputError
from paperworks.nn.modes import evaluation_mode
from paperworks.nn.saving import SavedNetwork
from paperworks.papers.tas.shapes import KERNELS, NetworkShape
from paperworks.parameters import check_seed
from paperworks.runs.files import new_file


class ShapedNetwork(SavedNetwork):
    """The network of a ``NetworkShape``, full or found.

    ``save_pretrained`` and ``from_pretrained`` keep it in a folder, with the widths in ``config.json``.
    ``export_program`` writes a file that torch loads without Paperworks.

    Parameters
    ----------
    shape : the fields of a ``NetworkShape``; see ``of``.
    """

    def __init__(self, **shape: Any) -> None:
        found = NetworkShape.from_dict(shape)
        super().__init__(**found.to_dict())
        self.shape = found
        large = found.stem_kind == "large"
        kernel, stride = (7, 2) if large else (3, 1)
        self.stem = ConvNorm(found.channels, found.stem, kernel, stride)
        self.pool: nn.Module = nn.MaxPool2d(3, 2, 1) if large else nn.Identity()
        stages, width = [], found.stem
        for stage, first_stride in zip(found.stages, found.strides, strict=True):
            blocks: list[nn.Module] = []
            for number, widths in enumerate(stage):
                blocks.append(Block(found.block, width, widths, 1 if number else first_stride))
                width = widths[-1]
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(width, found.outputs)
        self.apply(self._init_weights)

    @classmethod
    def options(cls) -> list[str]:
        """The names of the network's options: those of ``NetworkShape``."""
        return list(NetworkShape.__dataclass_fields__)

    @classmethod
    def of(cls, shape: NetworkShape, *, seed: int = 0) -> ShapedNetwork:
        """A network of this shape with fresh weights, which depend on the seed only."""
        check_seed("seed", seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(**shape.to_dict())

    @staticmethod
    def _init_weights(module: nn.Module) -> None:
        kaiming_convolution(module)

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Logits ``[n, outputs]`` of images float ``[n, channels, H, W]``."""
        return self.head(self.features(pixel_values))

    def features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Mean over positions of the last stage, float ``[n, width]``."""
        return self.stages(self.pool(self.stem(pixel_values).relu())).mean((2, 3))


class ConvNorm(nn.Module):
    """A convolution without bias that keeps the resolution at stride 1, and a BatchNorm."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, *, norm: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(outputs) if norm else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(x))


class Block(nn.Module):
    """The convolutions of a block, with its shortcut. See ``NetworkShape``."""

    def __init__(self, kind: str, inputs: int, widths: tuple[int, ...], stride: int) -> None:
        super().__init__()
        self.residual = kind != "plain"
        kernels = KERNELS[kind]
        convs, width = [], inputs
        for number, (kernel, out) in enumerate(zip(kernels, widths, strict=True)):
            convs.append(ConvNorm(width, out, kernel, stride if number == kernels.index(3) else 1))
            width = out
        self.convs = nn.ModuleList(convs)
        self.shortcut: nn.Module = nn.Identity()
        if self.residual and stride == 2:
            self.shortcut = nn.Sequential(halving_pool(), ConvNorm(inputs, width, 1, norm=False))
        elif self.residual and inputs != width:
            self.shortcut = ConvNorm(inputs, width, 1, norm=kind == "basic")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x
        for number, conv in enumerate(self.convs):
            y = conv(y if number == 0 else y.relu())
        return (y + self.shortcut(x) if self.residual else y).relu()


def kaiming_convolution(module: nn.Module) -> None:
    """Kaiming's first weights by fan out (He et al. 2015) for a convolution: those of the paper's networks."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def halving_pool() -> nn.Module:
    """Average pooling 2x2 of stride 2; an odd side is rounded up, as a convolution of stride 2 does."""
    return nn.AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False)


def export_program(model: nn.Module, example: torch.Tensor, path: str | Path) -> None:
    """Write a network as a new file of ``torch.export``, for any number of images of this size.

    ``torch.export.load(path).module()(images)`` runs it, in evaluation mode, where Paperworks is not installed.

    Parameters
    ----------
    example : images float ``[n, channels, H, W]``, two or more.

    Raises
    ------
    InputError : fewer than two examples, or a file that exists.
    """
    if len(example) < 2:
        raise InputError("example", f"{len(example)} images", "2 or more, so that their number is left open")
    batch = torch.export.Dim("batch", min=1, max=65536)
    with evaluation_mode(model), torch.no_grad():
        program = torch.export.export(model, (example,), dynamic_shapes=({0: batch},), strict=False)
    content = io.BytesIO()
    torch.export.save(program, content)
    with new_file(Path(path)) as aside:
        aside.write_bytes(content.getvalue())
