"""Mean intersection over union of semantic segmentation."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from paperworks.errors import InputError


@dataclass(frozen=True)
class MeanIoU:
    """Intersection over union, from counts over all pixels of all images.

    Attributes
    ----------
    mean : over the classes that occur in the truth or in the prediction.
    per_class : float64 ``[classes]``, NaN for a class that occurs in neither.
    confusion : int64 ``[classes, classes]``, rows are the truth.
    pixel_accuracy : share of the counted pixels that are right.
    """

    mean: float
    per_class: np.ndarray
    confusion: np.ndarray
    pixel_accuracy: float


def mean_iou(
    y_true: Iterable[ArrayLike], y_pred: Iterable[ArrayLike], n_classes: int, *, ignore_index: int | None = 255
) -> MeanIoU:
    """Mean IoU of label maps of any sizes, one image at a time.

    Parameters
    ----------
    y_true, y_pred : equally many integer maps ``[h, w]``, in pairs of one shape.
    n_classes : classes are 0 .. n_classes - 1.
    ignore_index : pixels with this truth are not counted; None counts all.

    Raises
    ------
    InputError : maps of different shapes, a class out of range, or no pixel to count.
    """
    if n_classes < 1:
        raise InputError("n_classes", n_classes, "at least 1")
    confusion = np.zeros((n_classes, n_classes), dtype=np.int64)
    try:
        for number, (truth, guess) in enumerate(zip(y_true, y_pred, strict=True)):
            confusion += _count(np.asarray(truth), np.asarray(guess), n_classes, ignore_index, number)
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError("y_pred", "another number of maps than y_true", "one map for each") from None
    if not confusion.any():
        raise InputError("y_true", "no pixel to count", "at least one")
    both = confusion.diagonal()
    either = confusion.sum(0) + confusion.sum(1) - both
    per_class = np.where(either > 0, both / np.maximum(either, 1), np.nan)
    return MeanIoU(float(np.nanmean(per_class)), per_class, confusion, float(both.sum() / confusion.sum()))


def _count(truth: np.ndarray, guess: np.ndarray, n: int, ignored: int | None, number: int) -> np.ndarray:
    if truth.shape != guess.shape:
        raise InputError(f"y_pred[{number}]", f"shape {guess.shape}", f"{truth.shape}, as y_true has")
    counted = np.ones(truth.shape, bool) if ignored is None else truth != ignored
    t, g = truth[counted].astype(np.int64), guess[counted].astype(np.int64)
    for name, values in (("y_true", t), ("y_pred", g)):
        bad = values[(values < 0) | (values >= n)]
        if len(bad):
            raise InputError(f"{name}[{number}]", f"class {bad[0]}", f"0 to {n - 1}")
    return np.bincount(t * n + g, minlength=n * n).reshape(n, n)
