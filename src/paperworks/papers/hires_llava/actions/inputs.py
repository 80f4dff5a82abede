"""What the actions read: images, the encoder, the objects of EntityGrid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from paperworks import runs
from paperworks.inputs.images import ImageDataset, read_images
from paperworks.nn import resolve_device
from paperworks.papers.hires_llava.config import Config
from paperworks.papers.hires_llava.encoder import HiResVisionEncoder
from paperworks.papers.hires_llava.entitygrid.generation import EntityGrid
from paperworks.papers.hires_llava.pixels import stored_rgb
from paperworks.papers.hires_llava.restoration import PIXEL_MEAN, PIXEL_STD, stand_in_tower
from paperworks.papers.hires_llava.towers import VisionTower, load_tower

STAND_IN_SIDE = 16
"""Pixels of a slice of the small encoder."""
PAGES = 40
"""Pages of bundled digits."""


@dataclass(frozen=True)
class Images:
    """Images to look at, with their names and what was said about them."""

    pixels: list[np.ndarray]
    names: list[str]
    notes: list[str]


def read_user_images(config: Config, run: runs.Run) -> Images:
    """The user's images, at most ``limit``; pages of bundled digits by default."""
    if config.images == "digits":
        pages = digit_pages(min(PAGES, config.limit), config.seed)
        return Images(pages, [f"page {i + 1}" for i in range(len(pages))], [])
    run.step(f"reading {config.images}")
    dataset = read_images(config.images, progress=run.progress)
    chosen = np.arange(len(dataset))
    notes = described(dataset)
    if len(dataset) > config.limit:
        chosen = np.sort(run.rng("images").choice(len(dataset), config.limit, replace=False))
        notes.append(f"{config.limit:,} of {len(dataset):,} images were drawn (option limit)")
    return Images(
        [stored_rgb(dataset, int(row)) for row in chosen], [dataset.image_name(int(row)) for row in chosen], notes
    )


def described(dataset: ImageDataset) -> list[str]:
    """What was read, and what was left out or converted."""
    return [line for line in dataset.describe().splitlines() if not line.startswith("without labels")]


def digit_pages(count: int, seed: int) -> list[np.ndarray]:
    """Pages of 32 x 32 pixels, uint8 ``[32, 32, 3]``, with handwritten digits of 12 pixels at random places."""
    grid = EntityGrid("digits", canvas=2 * STAND_IN_SIDE, seed=seed)
    rng = np.random.default_rng([seed, 5])
    pages = []
    for _ in range(count):
        page = np.zeros((grid.canvas, grid.canvas, 3), np.uint8)
        for _ in range(4):
            image = grid.test.fitted(int(rng.integers(len(grid.test))), grid.entity_side)
            top, left = rng.integers(0, grid.canvas - grid.entity_side, size=2)
            part = page[top : top + grid.entity_side, left : left + grid.entity_side]
            part[:] = np.maximum(part, image)
        pages.append(page)
    return pages


def entity_grid(config: Config, side: int) -> EntityGrid:
    """EntityGrid on canvases of two slices of ``side`` pixels along each side."""
    canvas = 2 * side if config.canvas is None else config.canvas
    return EntityGrid(
        config.entities,
        canvas=canvas,
        per_category=20 if config.entities == "glyphs" else 40,
        n_choices=_choices(config),
        seed=config.seed,
    )


def _choices(config: Config) -> int:
    if config.entities in ("digits", "glyphs"):
        return 4
    labelled = read_images(config.entities, verify=False)
    labelled.require_labels()
    return max(2, min(4, labelled.n_classes))


def the_tower(config: Config, run: runs.Run, grid: EntityGrid | None = None) -> VisionTower:
    """The encoder that was given, or the small one, trained on single objects first."""
    if config.encoder is not None:
        run.step(f"loading {config.encoder}")
        return load_tower(config.encoder).to(resolve_device(config.device))
    run.step(f"training a small encoder on single digits, {config.pretrain_steps} steps")
    own = EntityGrid("digits", canvas=2 * STAND_IN_SIDE, seed=config.seed) if grid is None else grid
    model = stand_in_tower(
        own,
        steps=config.pretrain_steps,
        seed=config.seed,
        checkpoint_dir=run.state / "encoder",
        progress=run.progress,
    )
    return load_tower(model, mean=PIXEL_MEAN, std=PIXEL_STD).to(resolve_device(config.device))


def encoder_maker(config: Config, **more: Any) -> Any:
    """A function from a tower to an encoder with the adapter that the options say."""

    def make(vision: Any) -> HiResVisionEncoder:
        options: dict[str, Any] = {
            "sra_layers": config.adapter_layers,
            "local_kernel": config.kernel,
            "path": config.path,
            "max_slices": config.max_slices,
            "seed": config.seed,
        }
        return HiResVisionEncoder(vision, **(options | more))

    return make
