"""Batched augmentations of images, each row with random numbers of its own.

    augment = Compose([RandomCrop(padding=4), RandomHorizontalFlip(), Normalize(mean, std)])
    batch = augment(images, RowRandom(seed, epoch, row_ids))

What a row gets is a function of (seed, epoch, row id) and of the transform's place, never of the batch it is in: the
batch size, the order and the number of workers do not change it. Images are float tensors ``[n, c, h, w]`` in [0, 1] on
any device; transforms return new tensors of the same dtype.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike

from paperworks.errors import InputError

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class RowRandom:
    """Uniform numbers for the rows of a batch: a counter-based generator (SplitMix64) keyed by seed, epoch and row.

    Parameters
    ----------
    seed : a whole number of 0 or more.
    epoch : a whole number of 0 or more, or one per row ``[n]`` where a batch spans two epochs.
    rows : a whole number per row that stays with the row, ``[n]``, such as its place in the data set.
    """

    def __init__(self, seed: int, epoch: ArrayLike, rows: ArrayLike) -> None:
        ids, epochs = np.asarray(rows), np.asarray(epoch)
        if ids.ndim != 1 or not np.issubdtype(ids.dtype, np.integer):
            raise InputError("rows", f"{ids.dtype} of shape {ids.shape}", "whole numbers [n]")
        if seed < 0:
            raise InputError("seed", seed, "0 or more")
        if epochs.shape not in ((), ids.shape) or not np.issubdtype(epochs.dtype, np.integer) or (epochs < 0).any():
            raise InputError("epoch", epoch, f"a whole number of 0 or more, or {ids.shape} of them")
        with np.errstate(over="ignore"):
            key = _mix(np.array([seed & (2**64 - 1)], dtype=np.uint64) + _GOLDEN)
            key = _mix(key ^ (epochs.astype(np.uint64) + _GOLDEN))
            self._key = _mix(key ^ (ids.astype(np.int64).astype(np.uint64) + _GOLDEN))
        self._drawn = 0

    def __len__(self) -> int:
        return len(self._key)

    def uniform(self, *shape: int) -> np.ndarray:
        """Numbers in [0, 1), float64 ``[n, *shape]``. Each call goes on where the last one stopped."""
        count = math.prod(shape)
        with np.errstate(over="ignore"):
            steps = np.arange(self._drawn + 1, self._drawn + 1 + count, dtype=np.uint64) * _GOLDEN
            bits = _mix(self._key[:, None] + steps)
        self._drawn += count
        return ((bits >> np.uint64(11)) * 2.0**-53).reshape(len(self._key), *shape)

    def integers(self, low: ArrayLike, high: ArrayLike, *shape: int) -> np.ndarray:
        """Whole numbers from ``low`` to below ``high`` (which may differ by row), int64 ``[n, *shape]``."""
        low, high = np.asarray(low), np.asarray(high)
        return (low + np.floor(self.uniform(*shape) * (high - low))).astype(np.int64)


class Transform(Protocol):
    """A batched augmentation."""

    def __call__(self, images: Tensor, random: RowRandom) -> Tensor:
        """Transformed images; ``random`` has the rows of ``images``."""
        ...


@dataclass(frozen=True)
class Compose:
    """Transforms one after the other."""

    transforms: Sequence[Transform]

    def __call__(self, images: Tensor, random: RowRandom) -> Tensor:
        """The images after all transforms."""
        _check(images, random)
        for transform in self.transforms:
            images = transform(images, random)
        return images


@dataclass(frozen=True)
class RandomCrop:
    """Pad by ``padding`` on all sides, and cut out a window of ``size`` (None: the image's own) at random."""

    padding: int = 4
    size: tuple[int, int] | None = None
    mode: Literal["constant", "reflect"] = "constant"

    def __post_init__(self) -> None:
        if self.padding < 0:
            raise InputError("padding", self.padding, "0 or more pixels")
        if self.mode not in ("constant", "reflect"):
            raise InputError("mode", repr(self.mode), "'constant' (zeros) or 'reflect'")

    def __call__(self, images: Tensor, random: RowRandom) -> Tensor:
        """Images of the window's size."""
        import torch
        from torch.nn import functional

        _check(images, random)
        n, _, height, width = images.shape
        size = self.size or (height, width)
        if min(size) < 1 or size[0] > height + 2 * self.padding or size[1] > width + 2 * self.padding:
            raise InputError("size", size, f"at most {(height + 2 * self.padding, width + 2 * self.padding)}")
        padded = functional.pad(images, (self.padding,) * 4, mode=self.mode) if self.padding else images
        top = _tensor(random.integers(0, padded.shape[2] - size[0] + 1), images)
        left = _tensor(random.integers(0, padded.shape[3] - size[1] + 1), images)
        rows = (top[:, None] + torch.arange(size[0], device=images.device))[:, None, :, None]
        columns = (left[:, None] + torch.arange(size[1], device=images.device))[:, None, None, :]
        every = torch.arange(n, device=images.device)[:, None, None, None]
        return padded[every, torch.arange(images.shape[1], device=images.device)[None, :, None, None], rows, columns]


@dataclass(frozen=True)
class RandomHorizontalFlip:
    """Mirror left and right with probability ``p``."""

    p: float = 0.5

    def __post_init__(self) -> None:
        _probability(self.p)

    def __call__(self, images: Tensor, random: RowRandom) -> Tensor:
        """The images, some mirrored."""
        import torch

        _check(images, random)
        chosen = _tensor(random.uniform() < self.p, images)[:, None, None, None]
        return torch.where(chosen, images.flip(3), images)


@dataclass(frozen=True)
class ColorJitter:
    """Change brightness, contrast and saturation, in this order, each by a factor from [1 - x, 1 + x]; cut to [0, 1].

    Contrast moves values from the mean of the grey image, saturation (three channels) from the grey image itself
    (ITU-R 601).
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0

    def __post_init__(self) -> None:
        for name in ("brightness", "contrast", "saturation"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(name, getattr(self, name), "a number from 0 to 1")

    def __call__(self, images: Tensor, random: RowRandom) -> Tensor:
        """The images in other colours."""
        _check(images, random)
        factors = 1 + (2 * random.uniform(3) - 1) * np.array([self.brightness, self.contrast, self.saturation])
        bright, contrast, saturated = (_tensor(f, images).to(images.dtype)[:, None, None, None] for f in factors.T)
        images = (images * bright).clamp(0, 1)
        mean = _grey(images).mean((1, 2, 3), keepdim=True)
        images = (mean + (images - mean) * contrast).clamp(0, 1)
        if images.shape[1] == 3 and self.saturation:
            grey = _grey(images)
            images = (grey + (images - grey) * saturated).clamp(0, 1)
        return images


@dataclass(frozen=True)
class RandomErasing:
    """Fill a rectangle of random place and shape with ``value`` (Zhong et al. 2017).

    Parameters
    ----------
    p : probability by row.
    scale : its share of the image's area, from and to.
    ratio : height to width, from and to, uniform in the logarithm; cut to the image.
    """

    p: float = 0.5
    scale: tuple[float, float] = (0.02, 0.33)
    ratio: tuple[float, float] = (0.3, 10 / 3)
    value: float = 0.0

    def __post_init__(self) -> None:
        _probability(self.p)
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise InputError("scale", self.scale, "shares 0 < from <= to <= 1")
        if not 0 < self.ratio[0] <= self.ratio[1]:
            raise InputError("ratio", self.ratio, "0 < from <= to")

    def __call__(self, images: Tensor, random: RowRandom) -> Tensor:
        """The images, some with a rectangle filled."""
        _check(images, random)
        height, width = images.shape[2:]
        draw = random.uniform(5)
        area = (self.scale[0] + draw[:, 1] * (self.scale[1] - self.scale[0])) * height * width
        ratio = np.exp(np.log(self.ratio[0]) + draw[:, 2] * np.log(self.ratio[1] / self.ratio[0]))
        tall = np.clip(np.rint(np.sqrt(area * ratio)), 1, height).astype(np.int64)
        wide = np.clip(np.rint(np.sqrt(area / ratio)), 1, width).astype(np.int64)
        top = np.floor(draw[:, 3] * (height - tall + 1)).astype(np.int64)
        left = np.floor(draw[:, 4] * (width - wide + 1)).astype(np.int64)
        inside = _boxes(images, top, left, tall, wide) & _tensor(draw[:, 0] < self.p, images)[:, None, None]
        return images.masked_fill(inside[:, None], self.value)


@dataclass(frozen=True)
class Cutout:
    """Fill a square of ``length`` pixels whose middle is anywhere in the image (DeVries and Taylor 2017)."""

    length: int = 8
    value: float = 0.0

    def __post_init__(self) -> None:
        if self.length < 1:
            raise InputError("length", self.length, "at least 1 pixel")

    def __call__(self, images: Tensor, random: RowRandom) -> Tensor:
        """The images with a square filled; it may reach over the edge."""
        _check(images, random)
        top = random.integers(0, images.shape[2]) - self.length // 2
        left = random.integers(0, images.shape[3]) - self.length // 2
        size = np.full(len(images), self.length)
        return images.masked_fill(_boxes(images, top, left, size, size)[:, None], self.value)


@dataclass(frozen=True)
class Normalize:
    """``(x - mean) / std`` by channel."""

    mean: Sequence[float]
    std: Sequence[float]

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std) or not len(self.mean):
            raise InputError("std", f"{len(self.std)} values", f"{len(self.mean)}, as mean has, at least 1")
        if min(self.std) <= 0:
            raise InputError("std", list(self.std), "positive numbers")

    def __call__(self, images: Tensor, random: RowRandom | None = None) -> Tensor:
        """The normalised images."""
        import torch

        _check(images, random)
        if len(self.mean) not in (1, images.shape[1]):
            raise InputError("mean", f"{len(self.mean)} values", f"1, or {images.shape[1]} as there are channels")
        mean, std = (torch.tensor(v, dtype=images.dtype, device=images.device) for v in (self.mean, self.std))
        return (images - mean[:, None, None]) / std[:, None, None]


@dataclass(frozen=True)
class Resize:
    """Resize to (height, width), bilinear, antialiased when it gets smaller."""

    size: tuple[int, int]

    def __post_init__(self) -> None:
        if len(self.size) != 2 or min(self.size) < 1:
            raise InputError("size", self.size, "(height, width), at least 1 pixel each")

    def __call__(self, images: Tensor, random: RowRandom | None = None) -> Tensor:
        """The resized images."""
        from torch.nn import functional

        _check(images, random)
        if tuple(images.shape[2:]) == tuple(self.size):
            return images
        return functional.interpolate(images, self.size, mode="bilinear", antialias=True, align_corners=False)


def mixup(images: Tensor, targets: Tensor, generator: torch.Generator, *, alpha: float = 0.2) -> tuple[Tensor, Tensor]:
    """Blend every image and target with those of another row of the batch (Zhang et al. 2018).

    One share for the batch, from Beta(alpha, alpha), and one random order of the rows: both from ``generator`` (CPU).

    Parameters
    ----------
    images : ``[n, ...]``.
    targets : probabilities ``[n, classes]`` (see ``one_hot``).

    Returns
    -------
    images and targets, ``share * x + (1 - share) * x[order]``.
    """
    share, order = _share_and_order(images, targets, generator, alpha)
    return share * images + (1 - share) * images[order], share * targets + (1 - share) * targets[order]


def cutmix(images: Tensor, targets: Tensor, generator: torch.Generator, *, alpha: float = 1.0) -> tuple[Tensor, Tensor]:
    """Paste a rectangle of another row's image into every image (Yun et al. 2019).

    The rectangle has a share ``1 - lambda`` of the area, lambda from Beta(alpha, alpha), and a middle anywhere; cut to
    the image, its true share of the pixels is the weight of the other row's target.
    """
    import torch

    share, order = _share_and_order(images, targets, generator, alpha)
    height, width = images.shape[2:]
    side = math.sqrt(1 - share)
    draw = torch.rand(2, generator=generator, dtype=torch.float64).tolist()
    middle = (int(draw[0] * height), int(draw[1] * width))
    half = (int(height * side) // 2, int(width * side) // 2)
    rows = slice(max(middle[0] - half[0], 0), min(middle[0] + half[0], height))
    columns = slice(max(middle[1] - half[1], 0), min(middle[1] + half[1], width))
    mixed = images.clone()
    mixed[:, :, rows, columns] = images[order][:, :, rows, columns]
    other = (rows.stop - rows.start) * (columns.stop - columns.start) / (height * width)
    return mixed, (1 - other) * targets + other * targets[order]


def one_hot(labels: Tensor, n_classes: int, *, smoothing: float = 0.0) -> Tensor:
    """Targets float32 ``[n, classes]``: ``1 - smoothing`` for the label, and ``smoothing / classes`` added to all."""
    from torch.nn import functional

    if not 0 <= smoothing < 1:
        raise InputError("smoothing", smoothing, "a number from 0 to below 1")
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < n_classes:
        raise InputError("labels", f"{int(labels.min())} to {int(labels.max())}", f"0 to {n_classes - 1}")
    return functional.one_hot(labels.long(), n_classes).float() * (1 - smoothing) + smoothing / n_classes


_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mix(x: np.ndarray) -> np.ndarray:
    """The output function of SplitMix64 (Steele et al. 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _check(images: Tensor, random: RowRandom | None) -> None:
    if images.ndim != 4 or not images.is_floating_point():
        raise InputError("images", f"{images.dtype} of shape {tuple(images.shape)}", "float images [n, c, h, w]")
    if random is not None and len(random) != len(images):
        raise InputError("random", f"{len(random)} rows", f"{len(images)}, as many as there are images")


def _probability(p: float) -> None:
    if not 0 <= p <= 1:
        raise InputError("p", p, "a probability from 0 to 1")


def _tensor(values: np.ndarray, like: Tensor) -> Tensor:
    import torch

    return torch.from_numpy(np.ascontiguousarray(values)).to(like.device)


def _grey(images: Tensor) -> Tensor:
    if images.shape[1] != 3:
        return images
    weights = images.new_tensor([0.299, 0.587, 0.114])[:, None, None]
    return (images * weights).sum(1, keepdim=True)


def _boxes(images: Tensor, top: np.ndarray, left: np.ndarray, tall: np.ndarray, wide: np.ndarray) -> Tensor:
    """Whether a pixel lies in the row's rectangle, bool ``[n, h, w]``."""
    import torch

    y = torch.arange(images.shape[2], device=images.device)[None, :, None]
    x = torch.arange(images.shape[3], device=images.device)[None, None, :]
    t, b, le, r = (_tensor(v, images)[:, None, None] for v in (top, top + tall, left, left + wide))
    return (y >= t) & (y < b) & (x >= le) & (x < r)


def _share_and_order(images: Tensor, targets: Tensor, generator: torch.Generator, alpha: float) -> tuple[float, Tensor]:
    import torch

    if alpha <= 0:
        raise InputError("alpha", alpha, "a positive number")
    if targets.ndim != 2 or len(targets) != len(images) or not targets.is_floating_point():
        raise InputError("targets", f"{targets.dtype} of shape {tuple(targets.shape)}", "probabilities [n, classes]")
    # numpy's Beta with a seed drawn from the generator: torch's own distribution takes no generator
    seed = int(torch.randint(2**62, (1,), generator=generator))
    share = float(np.random.default_rng(seed).beta(alpha, alpha))
    return share, torch.randperm(len(images), generator=generator).to(images.device)
