"""The SliceRestore adapter: slices are joined to one map, mixed across the cuts, and cut again.

F    = merge(P)                                        [k, m h, n w, D]
F^   = depth-wise convolution(F) + up(attention(down(F)))
P   <- P + projection(split(F^))
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn
from torch.nn import functional

from paperworks.errors import InputError
from paperworks.papers.hires_llava.grid import Grid
from paperworks.parameters import check_whole

Path = Literal["both", "local", "global"]


def merge_slices(slices: torch.Tensor, grid: Grid) -> torch.Tensor:
    """One map of each image from its slices: ``[k, m * n, h, w, D]``, row-major, becomes ``[k, m * h, n * w, D]``.

    Raises InputError if the number of slices is not that of the grid.
    """
    m, n = grid
    if slices.ndim != 5 or slices.shape[1] != m * n:
        raise InputError("slices", tuple(slices.shape), f"[k, {m * n}, h, w, D] for a grid of {m} x {n}")
    k, _, h, w, width = slices.shape
    # rows of the map are (m, h), columns are (n, w): without the swap the map is scrambled
    return slices.view(k, m, n, h, w, width).transpose(2, 3).reshape(k, m * h, n * w, width)


def split_slices(whole: torch.Tensor, grid: Grid) -> torch.Tensor:
    """The slices of each map, row-major: ``[k, m * h, n * w, D]`` becomes ``[k, m * n, h, w, D]``.

    Raises InputError if the map does not divide into the grid.
    """
    m, n = grid
    if whole.ndim != 4 or whole.shape[1] % m or whole.shape[2] % n:
        raise InputError("whole", tuple(whole.shape), f"[k, m h, n w, D] that divides into {m} x {n}")
    k, rows, columns, width = whole.shape
    h, w = rows // m, columns // n
    return whole.view(k, m, h, n, w, width).transpose(2, 3).reshape(k, m * n, h, w, width)


class SliceRestoreAdapter(nn.Module):
    """Mixes the slices of an image after a layer of the encoder.

    Parameters
    ----------
    width : of the tokens, D.
    heads : of the global path's attention; must divide ``width``.
    kernel : side of the depth-wise convolution, odd.
    stride : of the convolution: 1, or ``kernel`` (its output is then up-sampled).
    path : "both", "local" (convolution only) or "global" (attention only).
    normalize : LayerNorm of the tokens before they are mixed.
    init : "zero" starts with a projection of 0, so that the encoder is unchanged at first; "default" with a random one.
    down : "area" averages, "bilinear" interpolates (``align_corners=False``, without antialiasing).
    skip_single : leave an image of one slice as it is.

    Raises
    ------
    InputError : an even kernel, a stride that is neither, a width that the heads do not divide.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        kernel: int = 3,
        stride: int = 1,
        path: Path = "both",
        normalize: bool = True,
        init: Literal["zero", "default"] = "zero",
        down: Literal["area", "bilinear"] = "area",
        skip_single: bool = False,
    ) -> None:
        super().__init__()
        check_whole("width", width, 1)
        check_whole("heads", heads, 1)
        if width % heads:
            raise InputError("heads", heads, f"a divisor of the width {width}")
        if check_whole("kernel", kernel, 1) % 2 == 0:
            raise InputError("kernel", kernel, "an odd number")
        if stride not in (1, kernel):
            raise InputError("stride", stride, f"1, or the kernel's {kernel}")
        for name, value, known in (
            ("path", path, ("both", "local", "global")),
            ("init", init, ("zero", "default")),
            ("down", down, ("area", "bilinear")),
        ):
            if value not in known:
                raise InputError(name, repr(value), f"one of {', '.join(known)}")
        self.kernel, self.stride, self.path, self.down, self.skip_single = kernel, stride, path, down, skip_single
        self.norm = nn.LayerNorm(width) if normalize else nn.Identity()
        local, glob = path != "global", path != "local"
        self.convolution = nn.Conv2d(width, width, kernel, stride, padding=kernel // 2, groups=width) if local else None
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True) if glob else None
        self.projection = nn.Linear(width, width)
        if init == "zero":
            # of the projection only: with the convolution at zero as well no gradient would reach it
            nn.init.zeros_(self.projection.weight)
            nn.init.zeros_(self.projection.bias)

    def forward(self, slices: torch.Tensor, grid: Grid) -> torch.Tensor:
        """Mixed slices of k images of the same grid: float ``[k, m * n, h, w, D]`` to the same shape."""
        if self.skip_single and grid == (1, 1):
            return slices
        h, w = slices.shape[2:4]
        whole = merge_slices(self.norm(slices), grid).movedim(-1, 1)  # [k, D, m h, n w]
        mixed = torch.zeros_like(whole)
        if self.convolution is not None:
            local = self.convolution(whole)
            mixed = mixed + (local if self.stride == 1 else _interpolate(local, whole.shape[-2:]))
        if self.attention is not None:
            mixed = mixed + self._global(whole, (h, w))
        return slices + self.projection(split_slices(mixed.movedim(1, -1), grid))

    def _global(self, whole: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        small = functional.adaptive_avg_pool2d(whole, size) if self.down == "area" else _interpolate(whole, size)
        tokens = small.flatten(2).transpose(1, 2)
        assert self.attention is not None
        seen, _ = self.attention(tokens, tokens, tokens, need_weights=False)
        return _interpolate(seen.transpose(1, 2).unflatten(2, size), whole.shape[-2:])


def adapter_macs(grid: Grid, tokens: int, width: int, kernel: int = 3) -> dict[str, int]:
    """Multiply-accumulates of one adapter on one image, by path, beside attention over the whole map.

    ``tokens`` is L, the tokens of a slice: local ``k^2 (m n L) D``, global ``4 L D^2 + 2 L^2 D``.
    """
    count = grid[0] * grid[1] * tokens
    return {
        "local": kernel**2 * count * width,
        "global": 4 * tokens * width**2 + 2 * tokens**2 * width,
        "full": 4 * count * width**2 + 2 * count**2 * width,
    }


def _interpolate(x: torch.Tensor, size: tuple[int, int] | torch.Size) -> torch.Tensor:
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    return functional.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)
