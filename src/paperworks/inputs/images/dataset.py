"""Images with labels, class names and stable ids, decoded when they are asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from paperworks.errors import InputError, nearest
from paperworks.inputs.images.pixels import Fit, StoredImage, ValueRange, as_batch
from paperworks.inputs.images.storage import ArrayStorage, ImageStorage
from paperworks.runs import Progress, no_progress

CACHE_BYTES = 2 * 2**30
"""Most bytes that ``ImageDataset.cached`` keeps in memory, unless told otherwise."""


@dataclass(frozen=True)
class BrokenImage:
    """An image that could not be read, and why."""

    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name} ({self.reason})"


@dataclass(frozen=True)
class ImageDataset:
    """A set of images. Made by ``read_images``; ``dataset[i]`` is image i as an array of its own size and depth.

    Attributes
    ----------
    name : where it came from.
    storage : where pixels are read from.
    rows : row of each image in the storage, int64 ``[n]``.
    labels : class codes, int64 ``[n]``, -1 for an image without a label; None for an unlabelled set.
    class_names : name of each code.
    splits : name of each image's split ("train", "test", ...), str ``[n]``; None where the source has none.
    value_range : values that are black and white, where the depth does not say it (digits: 0 and 16).
    broken : images that are left out since they cannot be read.
    animated : names of files with several frames, of which the first is read.
    shapes : (height, width, channels) of each image, int64 ``[n, 3]``; None if the images were not looked at.
    modes : mode in which each image is stored (see ``decode_image``), str ``[n]``; None likewise.
    notes : what else was understood or left aside.
    """

    name: str
    storage: ImageStorage
    rows: np.ndarray
    labels: np.ndarray | None = None
    class_names: tuple[str, ...] = ()
    splits: np.ndarray | None = None
    value_range: ValueRange | None = None
    broken: tuple[BrokenImage, ...] = ()
    animated: tuple[str, ...] = ()
    shapes: np.ndarray | None = None
    modes: np.ndarray | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.stored(index).pixels

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[i] for i in range(len(self)))

    def stored(self, index: int) -> StoredImage:
        """Image ``index`` with the format and mode in which it is stored.

        Raises InputError, with the image's name, if it cannot be read.
        """
        row = int(self.rows[index])
        try:
            return self.storage.stored(row)
        except OSError as error:
            raise InputError(self.storage.name(row), str(error), "an image that can be read") from None

    def image_name(self, index: int) -> str:
        """The file's path within its folder, or the row of an array."""
        return self.storage.name(int(self.rows[index]))

    @property
    def ids(self) -> list[str]:
        """A stable id per image: the path within the folder, the value of an id column, or a hash of the content.

        A content that occurs again has the number of the occurrence added (``-2``, ``-3``, ...).
        """
        every = self.storage.ids()
        return [every[row] for row in self.rows]

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    def require_labels(self) -> np.ndarray:
        """The labels, int64 ``[n]``. Raises InputError for a set without labels, or with some missing."""
        if self.labels is None:
            raise InputError("labels", f"none in {self.name}", "a folder per class, a label column, or labels=")
        missing = np.flatnonzero(self.labels < 0)
        if len(missing):
            found = f"{len(missing)} images without one, the first is {self.image_name(int(missing[0]))}"
            raise InputError("labels", found, "a label for every image")
        return self.labels

    def subset(self, rows: np.ndarray | Sequence[int]) -> ImageDataset:
        """The images at these positions (or where a bool mask is true), in this order, with their ids."""
        chosen = np.asarray(rows)
        chosen = np.flatnonzero(chosen) if chosen.dtype == bool else chosen.astype(np.int64)
        if len(chosen) and not (chosen.min() >= -len(self) and chosen.max() < len(self)):
            raise InputError("rows", f"{chosen.max()}", f"positions below {len(self)}")
        taken: dict[str, Any] = {}
        for name in ("rows", "labels", "splits", "shapes", "modes"):
            value = getattr(self, name)
            taken[name] = None if value is None else value[chosen]
        return replace(self, **taken)

    def split(self, name: str) -> ImageDataset:
        """The images of a split. Raises InputError, naming the splits there are, for another."""
        known = [] if self.splits is None else sorted(set(self.splits.tolist()))
        if name not in known:
            expected = f"one of {', '.join(known)}{nearest(name, known)}" if known else "no split: the source has none"
            raise InputError("split", repr(name), expected)
        assert self.splits is not None
        return self.subset(self.splits == name)

    def array(
        self,
        rows: np.ndarray | Sequence[int] | None = None,
        *,
        size: tuple[int, int] | None = None,
        channels: Literal[1, 3] | None = None,
        dtype: Literal["uint8", "float32"] = "float32",
        fit: Fit = "stretch",
        background: float = 1.0,
    ) -> np.ndarray:
        """Images ``[n, channels, height, width]``; see ``as_batch`` for the rules. Only these images are decoded."""
        chosen = range(len(self)) if rows is None else np.asarray(rows).tolist()
        if channels is None:
            channels = self._channels()
        return as_batch(
            [self[i] for i in chosen],
            size=size,
            channels=channels,
            dtype=dtype,
            fit=fit,
            background=background,
            value_range=self.value_range,
        )

    def cached(
        self,
        *,
        size: tuple[int, int] | None = None,
        channels: Literal[1, 3] | None = None,
        fit: Fit = "stretch",
        file: Path | None = None,
        max_bytes: int = CACHE_BYTES,
        progress: Progress = no_progress,
    ) -> ImageDataset:
        """The same set decoded once, as uint8 ``[n, h, w(, 3)]`` in memory, or in a ``.npy`` file that is mapped.

        Raises InputError where it would take more than ``max_bytes`` of memory.
        """
        if len(self) == 0:
            raise InputError("images", "none", "at least one")
        channels = channels or self._channels()
        if size is None and self.shapes is not None:
            shapes = {tuple(s) for s in self.shapes[:, :2].tolist()}
            size = next(iter(shapes)) if len(shapes) == 1 else None
        first = self.array([0], size=size, channels=channels, dtype="uint8", fit=fit)
        shape = (len(self), *first.shape[2:], *((channels,) if channels > 1 else ()))
        if file is None and int(np.prod(shape)) > max_bytes:
            found = f"{np.prod(shape):,} bytes for {len(self):,} images of {first.shape[2]} x {first.shape[3]}"
            raise InputError("max_bytes", found, f"at most {max_bytes:,}, a smaller size=, or file= to map a file")
        pixels: np.ndarray
        if file is None:
            pixels = np.empty(shape, dtype=np.uint8)
        else:
            if file.exists():
                raise InputError("file", f"{file}, which exists", "a new file (nothing is overwritten)")
            pixels = np.lib.format.open_memmap(file, mode="w+", dtype=np.uint8, shape=shape)
        for start in progress(range(0, len(self), 256), "decoding images", -(-len(self) // 256)):
            rows = np.arange(start, min(start + 256, len(self)))
            batch = self.array(rows, size=size, channels=channels, dtype="uint8", fit=fit)
            pixels[rows] = batch.transpose(0, 2, 3, 1) if channels > 1 else batch[:, 0]
        if isinstance(pixels, np.memmap):
            pixels.flush()
        names = [self.image_name(i) for i in range(len(self))]
        return replace(
            self,
            storage=ArrayStorage(pixels, names=names, known_ids=self.ids),
            rows=np.arange(len(self)),
            value_range=None,
            shapes=np.tile([*first.shape[2:], channels], (len(self), 1)),
            modes=np.full(len(self), "RGB" if channels > 1 else "L"),
        )

    def describe(self) -> str:
        """What was understood, in a few lines: number, classes, sizes, modes, splits, what is broken or animated."""
        lines = [f"{len(self):,} image{'s' * (len(self) != 1)} from {self.name} ({self.storage.form})"]
        if self.labels is not None:
            counts = Counter(self.labels[self.labels >= 0].tolist())
            some = _listed(f"{name} {counts[code]:,}" for code, name in enumerate(self.class_names))
            lines.append(f"{self.n_classes} classes: {some}")
            if (self.labels < 0).any():
                lines.append(f"{int((self.labels < 0).sum()):,} without a label")
        else:
            lines.append("without labels")
        if self.splits is not None:
            lines.append("splits: " + _listed(f"{k} {v:,}" for k, v in sorted(Counter(self.splits.tolist()).items())))
        if self.shapes is not None and self.modes is not None:
            sizes = Counter((h, w) for h, w, _ in self.shapes.tolist())
            lines.append("height x width: " + _listed(f"{h} x {w} ({n:,})" for (h, w), n in sizes.most_common(9)))
            modes = Counter(self.modes.tolist())
            lines.append("modes: " + _listed(f"{mode} ({n:,})" for mode, n in modes.most_common()))
        if self.broken:
            lines.append(f"{len(self.broken):,} left out since they cannot be read: " + _listed(map(str, self.broken)))
        if self.animated:
            lines.append(f"{len(self.animated):,} with several frames, the first is read: " + _listed(self.animated))
        return "\n".join([*lines, *self.notes])

    def _channels(self) -> Literal[1, 3]:
        """What ``channels=None`` means for this set: the same for every batch of it."""
        if self.shapes is not None and len(self.shapes):
            return 3 if self.shapes[:, 2].max() >= 3 else 1
        return 3 if len(self) and self[0].ndim == 3 and self[0].shape[2] >= 3 else 1


def _listed(items: Iterable[str], most: int = 8) -> str:
    words = list(items)
    rest = len(words) - most
    return ", ".join(words[:most]) + (f" and {rest:,} more" if rest > 0 else "")
