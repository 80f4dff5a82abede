"""What the adapter wins back: a frozen tower reads objects on EntityGrid canvases, with the adapter and without.

tokens = encoder(2 x 2 slices of the canvas)      the tower is frozen, the adapter is trained
logits = head(4 * slices * mean(tokens))
accuracy inside slices, on cuts, and where all slices meet
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from paperworks.nn import TinyViT, evaluation_mode
from paperworks.papers.hires_llava.baselines import overlapping_windows
from paperworks.papers.hires_llava.encoder import HiResVisionEncoder
from paperworks.papers.hires_llava.entitygrid.generation import EntityGrid, Split
from paperworks.papers.hires_llava.entitygrid.positions import CENTER, EDGES, INSIDE, POSITIONS
from paperworks.papers.hires_llava.grid import Placement, cut_image, resize
from paperworks.papers.hires_llava.towers import VisionTower
from paperworks.parameters import check_seed
from paperworks.runs import Progress, no_progress
from paperworks.training import Batch, Generated, TrainSettings, cross_entropy_loss, train

Reading = Literal["sliced", "overlap", "low-resolution"]
SCALE = 4.0
"""Mean tokens are multiplied by it, so that the head learns in few steps."""
POSITION_SCALE = 10.0
PIXEL_MEAN, PIXEL_STD = (0.2,), (0.35,)


@dataclass(frozen=True)
class ReadingSettings:
    """How the reader is trained: ``steps`` of ``batch_size`` fresh canvases, by AdamW of rate ``learning_rate``."""

    steps: int = 500
    batch_size: int = 48
    learning_rate: float = 3e-3
    test_per_position: int = 60
    device: str = "cpu"


@dataclass(frozen=True)
class ReadingResult:
    """Accuracy at the nine positions, float ``[9]``, on objects that training has not seen."""

    by_position: np.ndarray
    losses: list[float]

    def of(self, positions: tuple[int, ...]) -> float:
        """Mean accuracy at some positions."""
        return float(self.by_position[np.array(positions) - 1].mean())

    @property
    def inside(self) -> float:
        """At 1, 3, 7, 9."""
        return self.of(INSIDE)

    @property
    def edge(self) -> float:
        """At 2, 4, 6, 8."""
        return self.of(EDGES)

    @property
    def center(self) -> float:
        """At 5."""
        return self.of(CENTER)

    @property
    def disc1(self) -> float:
        """Inside less edge."""
        return self.inside - self.edge

    @property
    def disc2(self) -> float:
        """Inside less center."""
        return self.inside - self.center

    @property
    def mean(self) -> float:
        """Over the nine positions."""
        return float(self.by_position.mean())


class SliceReader(nn.Module):
    """A linear head on the mean of an encoder's tokens, times the number of slices: an object fills one of them.

    ``reading`` says what the tower sees of a canvas: its slices ("sliced"), windows that overlap by half ("overlap"),
    or the canvas reduced to one slice ("low-resolution").
    """

    def __init__(self, encoder: HiResVisionEncoder, classes: int, reading: Reading = "sliced", seed: int = 0) -> None:
        super().__init__()
        check_seed("seed", seed)
        self.encoder, self.reading = encoder, reading
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.head = nn.Linear(encoder.tower.width, classes)

    def slices_of(self, canvases: np.ndarray) -> torch.Tensor:
        """What the tower sees of canvases uint8 ``[n, c, c, 3]``: ``[n, windows, channels, S, S]``."""
        tower = self.encoder.tower
        size = tower.image_size
        fill = np.zeros(3)
        if self.reading == "sliced":
            count = canvases.shape[1] // size
            place = Placement(canvases.shape[1], canvases.shape[2], size, (count, count))
            parts = [cut_image(canvas, place, fill) for canvas in canvases]
        elif self.reading == "overlap":
            parts = [overlapping_windows(canvas, size, size // 2) for canvas in canvases]
        else:
            parts = [resize(canvas, (size, size))[None] for canvas in canvases]
        each = len(parts[0])
        return tower.normalised(np.concatenate(parts)).unflatten(0, (len(canvases), each))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Logits ``[n, classes]`` from ``slices_of``."""
        n, each = inputs.shape[:2]
        side = round(each**0.5)
        grid = (side, side) if self.reading == "sliced" else (1, 1)
        grids = [grid] * (n if self.reading == "sliced" else n * each)
        maps = torch.stack(self.encoder.maps(inputs.flatten(0, 1), grids))
        return self.head(SCALE * each * maps.reshape(n, -1, maps.shape[-1]).mean(1))


def train_reader(
    reader: SliceReader,
    grid: EntityGrid,
    settings: ReadingSettings,
    *,
    seed: int = 0,
    checkpoint_dir: Path | None = None,
    progress: Progress = no_progress,
) -> list[float]:
    """Train head and adapter on canvases with one object of the training set at any position; losses by step."""
    check_seed("seed", seed)

    def canvases(step: int, n: int, rng: np.random.Generator) -> Batch:
        images, labels, _ = grid.batch(n, rng, "train")
        return {"inputs": reader.slices_of(images), "labels": torch.from_numpy(labels)}

    result = train(
        reader,
        Generated(canvases),
        TrainSettings(
            steps=settings.steps,
            batch_size=settings.batch_size,
            learning_rate=settings.learning_rate,
            schedule="cosine",
            betas=(0.9, 0.99),
            device=settings.device,
            seed=seed,
        ),
        loss=cross_entropy_loss(),
        checkpoint_dir=checkpoint_dir,
        progress=progress,
    )
    return result.losses


@torch.no_grad()
def accuracy_by_position(
    reader: SliceReader, grid: EntityGrid, settings: ReadingSettings, *, split: Split = "test", seed: int = 0
) -> np.ndarray:
    """Accuracy at each of the nine positions, float ``[9]``."""
    check_seed("seed", seed)
    place = next(reader.parameters()).device
    found = []
    with evaluation_mode(reader):
        for position in POSITIONS:
            rng = np.random.default_rng([seed, 77])  # the same objects at every position
            images, labels, _ = grid.batch(settings.test_per_position, rng, split, (position,))
            right = []
            for start in range(0, len(images), settings.batch_size):
                part = reader.slices_of(images[start : start + settings.batch_size]).to(place)
                right.append(reader(part).argmax(1).cpu().numpy() == labels[start : start + settings.batch_size])
            found.append(np.concatenate(right).mean())
    return np.array(found)


def reading_accuracy(
    tower: VisionTower | nn.Module,
    grid: EntityGrid,
    settings: ReadingSettings,
    *,
    encoder: Callable[[Any], HiResVisionEncoder] | None = None,
    reading: Reading = "sliced",
    seed: int = 0,
    checkpoint_dir: Path | None = None,
    progress: Progress = no_progress,
) -> ReadingResult:
    """Train a reader on a frozen tower and test it by position.

    Parameters
    ----------
    encoder : makes the encoder from the tower; None is one without an adapter.
    reading : see ``SliceReader``.
    """
    check_seed("seed", seed)

    def without(vision: Any) -> HiResVisionEncoder:
        return HiResVisionEncoder(vision, sra_layers="none", sampler=None, global_view=False)

    reader = SliceReader((encoder or without)(tower), len(grid.entities.names), reading, seed)
    losses = train_reader(reader, grid, settings, seed=seed, checkpoint_dir=checkpoint_dir, progress=progress)
    return ReadingResult(accuracy_by_position(reader, grid, settings, seed=seed), losses)


def stand_in_tower(
    grid: EntityGrid,
    *,
    steps: int = 300,
    batch_size: int = 48,
    learning_rate: float = 2e-3,
    width: int = 48,
    layers: int = 3,
    patch_size: int = 4,
    seed: int = 0,
    checkpoint_dir: Path | None = None,
    progress: Progress = no_progress,
) -> TinyViT:
    """A small vision transformer that has learned to name single objects of the training set, one to a slice.

    It stands in for a pretrained encoder where none is given. Objects lie anywhere within the slice, and whole.
    """
    check_seed("seed", seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = TinyViT(
            image_size=grid.slice_side,
            patch_size=patch_size,
            channels=1,
            width=width,
            layers=layers,
            heads=4,
            outputs=len(grid.entities.names),
        )
    with torch.no_grad():
        # positions of the size of the patches: with the usual 0.02 a short training stays where it started
        model.positions.mul_(POSITION_SCALE)
    pretrain(
        VisionTower(model, mean=PIXEL_MEAN, std=PIXEL_STD),
        grid,
        head=model.head,
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
        checkpoint_dir=checkpoint_dir,
        progress=progress,
    )
    return model.eval()


def pretrain(
    tower: VisionTower,
    grid: EntityGrid,
    *,
    head: nn.Module | None = None,
    steps: int = 300,
    batch_size: int = 48,
    learning_rate: float = 2e-3,
    seed: int = 0,
    checkpoint_dir: Path | None = None,
    progress: Progress = no_progress,
) -> list[float]:
    """Teach a tower of the grid's slice size to name single objects, by a linear head on its mean patch token.

    Objects of the training set lie anywhere within the slice, and whole. Returns the loss of every step.
    """
    check_seed("seed", seed)
    part, side = grid.train, grid.slice_side

    def singles(step: int, n: int, rng: np.random.Generator) -> Batch:
        rows = rng.integers(len(part), size=n)
        slices = np.full((n, side, side, 3), part.background, np.uint8)
        for number, row in enumerate(rows):
            image = grid.fitted(int(row), "train")[:, :, :3]
            top, left = (int(rng.integers(side - extent + 1)) for extent in image.shape[:2])
            slices[number, top : top + image.shape[0], left : left + image.shape[1]] = image
        return {"inputs": tower.normalised(slices), "labels": torch.from_numpy(part.labels[rows])}

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        own = nn.Linear(tower.width, len(grid.entities.names)) if head is None else head
    result = train(
        _MeanHead(tower, own),
        Generated(singles),
        TrainSettings(
            steps=steps,
            batch_size=batch_size,
            learning_rate=learning_rate,
            warmup_steps=min(20, steps - 1),
            schedule="cosine",
            betas=(0.9, 0.99),
            device="cpu",
            seed=seed,
        ),
        loss=cross_entropy_loss(),
        checkpoint_dir=checkpoint_dir,
        progress=progress,
    )
    return result.losses


class _MeanHead(nn.Module):
    """A head on the mean of a tower's patch tokens: patches learn to say what they see, as in a reader."""

    def __init__(self, tower: VisionTower, head: nn.Module) -> None:
        super().__init__()
        self.tower, self.head = tower, head

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.head(SCALE * self.tower(inputs)[:, self.tower.prefix :].mean(1))
