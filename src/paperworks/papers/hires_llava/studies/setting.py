"""What the studies of digits share: the canvases, the frozen encoder, how readers are trained.

scikit-learn's digits at 12 pixels, half of them for training and half for tests; slices of 16 x 16 pixels; a TinyViT of
3 layers and width 48 that has learned single digits and is frozen. Options were chosen on seed 100.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from paperworks.papers.hires_llava.encoder import HiResVisionEncoder
from paperworks.papers.hires_llava.entitygrid.generation import EntityGrid
from paperworks.papers.hires_llava.restoration import (
    PIXEL_MEAN,
    PIXEL_STD,
    ReadingSettings,
    stand_in_tower,
)
from paperworks.papers.hires_llava.towers import VisionTower

SEEDS = 3
PRETRAIN_STEPS, SHORT_PRETRAIN_STEPS = 250, 150
READ = ReadingSettings(steps=200, batch_size=32, learning_rate=5e-3, test_per_position=60)
PLAIN = ReadingSettings(steps=200, batch_size=32, learning_rate=1e-2, test_per_position=60)
"""Of readers without the adapter: a linear head alone bears a higher rate."""


TOWER_STEPS = 80
"""Of readers where many are trained: on towers of other architectures, and of the adapter in front of samplers."""


def adapted(path: str = "both") -> Callable[[Any], HiResVisionEncoder]:
    """A function from a tower to an encoder with an adapter after every layer."""

    def make(vision: Any) -> HiResVisionEncoder:
        return HiResVisionEncoder(vision, sra_layers="all", path=path, sampler=None, global_view=False)  # type: ignore[arg-type]

    return make


def small(steps: ReadingSettings, fast: bool) -> ReadingSettings:
    """The settings, or a few steps of them."""
    return ReadingSettings(5, 8, steps.learning_rate, 5) if fast else steps


def seed_tower(seed: int, fast: bool, steps: int = PRETRAIN_STEPS) -> tuple[EntityGrid, VisionTower]:
    """The grid and the frozen encoder of a seed."""
    grid = EntityGrid("digits", canvas=32, seed=seed)
    model = stand_in_tower(grid, steps=5 if fast else steps, seed=seed)
    return grid, VisionTower(model, mean=PIXEL_MEAN, std=PIXEL_STD)
