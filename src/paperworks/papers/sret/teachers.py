"""What a teacher says about images, as logits: any classifier that a user has."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from paperworks.classification import load_classifier
from paperworks.errors import InputError
from paperworks.inputs.images import ImageDataset
from paperworks.runs import Progress, no_progress

LEAST = 1e-7
"""Probabilities below are taken for this, so that their logarithm is finite."""


def check_logits(field: str, logits: np.ndarray, rows: int, classes: int) -> np.ndarray:
    """Logits of a teacher, float32 ``[rows, classes]``.

    Raises InputError for another shape, for values that are not finite, and for probabilities: a softmax of them would
    be taken, and the student would learn next to nothing from the flat distribution that comes out.
    """
    values = np.asarray(logits, dtype=np.float32)
    if values.shape != (rows, classes):
        raise InputError(field, f"shape {values.shape}", f"[{rows}, {classes}], a row per image, a column per class")
    if not np.isfinite(values).all():
        raise InputError(field, "NaN or infinity", "finite logits")
    if (values >= 0).all() and np.allclose(values.sum(1), 1, atol=1e-3):
        raise InputError(field, "rows that add up to 1: probabilities", "logits, or the logarithm of the probabilities")
    return values


def teacher_logits(
    teacher: Any, images: ImageDataset, classes: Sequence[Any], *, progress: Progress = no_progress
) -> np.ndarray:
    """Logits of a teacher on images, float32 ``[n, C]`` in the order of ``classes``.

    Parameters
    ----------
    teacher : logits computed beforehand; the folder of an image classifier of transformers; a fitted classifier with
        ``predict_proba`` that takes images (``SReTClassifier``) or rows of pixels in [0, 1] (any of scikit-learn).

    Raises
    ------
    InputError : a teacher of other classes, of another kind, or whose numbers are no logits.
    """
    if isinstance(teacher, (np.ndarray, torch.Tensor)):
        values = teacher.cpu().numpy() if isinstance(teacher, torch.Tensor) else teacher
        return check_logits("teacher", values, len(images), len(classes))
    if isinstance(teacher, (str, Path)):
        loaded = load_classifier(teacher, progress=progress)
        if loaded.kind != "image":
            raise InputError("teacher", f"a classifier of {loaded.kind}s in {teacher}", "an image classifier")
        order = _order(list(loaded.class_names), [str(name) for name in classes])
        return _logarithm(loaded.predict_proba(images, progress=progress)[:, order])
    if not hasattr(teacher, "predict_proba"):
        expected = "logits, a folder, or a fitted classifier with predict_proba"
        raise InputError("teacher", type(teacher).__name__, expected)
    known = getattr(teacher, "classes_", None)
    if known is None:
        raise InputError("teacher", f"{type(teacher).__name__}, not fitted", "a fitted classifier")
    order = _order([str(name) for name in known], [str(name) for name in classes])
    found = teacher.predict_proba(images if getattr(teacher, "takes_images", False) else _rows(teacher, images))
    return _logarithm(found[:, order])


def _rows(teacher: Any, images: ImageDataset) -> np.ndarray:
    pixels = images.array().reshape(len(images), -1)
    wanted = getattr(teacher, "n_features_in_", pixels.shape[1])
    if wanted != pixels.shape[1]:
        raise InputError("teacher", f"a classifier of {wanted} features", f"{pixels.shape[1]}, the pixels of an image")
    return pixels


def _order(theirs: list[str], ours: list[str]) -> list[int]:
    """Where each of our classes is among the teacher's. Names that say nothing (LABEL_0, ...) are in our order."""
    if len(theirs) != len(ours):
        raise InputError("teacher", f"{len(theirs)} classes", f"the {len(ours)} of the student")
    if set(theirs) == set(ours):
        return [theirs.index(name) for name in ours]
    if all(name == f"LABEL_{number}" for number, name in enumerate(theirs)):
        return list(range(len(ours)))
    other = next(name for name in theirs if name not in ours)
    raise InputError("teacher", f"class {other!r}", f"the classes of the student: {', '.join(ours[:8])}")


def _logarithm(probabilities: np.ndarray) -> np.ndarray:
    return np.log(np.clip(probabilities, LEAST, None)).astype(np.float32)
