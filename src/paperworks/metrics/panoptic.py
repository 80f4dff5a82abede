"""Quality of panoptic maps (Kirillov et al. 2019) and of boundaries (Cheng et al. 2021)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from paperworks.errors import InputError

Segment = tuple[int, ArrayLike]
"""A class, and the pixels bool ``[h, w]``."""


@dataclass(frozen=True)
class PanopticQuality:
    """PQ = SQ RQ, with segments matched where their intersection over union is above 0.5.

    Attributes
    ----------
    mean : PQ, mean over the classes that occur in the truth or in the prediction.
    per_class : PQ of each class, NaN for one that occurs in neither.
    segmentation, recognition : SQ (mean IoU of matches) and RQ (matches over matches and half of the unmatched), means
        over the same classes; SQ over those with a match.
    """

    mean: float
    per_class: np.ndarray
    segmentation: float
    recognition: float


def panoptic_quality(
    y_true: Iterable[Sequence[Segment]], y_pred: Iterable[Sequence[Segment]], n_classes: int
) -> PanopticQuality:
    """Panoptic quality of images' segments. Pixels of no true segment do not count for a prediction.

    A prediction that matches nothing counts as false unless more than half of its pixels are of no true segment.

    Parameters
    ----------
    y_true, y_pred : segments of each image, in pairs of one shape; those of one image must not overlap.
    n_classes : classes are 0 .. n_classes - 1.

    Raises
    ------
    InputError : another number of images, a class out of range, shapes that differ, or no segment at all.
    """
    if n_classes < 1:
        raise InputError("n_classes", n_classes, "at least 1")
    total, matched, missed, false = (np.zeros(n_classes) for _ in range(4))
    try:
        for truth, guess in zip(y_true, y_pred, strict=True):
            _count(list(truth), list(guess), n_classes, total, matched, missed, false)
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError("y_pred", "another number of images than y_true", "one for each") from None
    weight = matched + missed / 2 + false / 2
    there = weight > 0
    if not there.any():
        raise InputError("y_true", "no segment", "at least one")
    with np.errstate(invalid="ignore"):
        per_class = np.where(there, total / np.maximum(weight, 0.5), np.nan)
    found = matched > 0
    segmentation = float((total[found] / matched[found]).mean()) if found.any() else 0.0
    return PanopticQuality(
        float(per_class[there].mean()), per_class, segmentation, float((matched[there] / weight[there]).mean())
    )


def _count(
    truth: list[Segment],
    guess: list[Segment],
    n_classes: int,
    total: np.ndarray,
    matched: np.ndarray,
    missed: np.ndarray,
    false: np.ndarray,
) -> None:
    true_masks = [np.asarray(mask, bool) for _, mask in truth]
    labelled = np.any(true_masks, axis=0) if true_masks else None
    for name, segments in (("y_true", truth), ("y_pred", guess)):
        for cls, mask in segments:
            if not 0 <= cls < n_classes:
                raise InputError(name, f"class {cls}", f"0 to {n_classes - 1}")
            if labelled is not None and np.shape(mask) != labelled.shape:
                raise InputError(name, f"a mask of {np.shape(mask)}", f"{labelled.shape}, as the others")
    taken: set[int] = set()
    for cls, given in guess:
        mask = np.asarray(given, bool)
        if labelled is None or not (mask & labelled).any():
            continue  # wholly where nothing is labelled
        counted = mask & labelled
        mostly_unlabelled = 2 * int(counted.sum()) < int(mask.sum())
        for number, (other, _) in enumerate(truth):
            if other != cls or number in taken:
                continue
            both = int((counted & true_masks[number]).sum())
            either = int((counted | true_masks[number]).sum())
            if 2 * both > either:  # at most one true segment can be that near
                taken.add(number)
                matched[cls] += 1
                total[cls] += both / either
                break
        else:
            false[cls] += not mostly_unlabelled
    for number, (cls, _) in enumerate(truth):
        missed[cls] += number not in taken


def boundary_iou(truth: ArrayLike, guess: ArrayLike, width: int = 1) -> float:
    """Intersection over union of the inner borders of two masks; 1 where both are empty.

    Parameters
    ----------
    truth, guess : bool ``[h, w]``.
    width : pixels from the mask's edge that belong to its border; the edge of the image is an edge, too.

    Raises
    ------
    InputError : shapes that differ, or a width below 1.
    """
    from scipy.ndimage import binary_erosion

    if width < 1:
        raise InputError("width", width, "1 or more pixels")
    one, other = np.asarray(truth, bool), np.asarray(guess, bool)
    if one.shape != other.shape or one.ndim != 2:
        raise InputError("guess", f"shape {other.shape}", f"{one.shape}, as truth has, of two axes")
    square = np.ones((3, 3), bool)
    borders = [mask & ~binary_erosion(mask, square, iterations=width) for mask in (one, other)]
    either = int((borders[0] | borders[1]).sum())
    return int((borders[0] & borders[1]).sum()) / either if either else 1.0
