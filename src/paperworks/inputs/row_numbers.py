"""Columns that number the rows: they tell a learner where a row stands, and nothing about rows to come."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

FEWEST_ROWS = 20
"""Below this many rows, columns are all different or sorted by chance."""


def find_row_numbers(features: pd.DataFrame, keep: Sequence[str] = ()) -> list[str]:
    """The columns that number or name the rows.

    Of a table with ``FEWEST_ROWS`` rows or more: columns of text or of whole numbers whose cells all differ,
    and columns of numbers that never fall (or never rise) from row to row and have more values than half of the rows.
    ``keep``
    names columns that were declared to measure something.
    """
    return [c for c in features.columns if len(features) >= FEWEST_ROWS and c not in keep and _numbers(features[c])]


def _numbers(cells: pd.Series) -> bool:
    if cells.isna().any():
        return False
    distinct = cells.nunique()
    if cells.dtype == object:
        return bool(distinct == len(cells))
    values = cells.to_numpy(dtype=np.float64)
    steps = np.diff(values)
    if 2 * distinct > len(values) and ((steps >= 0).all() or (steps <= 0).all()):
        return True
    return bool(distinct == len(values) and (values == np.floor(values)).all())


def names_of(columns: Sequence[str]) -> str:
    """A few names, and how many more there are."""
    shown = ", ".join(map(repr, columns[:4]))
    return shown + (f" and {len(columns) - 4} more" if len(columns) > 4 else "")


def row_number_note(columns: Sequence[str]) -> str:
    """What to tell about columns that were left out."""
    one = len(columns) == 1
    return (
        f"Left out: {names_of(columns)}, since {'it numbers or names' if one else 'they number or name'} the rows (all "
        f"different, or rising with the row), and rows to come have others. --keep-row-numbers keeps "
        f"{'it' if one else 'them'}; --numeric keeps one that measures something."
    )
