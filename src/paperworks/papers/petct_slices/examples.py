"""Batches of slices for training and prediction; augmentation of training slices."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from paperworks.inputs.transforms import RowRandom
from paperworks.papers.petct_slices.preprocessing import Scale, stack_channels
from paperworks.training import Batch, BatchSource
from paperworks.training.samplers import RowOrder, Sampler, Shuffled

if TYPE_CHECKING:
    from paperworks.papers.petct_slices.slice_table import SliceTable

DEGREES, SCALING, SHIFT = 12.0, 0.1, 10 / 224
"""Ranges of the augmentation: +-12 degrees, 0.9 to 1.1 times, 10 pixels of 224."""


@dataclass(frozen=True)
class InputOptions:
    """How stored slices become the network's input; see ``stack_channels``."""

    channels: tuple[str, ...]
    pet_window: tuple[float, float]
    ct_window: tuple[float, float]
    scale: Scale
    normalise: bool


def inputs_of(table: SliceTable, rows: np.ndarray, options: InputOptions) -> Tensor:
    """The network's input for some rows of a table, float32 ``[n, channels, size, size]``."""
    planes = {name: table.images(name, rows) for name in sorted(set(options.channels))}
    statistics = table.statistics[rows] if options.scale == "patient" else None
    stacked = stack_channels(
        planes,
        options.channels,
        pet_window=options.pet_window,
        ct_window=options.ct_window,
        scale=options.scale,
        statistics=statistics,
        normalise=options.normalise,
    )
    return torch.from_numpy(stacked)


class SliceBatches(BatchSource):
    """Training batches: slices of some rows, in the order of a sampler, read from the store as they are needed.

    Epochs follow each other without gaps, so that every batch is full: BatchNorm never sees a rest of one slice.
    """

    def __init__(
        self,
        table: SliceTable,
        rows: np.ndarray,
        options: InputOptions,
        *,
        centers: np.ndarray | None = None,
        sampler: Sampler | None = None,
        augment: bool = False,
    ) -> None:
        self.table, self.rows, self.options = table, rows, options
        self.labels, self.centers, self.augment = table.labels[rows], centers, augment
        self.sampler: Sampler = Shuffled() if sampler is None else sampler
        self._order: RowOrder | None = None
        self._held: Tensor | None = None
        if len(rows) * len(options.channels) * table.size**2 * 4 <= 2**28:  # small sets stay in memory, ready
            self._held = inputs_of(table, rows, options)

    def batch(self, step: int, part: range, *, per_step: int, seed: int) -> Batch:
        if self._order is None or (self._order.per_step, self._order.seed) != (per_step, seed):
            self._order = RowOrder(len(self.rows), per_step, seed, self.sampler)
        places = self._order.rows(step)[part.start : part.stop]
        chosen = np.array([row for _, row in places])
        held = self._held
        inputs = inputs_of(self.table, self.rows[chosen], self.options) if held is None else held[chosen]
        if self.augment:
            epochs = np.array([epoch for epoch, _ in places])
            inputs = augmented(inputs, RowRandom(seed, epochs, self.rows[chosen]))
        batch = {"inputs": inputs, "labels": torch.from_numpy(self.labels[chosen])}
        if self.centers is not None:
            batch["center"] = torch.from_numpy(self.centers[chosen])
        return batch

    def steps(self, epochs: float, per_step: int) -> int:
        return RowOrder(len(self.rows), per_step, 0, self.sampler).steps(epochs)

    def identity(self) -> dict[str, object]:
        return {"slices": len(self.rows), "sampler": type(self.sampler).__name__, "augment": self.augment}


def augmented(images: Tensor, random: RowRandom) -> Tensor:
    """Slices flipped left to right, turned, scaled and moved; outside of the image there are zeros."""
    numbers = torch.from_numpy(random.uniform(5).astype(np.float32))
    flip = torch.where(numbers[:, 0] < 0.5, -1.0, 1.0)
    angle = (numbers[:, 1] * 2 - 1) * math.radians(DEGREES)
    factor = 1 / (1 + (numbers[:, 2] * 2 - 1) * SCALING)
    shift = (numbers[:, 3:] * 2 - 1) * SHIFT * 2  # the image is two units wide
    cosine, sine = torch.cos(angle) * factor, torch.sin(angle) * factor
    first = torch.stack([cosine * flip, -sine, shift[:, 0]], 1)
    second = torch.stack([sine * flip, cosine, shift[:, 1]], 1)
    grid = torch.nn.functional.affine_grid(torch.stack([first, second], 1), list(images.shape), align_corners=False)
    return torch.nn.functional.grid_sample(images, grid, align_corners=False)
