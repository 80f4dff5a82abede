"""What goes into the encoder and what comes out: prepared images, tokens, features."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

from paperworks.papers.hires_llava.grid import Box, Grid, Placement


@dataclass(frozen=True)
class Prepared:
    """Images as the tower's input.

    Attributes
    ----------
    slices : pixels of the slices of all images, image by image, row-major, float ``[sum m n, channels, S, S]``.
    views : the whole images at the tower's size ``[n, channels, S, S]``; ``[0, ...]`` without a global view.
    grids : rows and columns of slices of each image.
    masks : for each image, which tokens of its map have a pixel of it, bool ``[m h, n w]``.
    placements : how each image lies on its canvas.
    notes : what was converted.
    """

    slices: torch.Tensor
    views: torch.Tensor
    grids: list[Grid]
    masks: list[torch.Tensor]
    placements: list[Placement] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class HiResFeatures:
    """What the encoder gives for one image.

    Attributes
    ----------
    tokens : float ``[N, D]``: those of the global view, then those of the restored map in raster order; tokens of
        padding only are left out.
    n_global : how many tokens are of the global view.
    map : the restored map before sampling, float ``[Hf, Wf, D]``.
    grid : rows and columns of slices.
    valid_mask : which tokens of the map have a pixel of the image, bool ``[Hf, Wf]``.
    token_boxes : the part of the image that each token stands for, float ``[N, 4]``: left, top, right, bottom in
        pixels. Tokens of learned queries stand for the whole image.
    slice_boxes : where the slices lie in the image.
    """

    tokens: np.ndarray
    n_global: int
    map: np.ndarray
    grid: Grid
    valid_mask: np.ndarray
    token_boxes: np.ndarray
    slice_boxes: list[Box]


@dataclass(frozen=True)
class TokenRows:
    """Tokens of one image: ``values`` ``[N, D]``, and for each its row, column and whether it is of the global view."""

    values: torch.Tensor
    rows: torch.Tensor
    columns: torch.Tensor
    is_global: torch.Tensor


def joined(first: TokenRows, second: TokenRows) -> TokenRows:
    """Tokens of the global view with those of the restored map behind them."""
    return TokenRows(
        torch.cat([first.values, second.values]),
        torch.cat([first.rows, second.rows]),
        torch.cat([first.columns, second.columns]),
        torch.cat([torch.ones_like(first.is_global), second.is_global]),
    )
