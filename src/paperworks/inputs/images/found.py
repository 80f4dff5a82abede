"""What a reader of one form of image set found, before images are looked at and labels are coded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from paperworks.errors import InputError
from paperworks.inputs.images.dataset import BrokenImage
from paperworks.inputs.images.pixels import ValueRange
from paperworks.inputs.images.storage import ImageStorage

LABEL_COLUMNS = ("label", "labels", "class", "target", "category", "y", "fine_label")
ID_COLUMNS = ("id", "image_id", "ids", "uid")
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
}


@dataclass
class Found:
    """Rows of a source. ``labels`` are as written (None or "" where missing), or codes of given ``class_names``."""

    storage: ImageStorage
    labels: Sequence[Any] | np.ndarray | None = None
    class_names: tuple[str, ...] | None = None
    splits: np.ndarray | None = None
    value_range: ValueRange | None = None
    broken: tuple[BrokenImage, ...] = ()
    notes: tuple[str, ...] = ()


def coded(values: Sequence[Any] | np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """Codes int64 ``[n]`` (-1 where missing) and class names, in the order of numbers or of the alphabet."""
    array = np.asarray(values)
    if np.issubdtype(array.dtype, np.integer) and array.ndim == 1:
        known, codes = np.unique(array, return_inverse=True)
        return codes.astype(np.int64), tuple(str(v) for v in known.tolist())
    if array.dtype == bool:
        return array.astype(np.int64), ("False", "True")
    if array.ndim != 1:
        raise InputError("labels", f"an array of shape {array.shape}", "one label per image [n]")
    words = [_word(value) for value in array.tolist()]
    names = sorted({w for w in words if w is not None}, key=_order)
    code = {name: i for i, name in enumerate(names)}
    return np.array([-1 if w is None else code[w] for w in words], dtype=np.int64), tuple(names)


def _word(value: Any) -> str | None:
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return None
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip() or None


def _order(name: str) -> tuple[int, float, str]:
    return (0, int(name), name) if name.lstrip("-").isdecimal() else (1, 0, name)
