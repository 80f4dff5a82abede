"""Image sets that have a name: digits, MNIST, Fashion-MNIST."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from paperworks import inputs
from paperworks.errors import InputError
from paperworks.inputs.images.idx import read_idx

NAMED = ("digits", "mnist", "fashion-mnist")
"""Names that ``read_images`` takes. ``digits`` is always there; the others after ``paperworks data get``."""

CLOTHES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


class Images(NamedTuple):
    """Grey images, uint8 ``[n, 28, 28]``, and their classes, uint8 ``[n]``, split as published."""

    train: np.ndarray
    train_labels: np.ndarray
    test: np.ndarray
    test_labels: np.ndarray


def mnist(folder: Path) -> Images:
    """MNIST from its four IDX files: 60,000 training and 10,000 test images."""
    return Images(*(_part(folder, part, what) for part in ("train", "t10k") for what in ("images", "labels")))


def fashion_mnist(folder: Path, test_per_class: int = 1000) -> Images:
    """Fashion-MNIST from its ten JSON files, one per class: 60,000 training and 10,000 test images.

    The files do not say which images the published test set holds. Here it is the last ``test_per_class`` of each
    class, and images stand class by class: shuffle before training.
    """
    pieces: list[tuple[np.ndarray, ...]] = []
    for label in range(10):
        file = folder / f"{label}.json"
        if not file.is_file():
            raise InputError("folder", f"{folder}, without {file.name}", "the folder that `paperworks data get` made")
        rows = [row for row in json.loads(file.read_bytes())["data"] if row]  # the last row of each file is empty
        if len(rows) <= test_per_class or any(len(row) != 784 for row in rows):
            expected = f"more than {test_per_class} rows of 784 values"
            raise InputError(str(file), f"{len(rows)} rows, or one that is not of 784 values", expected)
        images = np.asarray(rows, dtype=np.uint8).reshape(-1, 28, 28)
        labels = np.full(len(images), label, dtype=np.uint8)
        cut = len(images) - test_per_class
        pieces.append((images[:cut], labels[:cut], images[cut:], labels[cut:]))
    return Images(*(np.concatenate(part) for part in zip(*pieces, strict=True)))


class NamedSet(NamedTuple):
    """Images ``[n, h, w]``, codes of their classes, class names, split of each row (or None), and the value range."""

    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    splits: np.ndarray | None
    value_range: tuple[float, float] | None


def named_set(name: str) -> NamedSet:
    """The set of that name. Raises InputError with the command that brings it."""
    digits = tuple(str(i) for i in range(10))
    if name == "digits":
        pixels, labels = _digits()
        return NamedSet(pixels.astype(np.uint8), labels.astype(np.int64), digits, None, (0, 16))
    images = mnist(inputs.path(name)) if name == "mnist" else fashion_mnist(inputs.path(name))
    splits = np.repeat(["train", "test"], [len(images.train), len(images.test)])
    return NamedSet(
        np.concatenate([images.train, images.test]),
        np.concatenate([images.train_labels, images.test_labels]).astype(np.int64),
        digits if name == "mnist" else CLOTHES,
        splits,
        None,
    )


@cache
def _digits() -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of scikit-learn, which reads them from text: that takes longer than what is done with them."""
    from sklearn.datasets import load_digits

    found = load_digits()
    return found.images, found.target


def _part(folder: Path, part: str, what: str) -> np.ndarray:
    name = f"{part}-{what}-idx{3 if what == 'images' else 1}-ubyte"
    gzipped = folder / f"{name}.gz"
    return read_idx(gzipped if gzipped.is_file() and not (folder / name).is_file() else folder / name)
