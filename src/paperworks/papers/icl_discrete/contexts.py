"""The user's points and labels, checked: bits and labels as {0, 1}, {-1, 1} or booleans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from paperworks.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

LABELS = "0 or 1, -1 or 1, or booleans"


@dataclass(frozen=True)
class Names:
    """What -1 and +1 are called in the user's labels."""

    negative: Any
    positive: Any
    dtype: np.dtype

    @classmethod
    def of(cls, labels: ArrayLike) -> Names:
        """The convention of labels: {0, 1}, {-1, 1} or booleans. Labels of 1 alone are read as {0, 1}."""
        values = np.asarray(labels)
        if values.dtype == bool:
            return cls(False, True, values.dtype)
        signed = values.size > 0 and values.dtype != object and bool((values == -1).any())
        return cls(-1 if signed else 0, 1, values.dtype)

    def restore(self, positive: np.ndarray) -> np.ndarray:
        """Booleans as the user's labels."""
        return np.where(positive, self.positive, self.negative).astype(self.dtype)


def to_signs(values: ArrayLike, field: str, *, ndim: int) -> np.ndarray:
    """Bits or labels as int8 of -1 and +1. Raises InputError naming the row that is at fault."""
    try:
        array = np.asarray(values)
    except ValueError:
        array = np.empty(0, dtype=object)
    if array.dtype == object or array.ndim != ndim:
        raise InputError(
            field, _ragged(values, ndim), f"{'rows of equally many bits' if ndim == 2 else 'one label per row'}"
        )
    if array.dtype.kind not in "biuf":
        first = array.reshape(-1)[0] if array.size else "nothing"
        raise InputError(f"{field}, row 0" if array.size else field, repr(first), LABELS)
    allowed = (array == 0) | (array == 1) | (array == -1)
    if not allowed.all():
        row = int(np.argwhere(~allowed)[0][0])
        raise InputError(f"{field}, row {row}", array[row][~allowed[row]][0] if ndim == 2 else array[row], LABELS)
    zeros, minus = array == 0, array == -1
    if zeros.any() and minus.any():
        row = int(np.argwhere(minus)[0][0])
        raise InputError(
            f"{field}, row {row}", f"-1 where another row has 0 (row {int(np.argwhere(zeros)[0][0])})", LABELS
        )
    return np.where(array == 1, 1, -1).astype(np.int8)


def _ragged(values: Any, ndim: int) -> str:
    if ndim == 2:
        try:
            lengths = [len(row) for row in values]
        except TypeError:
            return "something other than rows of bits"
        for row, length in enumerate(lengths):
            if length != lengths[0]:
                return f"row {row} with {length} bits where row 0 has {lengths[0]}"
        return "rows that are not plain numbers" if lengths else "no rows"
    return f"an array of shape {np.shape(np.asarray(values, dtype=object))}"


def check_prompts(
    contexts: Sequence[tuple[Any, Any]], *, n_dims: int | None = None, max_points: int | None = None
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Contexts ``(xs [m, n], ys [m])`` as int8 of -1 and +1; the lengths m may differ between contexts.

    Raises InputError naming the context (where there are several), the field and the row: no points, ragged rows,
    values outside {0, 1} and {-1, 1}, labels of another number, another number of bits, or more points than
    ``max_points``.
    """
    if not contexts:
        raise InputError("contexts", "none", "at least one context")
    checked: list[tuple[np.ndarray, np.ndarray]] = []
    for number, (xs, ys) in enumerate(contexts):
        where = f"context {number}, " if len(contexts) > 1 else ""
        if len(xs) == 0:
            raise InputError(f"{where}xs", "an empty context", "at least one labelled point")
        points = to_signs(xs, f"{where}xs", ndim=2)
        labels = to_signs(ys, f"{where}ys", ndim=1)
        if len(labels) != len(points):
            raise InputError(f"{where}ys", f"{len(labels)} labels of {len(points)} points", "one label per point")
        if n_dims is not None and points.shape[1] != n_dims:
            raise InputError(f"{where}xs", f"{points.shape[1]} bits per point", f"{n_dims}, as the model was made for")
        if max_points is not None and len(points) > max_points:
            raise InputError(f"{where}xs", f"{len(points)} points", f"at most {max_points}, as the model allows")
        if checked and points.shape[1] != checked[0][0].shape[1]:
            raise InputError(
                f"{where}xs", f"{points.shape[1]} bits per point", f"{checked[0][0].shape[1]}, as in context 0"
            )
        checked.append((points, labels))
    return checked


def check_queries(xs: Any, n_dims: int) -> np.ndarray:
    """Queries ``[q, n]`` as int8 of -1 and +1."""
    if len(xs) == 0:
        return np.empty((0, n_dims), np.int8)
    points = to_signs(xs, "query_x", ndim=2)
    if points.shape[1] != n_dims:
        raise InputError("query_x", f"{points.shape[1]} bits per point", f"{n_dims}, as the model was made for")
    return points
