"""From the user's table to cells: every cell is a number or a string; a missing value is the empty string."""

from __future__ import annotations

import numbers as number_types
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from paperworks.errors import InputError, nearest

MISSING = ""
"""The value that stands for a missing cell: a categorical one."""


@dataclass(frozen=True)
class Column:
    """One parsed column of n rows.

    ``numbers`` is ``(n,)`` float64, NaN where the cell is a string. ``strings`` is ``(n,)`` int32, the cell's position
    in ``categories`` (in order of first appearance), -1 where the cell is a number.
    """

    numbers: np.ndarray
    strings: np.ndarray
    categories: tuple[str, ...]


class Cells:
    """The rows to which rules are applied. Columns are parsed when a rule first asks for them.

    ``frame`` has one column per attribute; ``numeric`` names the attributes whose cells are read as numbers where they
    can be. A column that is not in the frame is an error, or all missing if ``absent_is_missing``. ``coded`` is the
    same table as rank codes, where it is at hand, and saves parsing.
    """

    def __init__(
        self,
        frame: pd.DataFrame,
        numeric: Sequence[str],
        *,
        absent_is_missing: bool = False,
        coded: RankCodes | None = None,
    ) -> None:
        self.frame = frame
        self._numeric = frozenset(numeric)
        self._absent_is_missing = absent_is_missing
        self._parsed: dict[str, Column] = {}
        self._coded = coded
        self._equal: dict[tuple[str, str], np.ndarray] = {}

    def __len__(self) -> int:
        return len(self.frame)

    def column(self, attribute: str) -> Column:
        """The parsed column."""
        if attribute not in self._parsed and self._coded is not None:
            self._parsed[attribute] = self._coded.column(attribute)
        elif attribute not in self._parsed:
            if attribute in self.frame.columns:
                values = self.frame[attribute]
            elif self._absent_is_missing:
                values = pd.Series(np.full(len(self), np.nan), index=self.frame.index)
            else:
                known = [str(name) for name in self.frame.columns]
                raise InputError("X", f"no column {attribute!r}", f"the columns used in fit{nearest(attribute, known)}")
            self._parsed[attribute] = parse_column(values, numeric=attribute in self._numeric)
        return self._parsed[attribute]

    def numbers(self, attribute: str) -> np.ndarray:
        """``(n,)`` float64, NaN where the cell is a string."""
        return self.column(attribute).numbers

    def equals(self, attribute: str, value: str) -> np.ndarray:
        """Whether each cell is this string, ``(n,)`` bool."""
        key = (attribute, value)
        if key not in self._equal:
            column = self.column(attribute)
            code = column.categories.index(value) if value in column.categories else -2
            self._equal[key] = column.strings == code
        return self._equal[key]

    def row(self, number: int) -> Cells:
        """One row by itself."""
        return Cells(self.frame.iloc[[number]], tuple(self._numeric), absent_is_missing=self._absent_is_missing)

    def value(self, attribute: str, row: int) -> str | float:
        """One cell."""
        column = self.column(attribute)
        code = column.strings[row]
        return float(column.numbers[row]) if code < 0 else column.categories[code]


def to_frame(X: Any, names: Sequence[str] | None = None) -> pd.DataFrame:
    """A pandas frame with text column names, from a pandas, polars or Arrow table or a 2-d array (columns x0, x1, ...).

    Raises InputError for columns that share a name.
    """
    if not isinstance(X, pd.DataFrame):
        if hasattr(X, "to_pandas"):
            X = X.to_pandas()
        else:
            array = np.asarray(X)
            X = pd.DataFrame(
                array, columns=list(names) if names is not None else [f"x{i}" for i in range(array.shape[1])]
            )
    if names is not None and len(names) == X.shape[1]:
        X = X.set_axis(list(names), axis=1)
    else:
        X = X.set_axis([str(name) for name in X.columns], axis=1)
    twice = X.columns[X.columns.duplicated()]
    if len(twice):
        raise InputError("X", f"two columns named {twice[0]!r}", "one column per name")
    return X


def choose_numeric(frame: pd.DataFrame, numeric: Any, categorical: Any) -> list[str]:
    """Which columns are read as numbers: those declared, or with ``"auto"`` those that hold any number.

    ``numeric`` is ``"auto"`` or a list of column names or positions, ``categorical`` None or such a list. Booleans and
    pandas categories are categorical unless declared numeric. Raises InputError for unknown columns and for one that is
    declared both ways.
    """
    names = [str(name) for name in frame.columns]
    declared_categorical = _columns("categorical", categorical if categorical is not None else [], names)
    if isinstance(numeric, str) and numeric == "auto":
        chosen = [n for n in names if n not in declared_categorical and _holds_numbers(frame[n])]
    else:
        chosen = _columns("numeric", numeric, names)
    both = [n for n in chosen if n in declared_categorical]
    if both:
        raise InputError("numeric", f"column {both[0]!r}, which is in categorical too", "each column in one list")
    return chosen


def _columns(field: str, wanted: Any, names: Sequence[str]) -> list[str]:
    if isinstance(wanted, str):
        raise InputError(
            field, repr(wanted), "'auto' or a list of columns" if field == "numeric" else "a list of columns"
        )
    chosen = []
    for item in wanted:
        if isinstance(item, number_types.Integral) and not isinstance(item, bool) and str(item) not in names:
            if not -len(names) <= int(item) < len(names):
                raise InputError(field, f"column {item}", f"a position below {len(names)}")
            item = names[int(item)]
        if str(item) not in names:
            raise InputError(field, f"column {str(item)!r}", f"a column of X{nearest(str(item), names)}")
        chosen.append(str(item))
    return chosen


def _holds_numbers(values: pd.Series) -> bool:
    kind = values.dtype
    if isinstance(kind, pd.CategoricalDtype) or pd.api.types.is_bool_dtype(kind):
        return False
    if pd.api.types.is_numeric_dtype(kind):
        return True
    if pd.api.types.is_datetime64_any_dtype(kind) or pd.api.types.is_timedelta64_dtype(kind):
        raise InputError(f"column {values.name!r}", str(kind), "numbers or strings (make a number of it, such as days)")
    if not pd.api.types.is_object_dtype(kind):
        return False
    present = values.array[~pd.isna(values.array)]
    numeric = any(isinstance(v, number_types.Real) and not isinstance(v, (bool, np.bool_)) for v in present)
    # A column in which nothing is present is numeric: it has one value either way, and NaN comes as float.
    return numeric or len(present) == 0


def parse_column(values: pd.Series, *, numeric: bool) -> Column:
    """Parse a column. Cells of a numeric column that are not numbers stay strings; NaN, None and NA are missing.

    In a categorical column every cell becomes a string; a float that is a whole number is written without its point,
    since integers with gaps arrive as floats.
    """
    kind = values.dtype
    plain = not isinstance(kind, pd.CategoricalDtype) and pd.api.types.is_numeric_dtype(kind)
    if pd.api.types.is_complex_dtype(kind):
        raise InputError(f"column {values.name!r}", "complex numbers", "real numbers or strings")
    if numeric and plain and not pd.api.types.is_bool_dtype(kind):
        numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
        missing = np.isnan(numbers)
        if missing.any():
            return Column(numbers, np.where(missing, 0, -1).astype(np.int32), (MISSING,))
        return Column(numbers, np.full(len(numbers), -1, dtype=np.int32), ())
    try:
        codes, uniques = pd.factorize(values.array, use_na_sentinel=True)
    except TypeError as error:
        raise InputError(
            f"column {values.name!r}", f"cells that are not values ({error})", "numbers or strings"
        ) from None
    as_number = np.full(len(uniques) + 1, np.nan)
    texts: list[str] = []
    for i, value in enumerate(uniques):
        if numeric:
            as_number[i] = _number(value)
        texts.append(_text(value))
    texts.append(MISSING)  # position -1, where factorize points for missing cells
    numbers = as_number[codes]
    is_string = np.isnan(as_number)
    # Different objects may be the same text (1 and 1.0); '' is the same as missing.
    seen: dict[str, int] = {}
    target = np.full(len(texts), -1, dtype=np.int32)
    ever_missing = bool((codes < 0).any())
    order = _appearance(codes, len(uniques), ever_missing)
    for i in order:
        if is_string[i]:
            target[i] = seen.setdefault(texts[i], len(seen))
    return Column(numbers, target[codes], tuple(seen))


def _appearance(codes: np.ndarray, n_uniques: int, ever_missing: bool) -> list[int]:
    """Positions of the values in order of first appearance; missing cells (-1) take their place among them."""
    order = list(range(n_uniques))
    if ever_missing:
        before = codes[: int(np.argmax(codes < 0))]
        order.insert(int(before.max()) + 1 if len(before) else 0, -1)
    return order


def _number(value: Any) -> float:
    if isinstance(value, (bool, np.bool_)):
        return float(value)
    try:
        return float(value)  # a NaN spelled as text ("nan") stays a string
    except (TypeError, ValueError):
        return float("nan")


def _text(value: Any) -> str:
    if isinstance(value, (float, np.floating)) and float(value).is_integer() and abs(float(value)) < 1e15:
        return str(int(value))
    return str(value)


@dataclass(frozen=True)
class RankCodes:
    """A table as small integers, in which every literal is a comparison of integers.

    ``codes`` is ``(columns, rows)`` int32. In column c the codes below ``numeric_counts[c]`` are ranks of numbers in
    ascending order, the others are strings in order of first appearance. ``attributes`` are in the learner's order:
    categorical columns first, then numeric ones, each in the order of the table.
    """

    attributes: tuple[str, ...]
    codes: np.ndarray
    numeric_counts: np.ndarray
    value_counts: np.ndarray
    numbers: tuple[np.ndarray, ...]
    categories: tuple[tuple[str, ...], ...]

    def value(self, column: int, code: int) -> str | float:
        """The cell value behind a code."""
        n_numbers = int(self.numeric_counts[column])
        return float(self.numbers[column][code]) if code < n_numbers else self.categories[column][code - n_numbers]

    def column(self, attribute: str) -> Column:
        """The column in the form in which rules read it."""
        i = self.attributes.index(attribute)
        codes, n_numbers = self.codes[i], int(self.numeric_counts[i])
        values = np.append(self.numbers[i], np.full(len(self.categories[i]), np.nan))
        strings = np.where(codes < n_numbers, -1, codes - n_numbers).astype(np.int32)
        return Column(values[codes], strings, self.categories[i])


def rank_codes(frame: pd.DataFrame, numeric: Sequence[str]) -> RankCodes:
    """Code a table, column by column: at no time is more than one column held in another form."""
    first = [str(name) for name in frame.columns if name not in numeric]
    attributes = (*first, *(str(name) for name in frame.columns if name in numeric))
    codes = np.empty((len(attributes), len(frame)), dtype=np.int32)
    tables, categories = [], []
    for row, attribute in enumerate(attributes):
        column = parse_column(frame[attribute], numeric=attribute in numeric)
        is_number = column.strings < 0
        if is_number.all():
            distinct, ranks = np.unique(column.numbers, return_inverse=True)
            codes[row] = ranks
        else:
            distinct, ranks = np.unique(column.numbers[is_number], return_inverse=True)
            codes[row] = column.strings
            codes[row] += np.int32(len(distinct))
            codes[row, is_number] = ranks
        tables.append(distinct)
        categories.append(column.categories)
    numeric_counts = np.array([len(t) for t in tables], dtype=np.int64)
    value_counts = numeric_counts + np.array([len(c) for c in categories], dtype=np.int64)
    return RankCodes(attributes, codes, numeric_counts, value_counts, tuple(tables), tuple(categories))
