"""Images with segments: what every form of data becomes, and what training takes from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from paperworks.errors import InputError

GREY = 128
"""Value that teachers see outside of a mask."""


@dataclass(frozen=True)
class Segment:
    """A region: its class, and its pixels bool ``[H, W]``."""

    label: int
    mask: np.ndarray


@dataclass(frozen=True)
class Scene:
    """An image uint8 ``[H, W, 3]`` with its segments, which do not overlap. ``ignored`` are pixels without a label."""

    name: str
    image: np.ndarray
    segments: tuple[Segment, ...]

    def label_map(self, ignore: int = 255) -> np.ndarray:
        """The class of each pixel, int64 ``[H, W]``; ``ignore`` where no segment is."""
        found = np.full(self.image.shape[:2], ignore, np.int64)
        for segment in self.segments:
            found[segment.mask] = segment.label
        return found

    def resized(self, size: tuple[int, int]) -> Scene:
        """The scene at (height, width): the image smoothly, masks by the nearest pixel; segments that vanish go."""
        if self.image.shape[:2] == size:
            return self
        height, width = size
        image = np.asarray(Image.fromarray(self.image).resize((width, height), Image.Resampling.BILINEAR))
        rows = ((np.arange(height) + 0.5) * self.image.shape[0] / height).astype(int)
        columns = ((np.arange(width) + 0.5) * self.image.shape[1] / width).astype(int)
        smaller = [Segment(s.label, s.mask[rows][:, columns]) for s in self.segments]
        return Scene(self.name, image, tuple(s for s in smaller if s.mask.any()))


def pixel_values(images: Sequence[np.ndarray], mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """Images uint8 ``[H, W, 3]`` of one size as float32 ``[n, 3, H, W]``, normalised by the channels' statistics."""
    batch = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
    return (batch - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)


def masked_crop(image: np.ndarray, mask: np.ndarray, size: int) -> np.ndarray:
    """What a teacher sees of a region: its box, grey outside of the mask, uint8 ``[size, size, 3]`` (bicubic).

    The box includes its last row and column, and has two pixels at least along each side.

    Raises InputError for an empty mask.
    """
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if len(rows) == 0:
        raise InputError("mask", "no pixel", "at least one")
    top, bottom = _at_least_two(int(rows[0]), int(rows[-1]) + 1, mask.shape[0])
    left, right = _at_least_two(int(columns[0]), int(columns[-1]) + 1, mask.shape[1])
    box = np.where(mask[top:bottom, left:right, None], image[top:bottom, left:right], GREY).astype(np.uint8)
    return np.asarray(Image.fromarray(box).resize((size, size), Image.Resampling.BICUBIC))


def _at_least_two(first: int, end: int, limit: int) -> tuple[int, int]:
    if end - first >= 2:
        return first, end
    first = max(0, min(first, limit - 2))
    return first, min(first + 2, limit)


def crops_of(scenes: Sequence[Scene], size: int, *, mirrored: bool = False) -> np.ndarray:
    """The masked crops of all segments, scene by scene, uint8 ``[n, size, size, 3]``, mirrored where asked."""
    found = [masked_crop(scene.image, segment.mask, size) for scene in scenes for segment in scene.segments]
    crops = np.stack(found) if found else np.empty((0, size, size, 3), np.uint8)
    return crops[:, :, ::-1] if mirrored else crops
