"""Image sets as arrays."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from paperworks.errors import InputError


class Images(NamedTuple):
    """Grey images, uint8 ``[n, 28, 28]``, and their classes, uint8 ``[n]``, split as published."""

    train: np.ndarray
    train_labels: np.ndarray
    test: np.ndarray
    test_labels: np.ndarray


def mnist(folder: Path) -> Images:
    """MNIST from its four IDX files: 60,000 training and 10,000 test images."""
    return Images(
        *(
            read_idx(folder / f"{part}-{what}-ubyte")
            for part in ("train", "t10k")
            for what in ("images-idx3", "labels-idx1")
        )
    )


def fashion_mnist(folder: Path, test_per_class: int = 1000) -> Images:
    """Fashion-MNIST from its ten JSON files, one per class: 60,000 training and 10,000 test images.

    The files do not say which images the published test set holds. Here it is the last ``test_per_class`` of each
    class, and images stand class by class: shuffle before training.
    """
    pieces: list[tuple[np.ndarray, ...]] = []
    for label in range(10):
        file = folder / f"{label}.json"
        rows = [row for row in json.loads(_read(file))["data"] if row]  # the last row of each file is empty
        if len(rows) <= test_per_class or any(len(row) != 784 for row in rows):
            expected = f"more than {test_per_class} rows of 784 values"
            raise InputError(str(file), f"{len(rows)} rows, or one that is not of 784 values", expected)
        images = np.asarray(rows, dtype=np.uint8).reshape(-1, 28, 28)
        labels = np.full(len(images), label, dtype=np.uint8)
        cut = len(images) - test_per_class
        pieces.append((images[:cut], labels[:cut], images[cut:], labels[cut:]))
    return Images(*(np.concatenate(part) for part in zip(*pieces, strict=True)))


def read_idx(file: Path) -> np.ndarray:
    """An IDX file of unsigned bytes: two zero bytes, type 8, number of dimensions, big-endian sizes, values."""
    data = _read(file)
    if len(data) < 4 or data[:3] != b"\0\0\x08":
        raise InputError(
            str(file), f"a file that starts with {data[:4].hex(' ')}", "an IDX file of unsigned bytes (00 00 08)"
        )
    start = 4 + 4 * data[3]
    shape = np.frombuffer(data[4:start], dtype=">u4").astype(int)
    values = np.frombuffer(data[start:], dtype=np.uint8)
    if len(shape) != data[3] or values.size != shape.prod():
        raise InputError(str(file), f"{values.size} values", f"{shape.prod()}, as its header says")
    return values.reshape(shape)


def _read(file: Path) -> bytes:
    if not file.is_file():
        raise InputError("folder", f"{file.parent}, without {file.name}", "the folder that `paperworks data get` made")
    return file.read_bytes()
