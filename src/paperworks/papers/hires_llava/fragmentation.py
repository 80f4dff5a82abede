"""How much an encoder's tokens change because a cut runs beside them. No labels and no training.

Windows of the encoder's size are laid over the same pixels at other places. Two figures are compared, both for the
column (or row) of patches beside a cut, and both for a window that moves by the same number of patches, q = side / 4:

    beside a cut      the slice itself, where the cut bounds the window    and a window that reaches q patches further
    mid-window        two windows in whose middle the same patches lie, one on each side of it

The change of a token is ``|a - b| / |b|``. The first figure divided by the second is how many times as much a token
changes because it was cut off from its neighbours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from paperworks.errors import InputError
from paperworks.metrics import Interval, bootstrap_interval
from paperworks.papers.hires_llava.encoder import HiResVisionEncoder
from paperworks.papers.hires_llava.grid import Placement, on_canvas, place_image
from paperworks.papers.hires_llava.pixels import all_rgb
from paperworks.papers.hires_llava.towers import VisionTower, load_tower
from paperworks.parameters import check_seed, check_whole
from paperworks.runs import Progress, no_progress


@dataclass(frozen=True)
class ImageFragmentation:
    """One image's figures.

    Attributes
    ----------
    number : its place in the list of images.
    placement : how it was cut.
    canvas : its pixels on the canvas, uint8 ``[m S, n S, 3]``.
    change : of each token of the map, sliced beside the window in which the cut is in the middle, float
        ``[m h, n w]``; NaN for padding, and for tokens that no such window reaches.
    beside, middle : changes beside cuts and mid-window, float ``[k]``, one pair for each token beside a cut.
    """

    number: int
    placement: Placement
    canvas: np.ndarray
    change: np.ndarray
    beside: np.ndarray
    middle: np.ndarray


@dataclass(frozen=True)
class FragmentationReport:
    """What ``fragmentation_report`` found.

    Attributes
    ----------
    images : one entry for each image that has a cut.
    uncut : how many images fit into one slice.
    beside, middle : mean relative change beside cuts, and mid-window.
    ratio : the first over the second, bootstrap over images (over tokens for a single image).
    profile : mean change by distance from the nearest cut in patches, from 0: sliced beside the window in which the
        cut is in the middle.
    """

    images: list[ImageFragmentation]
    uncut: int
    beside: float
    middle: float
    ratio: Interval
    profile: list[float]
    notes: list[str]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready content."""
        return {
            "images": len(self.images),
            "images_in_one_slice": self.uncut,
            "change_beside_cuts": self.beside,
            "change_mid_window": self.middle,
            "ratio": {"estimate": self.ratio.estimate, "low": self.ratio.low, "high": self.ratio.high},
            "change_by_distance_in_patches": self.profile,
            "notes": self.notes,
        }


@torch.no_grad()
def fragmentation_report(
    encoder: Any,
    images: Sequence[Any],
    *,
    max_slices: int = 4,
    batch_size: int = 16,
    n_resamples: int = 1000,
    seed: int = 0,
    progress: Progress = no_progress,
) -> FragmentationReport:
    """How much the tokens of an encoder lose where slices meet.

    Parameters
    ----------
    encoder : whatever ``load_tower`` takes, or a ``HiResVisionEncoder``, whose tower is probed without the adapter.
    images : PIL images, arrays or paths, of any sizes; those that fit into one slice have no cut.
    max_slices : of an image, at most.
    batch_size : windows in one call of the tower.
    n_resamples, seed : of the bootstrap.

    Raises
    ------
    InputError : no image with a cut, an image that cannot be read, a tower of fewer than 4 tokens along a side.
    """
    check_seed("seed", seed)
    check_whole("batch_size", batch_size, 1)
    check_whole("max_slices", max_slices, 2)
    tower = encoder.tower if isinstance(encoder, HiResVisionEncoder) else load_tower(encoder)
    if tower.side < 4:
        raise InputError("encoder", f"{tower.side} tokens along a side", "at least 4")
    pixels, notes = all_rgb(images, tower.patch_size)
    found, uncut = list[ImageFragmentation](), 0
    for number, image in enumerate(progress(pixels, "comparing windows", len(pixels))):
        placement = place_image(image.shape[0], image.shape[1], tower.image_size, max_slices)
        if placement.grid == (1, 1) or not any(placement.cut_lines()):
            uncut += 1
            continue
        found.append(_of_image(tower, number, image, placement, batch_size))
    if not found:
        raise InputError(
            "images",
            f"{uncut} that fit into one slice of {tower.image_size} x {tower.image_size} pixels",
            "at least one image that is larger or longer",
        )
    return summarised(found, uncut, notes, n_resamples=n_resamples, seed=seed)


def summarised(
    found: list[ImageFragmentation], uncut: int, notes: list[str], *, n_resamples: int = 1000, seed: int = 0
) -> FragmentationReport:
    """The report of images that were compared already."""
    check_seed("seed", seed)
    beside, middle = (np.concatenate([getattr(one, name) for one in found]) for name in ("beside", "middle"))
    if not middle.mean() > 0:
        raise InputError("images", "tokens that do not change when a window moves", "images that are not of one colour")
    owners = np.repeat(np.arange(len(found)), [len(one.beside) for one in found])
    ratio = bootstrap_interval(
        lambda a, b: float(a.mean() / b.mean()) if b.mean() > 0 else float("nan"),
        beside,
        middle,
        clusters=owners if len(found) > 1 else None,
        n_resamples=n_resamples,
        seed=seed,
    )
    return FragmentationReport(found, uncut, float(beside.mean()), float(middle.mean()), ratio, _profile(found), notes)


def _of_image(
    tower: VisionTower, number: int, image: np.ndarray, placement: Placement, batch_size: int
) -> ImageFragmentation:
    fill = tower.fill.numpy() if tower.channels == 3 else np.repeat(tower.fill.numpy(), 3)
    canvas = on_canvas(image, placement, fill)
    windows = _Windows(tower, canvas, batch_size)
    valid = placement.valid_tokens(tower.patch_size)
    rows, columns = valid.shape
    side = tower.side
    change = np.full(valid.shape, np.nan)
    wanted = list(_reference_windows(placement, side))
    windows.encode([(top, left) for top, left, _ in wanted] + windows.of_slices(placement))
    sliced = np.zeros((rows, columns, tower.width), np.float32)
    for top, left in windows.of_slices(placement):
        sliced[top : top + side, left : left + side] = windows.tokens[top, left]
    for top, left, axis in wanted:
        part = relative_change(sliced[top : top + side, left : left + side], windows.tokens[top, left])
        # only tokens nearer to the cut than to the window's own end: further out the reference is the one that is cut
        near = np.arange(side // 2 - side // 4, side // 2 + side // 4)
        region = (slice(top + near[0], top + near[-1] + 1), slice(left, left + side))
        inner = part[near[0] : near[-1] + 1]
        if axis == 1:
            region = (slice(top, top + side), slice(left + near[0], left + near[-1] + 1))
            inner = part[:, near[0] : near[-1] + 1]
        change[region] = np.fmax(change[region], inner)
    change[~valid] = np.nan
    beside, middle = _moved(windows, placement, valid)
    return ImageFragmentation(number, placement, canvas, change, beside, middle)


def relative_change(tokens: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """``|a - b| / |b|`` of tokens along the last axis."""
    norm = np.linalg.norm(reference, axis=-1)
    return np.linalg.norm(tokens - reference, axis=-1) / np.maximum(norm, 1e-12)


def _reference_windows(placement: Placement, side: int) -> Iterator[tuple[int, int, int]]:
    """Windows with a cut in their middle: top, left (in patches) and the axis that the cut divides."""
    rows, columns = placement.grid
    half = side // 2
    for r in range(rows):
        for c in range(columns):
            if c + 1 < columns:
                yield r * side, c * side + half, 1
            if r + 1 < rows:
                yield r * side + half, c * side, 0


def _moved(windows: _Windows, placement: Placement, valid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Changes beside cuts, and mid-window for the same tokens: float ``[k]`` each."""
    side = windows.tower.side
    move = max(1, side // 4)
    first = (side - move) // 2  # the middle pair of places: first and first + move, alike far from both ends
    pairs: list[tuple[tuple[int, int], tuple[int, int], int, int, int]] = []
    rows, columns = placement.grid
    for axis in (0, 1):
        for r in range(rows):
            for c in range(columns):
                if (r, c)[axis] + 1 == placement.grid[axis]:
                    continue
                base = [r * side, c * side]
                cut = base[axis] + side
                for line, ends in (
                    (cut, ((cut, cut - move), (cut - first, cut - first - move))),
                    (cut - 1, ((base[axis], base[axis] + move), (cut - side + first, cut - side + first + move))),
                ):
                    for kind, starts in enumerate(ends):
                        places = []
                        for start in starts:
                            place = list(base)
                            place[axis] = start
                            places.append((place[0], place[1]))
                        pairs.append((places[0], places[1], line, axis, kind))
    windows.encode([place for pair in pairs for place in pair[:2]])
    figures: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for one, other, line, axis, kind in pairs:
        across = slice(one[1 - axis], one[1 - axis] + side)
        known = valid[line, across] if axis == 0 else valid[across, line]
        a, b = (np.moveaxis(windows.tokens[place], axis, 0)[line - place[axis]] for place in (one, other))
        figures[kind].append(relative_change(a, b)[known])
    return np.concatenate([np.zeros(0), *figures[0]]), np.concatenate([np.zeros(0), *figures[1]])


class _Windows:
    """Tokens ``[side, side, D]`` of windows of a canvas, by top and left in patches."""

    def __init__(self, tower: VisionTower, canvas: np.ndarray, batch_size: int) -> None:
        self.tower, self.canvas, self.batch_size = tower, canvas, batch_size
        self.tokens: dict[tuple[int, int], np.ndarray] = {}

    def of_slices(self, placement: Placement) -> list[tuple[int, int]]:
        side = self.tower.side
        return [(r * side, c * side) for r in range(placement.grid[0]) for c in range(placement.grid[1])]

    def encode(self, places: Sequence[tuple[int, int]]) -> None:
        tower, patch, size = self.tower, self.tower.patch_size, self.tower.image_size
        device = next(tower.parameters()).device
        new = [place for place in dict.fromkeys(places) if place not in self.tokens]
        for start in range(0, len(new), self.batch_size):
            part = new[start : start + self.batch_size]
            crops = [self.canvas[y * patch : y * patch + size, x * patch : x * patch + size] for y, x in part]
            found = tower(tower.normalised(np.stack(crops)).to(device))[:, tower.prefix :]
            square = found.unflatten(1, (tower.side, tower.side)).float().cpu().numpy()
            self.tokens.update(zip(part, square, strict=True))


def _profile(found: list[ImageFragmentation]) -> list[float]:
    sums: dict[int, list[float]] = {}
    for one in found:
        rows, columns = one.change.shape
        m, n = one.placement.grid
        down, across = (_to_cut(extent, count) for extent, count in ((rows, m), (columns, n)))
        distance = np.minimum(down[:, None], across[None, :])
        known = ~np.isnan(one.change)
        for d in np.unique(distance[known]):
            sums.setdefault(int(d), []).extend(one.change[known & (distance == d)].tolist())
    return [float(np.mean(sums[d])) for d in sorted(sums)]


def _to_cut(extent: int, count: int) -> np.ndarray:
    """Patches between each row and the nearest cut: 0 beside it; large where there is none."""
    if count == 1:
        return np.full(extent, extent)
    side = extent // count
    cuts = np.arange(1, count) * side
    places = np.arange(extent)
    gaps = np.where(places[:, None] >= cuts, places[:, None] - cuts, cuts - 1 - places[:, None])
    return gaps.min(1)
