"""Images of any sizes as batches of tensors for training: slices, grids, masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from paperworks.papers.hires_llava.encoder import HiResVisionEncoder
from paperworks.papers.hires_llava.features import Prepared, TokenRows
from paperworks.training import Batch


def as_tensors(prepared: Prepared) -> dict[str, torch.Tensor]:
    """``slices``, ``views``, ``grids`` int64 ``[n, 2]`` and ``mask``, the masks of all images in one row."""
    return {
        "slices": prepared.slices,
        "views": prepared.views,
        "grids": torch.tensor(prepared.grids, dtype=torch.int64).reshape(-1, 2),
        "mask": torch.cat([mask.flatten() for mask in prepared.masks]),
    }


def tokens_of_batch(encoder: HiResVisionEncoder, batch: Batch) -> list[TokenRows]:
    """Tokens of each image of a batch that ``as_tensors`` made."""
    grids = [(int(m), int(n)) for m, n in batch["grids"].tolist()]
    side = encoder.tower.side
    if not grids:  # global views alone
        maps = encoder.maps(batch["slices"], [], batch["views"])
        rows = encoder.sample(maps, [torch.ones(side, side, dtype=torch.bool)] * len(maps))
        return [replace(one, is_global=torch.ones_like(one.is_global)) for one in rows]
    counts = [m * n * side * side for m, n in grids]
    masks = [mask.reshape(m * side, n * side) for mask, (m, n) in zip(batch["mask"].split(counts), grids, strict=True)]
    return encoder.tokens_of(batch["slices"], grids, masks, batch["views"])


def mean_tokens(rows: Sequence[TokenRows]) -> torch.Tensor:
    """The mean token of each image ``[n, D]``."""
    return torch.stack([one.values.mean(0) for one in rows])
