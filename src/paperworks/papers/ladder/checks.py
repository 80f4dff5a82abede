"""Checks of arrays that users bring: one place for their words."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.exceptions import NotFittedError

from paperworks.errors import InputError

TOLERANCE = 5e-3
"""By how much probabilities may not add up to 1: those of 16 bits are rounded."""


def matrix(field: str, values: Any, rows: int | None = None, like: str = "") -> np.ndarray:
    """A float64 matrix ``[n, d]`` of finite numbers, from an array or tensor of any number format.

    float16 is widened at once: its sums overflow. Raises InputError naming ``field``, and ``like`` (the array whose
    number of rows it must have).
    """
    given = values.detach().cpu().numpy() if hasattr(values, "detach") else np.asarray(values)
    if given.dtype.kind not in "fiub":
        raise InputError(field, f"{given.dtype}", "numbers")
    if given.ndim != 2 or 0 in given.shape:
        raise InputError(field, f"shape {given.shape}", "a matrix: a row per sample, at least one column")
    if rows is not None and len(given) != rows:
        raise InputError(f"{field} and {like}", f"{len(given)} and {rows} rows", "one row per sample in both")
    wide = given.astype(np.float64)
    bad = ~np.isfinite(wide).all(axis=1)
    if bad.any():
        raise InputError(field, f"row {int(bad.argmax())} with a value that is not finite", "finite numbers")
    return wide


def class_codes(field: str, values: Any, classes: int | None = None) -> np.ndarray:
    """Class codes 0..c-1, int64 ``[n]``. Raises InputError for several labels per row, gaps, and other codes."""
    given = values.detach().cpu().numpy() if hasattr(values, "detach") else np.asarray(values)
    if given.ndim == 2:
        raise InputError(
            field, f"shape {given.shape}: several labels per row", "one class per row (multi-label is not supported)"
        )
    if given.ndim != 1 or len(given) == 0:
        raise InputError(field, f"shape {given.shape}", "one class code per row, at least one row")
    whole = given.dtype.kind in "iub" or (given.dtype.kind == "f" and bool(np.all(given == np.floor(given))))
    if not whole:
        raise InputError(field, f"values such as {given[0]!r} ({given.dtype})", "class codes 0, 1, ..., c-1")
    codes = given.astype(np.int64)
    present = np.unique(codes)
    if present[0] < 0 or (classes is not None and present[-1] >= classes):
        bad = present[0] if present[0] < 0 else present[-1]
        raise InputError(field, f"code {bad}", f"class codes 0..{'c' if classes is None else classes}-1")
    if classes is None and len(present) != present[-1] + 1:
        gap = int(np.setdiff1d(np.arange(present[-1]), present)[0])
        raise InputError(field, f"codes up to {present[-1]}, without {gap}", "class codes 0..c-1, each one there")
    return codes


def predicted_codes(predictions: Any, rows: int, classes: int) -> np.ndarray:
    """Predicted class codes ``[n]`` from codes or from probabilities ``[n, c]`` (two classes: above 0.5 is class 1).

    Raises InputError for other shapes, and for rows that are no probabilities: negative, NaN, or not adding up to 1, as
    logits do not.
    """
    given = predictions.detach().cpu().numpy() if hasattr(predictions, "detach") else np.asarray(predictions)
    if given.ndim not in (1, 2) or len(given) != rows:
        raise InputError("pred_val and y_val", f"shapes {given.shape} and ({rows},)", "one row per sample in both")
    if given.ndim == 1 and given.dtype.kind == "f" and not np.all(given == np.floor(given)):
        if classes != 2:
            raise InputError("pred_val", "one probability per row", f"probabilities [n, {classes}], or class codes")
        if not (np.all(given >= 0) and np.all(given <= 1)):
            raise InputError("pred_val", "values outside [0, 1]", "probabilities of class 1, or class codes")
        return (given > 0.5).astype(np.int64)
    if given.ndim == 1:
        return class_codes("pred_val", given, classes)
    wide = matrix("pred_val", given)
    if wide.shape[1] != classes:
        raise InputError("pred_val", f"{wide.shape[1]} columns", f"{classes}, one per class of y_val")
    sums = wide.sum(axis=1)
    if (wide < 0).any() or np.abs(sums - 1).max() > TOLERANCE:
        row = int(np.argmax((wide < 0).any(axis=1) | (np.abs(sums - 1) > TOLERANCE)))
        kind = "a negative value" if (wide[row] < 0).any() else f"a sum of {sums[row]:.4g}"
        raise InputError("pred_val", f"row {row} with {kind}, as of logits", "probabilities: softmax of the logits")
    return wide.argmax(axis=1)


def require_fit(fitted: Any, attribute: str) -> None:
    """Raise scikit-learn's NotFittedError for an object that has not got ``attribute``, which ``fit`` gives it."""
    if not hasattr(fitted, attribute):
        raise NotFittedError(f"{type(fitted).__name__} before fit")


def digest(features: np.ndarray) -> str:
    """A digest of the content of features ``[n, p]``, by which validation rows are known again."""
    return hashlib.sha256(repr(features.shape).encode() + np.ascontiguousarray(features).tobytes()).hexdigest()


def checked_names(given: Sequence[str] | None, classes: int) -> list[str]:
    """Names of class codes; the codes themselves by default. Raises InputError for too few, or one that repeats."""
    if given is None:
        return [str(i) for i in range(classes)]
    names = [str(n) for n in given]
    if len(names) < classes:
        raise InputError("class_names and y_val", f"{len(names)} names and {classes} classes", "a name for each class")
    if len(set(names)) < len(names):
        raise InputError("class_names", "the same name twice", "different names")
    return names
