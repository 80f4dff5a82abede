"""Points at which masks are compared: random ones, those of an uncertain prediction, or all pixels."""

from __future__ import annotations

import torch
from torch.nn import functional


def sample(maps: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Values of maps ``[N, h, w]`` at points ``[N, P, 2]`` (x, y in [0, 1] of width and height), bilinear: ``[N, P]``.

    Outside of the outermost pixel centres a map counts as 0, as in the reference implementation of Mask2Former.
    """
    found = functional.grid_sample(maps[:, None], 2 * points[:, :, None] - 1, align_corners=False)
    return found[:, 0, :, 0]


def pixel_centres(height: int, width: int) -> torch.Tensor:
    """The centres of all pixels, row by row: ``[height * width, 2]``."""
    rows, columns = torch.meshgrid(
        (torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width, indexing="ij"
    )
    return torch.stack([columns, rows], -1).flatten(0, 1)


def uncertain_points(
    logits: torch.Tensor, count: int, oversample: float = 3.0, importance: float = 0.75
) -> torch.Tensor:
    """Points ``[N, count, 2]``: a share ``importance`` where logits ``[N, h, w]`` are nearest to 0, the rest uniform.

    The uncertain ones are chosen among ``oversample * count`` uniform points.
    """
    number = len(logits)
    candidates = torch.rand(number, max(count, round(count * oversample)), 2, device=logits.device, dtype=logits.dtype)
    nearest = int(importance * count)
    with torch.no_grad():
        uncertainty = -sample(logits, candidates).abs()
        chosen = uncertainty.topk(nearest, dim=1).indices
    hard = candidates.gather(1, chosen[..., None].expand(-1, -1, 2))
    rest = torch.rand(number, count - nearest, 2, device=logits.device, dtype=logits.dtype)
    return torch.cat([hard, rest], 1)


def dice_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """1 - (2 sum s t + 1) / (sum s + sum t + 1), s the sigmoid, of each row ``[N, P]``: ``[N]``."""
    share = logits.sigmoid()
    return 1 - (2 * (share * targets).sum(-1) + 1) / (share.sum(-1) + targets.sum(-1) + 1)


def cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean binary cross-entropy of each row ``[N, P]``: ``[N]``."""
    return functional.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(-1)
