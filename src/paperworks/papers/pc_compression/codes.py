"""What a user hands over as values, checked and turned into codes."""

from __future__ import annotations

from typing import Any

import numpy as np

from paperworks.errors import InputError

BUNDLED = ("digits", "mnist", "fashion-mnist")
"""Images that are known by name."""

MAX_CATEGORIES = 4096
"""Most values that a variable may have; beyond it a model has more weights than data to learn them from."""


def as_codes(X: Any, n_categories: int | None = None, n_variables: int | None = None) -> tuple[np.ndarray, int]:
    """``X`` [N, D] as uint16 codes, where C stands for missing, and C (``n_categories``, or one more than the largest).

    Missing are -1 in integers, NaN in floats, and masked entries. Raises InputError naming the first bad value.
    """
    gaps = np.ma.getmaskarray(X) if isinstance(X, np.ma.MaskedArray) else None
    values = np.asarray(X)
    if values.ndim != 2 or 0 in values.shape:
        raise InputError("X", f"an array of shape {values.shape}", "rows of values: shape [N, D], at least 1 x 1")
    if n_variables is not None and values.shape[1] != n_variables:
        raise InputError("X", f"{values.shape[1]} variables", f"{n_variables}, as the model has")
    if values.dtype == bool:
        values = values.astype(np.uint8)
    if not np.issubdtype(values.dtype, np.number) or np.issubdtype(values.dtype, np.complexfloating):
        raise InputError("X", f"values of type {values.dtype}", "whole numbers from 0")
    missing = np.zeros(values.shape, dtype=bool) if gaps is None else gaps
    if np.issubdtype(values.dtype, np.floating):
        missing = missing | np.isnan(values)
        whole = np.where(missing, 0, values)
        _refuse(
            whole, ~np.isfinite(whole) | (whole != np.floor(whole)), "whole numbers; quantise first, NaN is missing"
        )
        values = whole
    elif np.issubdtype(values.dtype, np.signedinteger):
        missing = missing | (values == -1)
    values = np.where(missing, 0, values)
    limit = n_categories if n_categories is not None else MAX_CATEGORIES
    if not 1 <= limit <= MAX_CATEGORIES:
        raise InputError("n_categories", limit, f"1 to {MAX_CATEGORIES}")
    _refuse(values, values < 0, "whole numbers from 0; shift first, -1 is missing")
    _refuse(
        values,
        values >= limit,
        f"values below {limit}; quantise first" if n_categories is None else f"0 to {limit - 1}",
    )
    c = n_categories if n_categories is not None else int(values.max()) + 1
    codes = values.astype(np.uint16)
    codes[missing] = c
    return codes, c


def _refuse(values: np.ndarray, bad: np.ndarray, expected: str) -> None:
    if bad.any():
        row, column = (int(i) for i in np.argwhere(bad)[0])
        raise InputError(f"X[{row}, {column}]", values[row, column], expected)
