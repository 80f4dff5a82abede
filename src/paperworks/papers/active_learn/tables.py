"""Games from the user's files: a table of items and questions, a rating matrix, arms with features."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from paperworks.errors import InputError
from paperworks.inputs.row_numbers import find_row_numbers, names_of
from paperworks.inputs.tables import Table, read_table

if TYPE_CHECKING:
    import pandas as pd

BUNDLED_TABLES, BUNDLED_RATINGS = ("zoo",), ("votes",)
YES = {"yes", "y", "true", "t", "1", "1.0", "+", "x"}
NO = {"no", "n", "false", "f", "0", "0.0", "-"}
MOST_VALUES = 12
"""A column with more different values is asked about by thresholds (numbers), or left out (text)."""
NOT_RATED = 99.0
"""What Jester's files have in place of a rating that is missing."""


@dataclass(frozen=True)
class Questions:
    """Items and the chance of a yes to each question ``p_yes`` ``[items, questions]``."""

    p_yes: np.ndarray
    items: list[str]
    questions: list[str]
    notes: list[str]


@dataclass(frozen=True)
class Ratings:
    """Ratings ``[users, items]``, NaN where there is none."""

    values: np.ndarray
    items: list[str]
    notes: list[str]


def bundled_path(name: str) -> Path:
    """The file of a bundled table or rating matrix."""
    return Path(str(resources.files("paperworks.papers.active_learn") / "data" / f"{name}.csv"))


def read_questions(source: str, item: str | None = None) -> Questions:
    """A table with a row for each item.

    Columns of yes and no (also true/false, y/n, 0/1) and of numbers from 0 to 1 (the chance of a yes) are questions. A
    column of a few values becomes one question for each ("legs = 4?"), one of many numbers three ("weight > 12?").
    An empty cell is a chance of one half.

    Parameters
    ----------
    source : a file, or a bundled table's name. item : the column of names; by default the first column of text whose
        values all differ.

    Raises
    ------
    InputError : no item names that differ, no question.
    """
    table = _read("table", source, BUNDLED_TABLES, item)
    names = _names(table, item)
    of_names = f"column {names.name!r} " if names is not None else "\0"  # what they look like does not matter
    notes = [note for note in table.notes if not note.startswith(of_names)]
    frame = table.features.drop(columns=[] if names is None else [str(names.name)])
    numbers = [c for c in table.numeric if len(frame) > 2 and (np.diff(frame[c]) == 1).all()]
    if numbers:
        notes.append(f"Left out, since it numbers the rows: {names_of(numbers)}.")
        frame = frame.drop(columns=numbers)
    titles = [f"item {i + 1}" for i in range(len(table))] if names is None else [str(n) for n in names]
    twice = {t for t in titles if titles.count(t) > 1} if len(titles) < 2000 else set()
    if twice:
        raise InputError("item", f"two items named {sorted(twice)[0]!r}", "a column of names that differ")
    chances: dict[str, np.ndarray] = {}
    for column in frame:
        found = _questions_of(str(column), frame[column])
        if not found:
            notes.append(f"Column {column!r} is left out: text with more than {MOST_VALUES} different values.")
        chances |= found
    if not chances:
        raise InputError("table", f"{source}, with no column that is a question", "columns of yes and no, or 0 to 1")
    missing = int(frame.isna().to_numpy().sum())
    if missing:
        notes.append(f"{missing} empty cells count as a yes or a no with equal chances.")
    return Questions(np.stack(list(chances.values()), 1), titles, list(chances), notes)


def read_ratings(source: str) -> Ratings:
    """A matrix with a row for each user and a column for each item; empty cells are missing ratings.

    Yes and no are 1 and -1. 99 is a missing rating where all others are below 90 (Jester), and a first column that
    counts each row's ratings is left out. Other columns of text are left out; so are users who rated nothing.
    """
    table = _read("ratings", source, BUNDLED_RATINGS, None)
    notes, columns = list(table.notes), {}
    ids = find_row_numbers(table.features)
    if ids:
        notes.append(f"Left out, since it numbers or names the users: {names_of(ids)}.")
    for column in table.features.drop(columns=ids):
        cells = table.features[column]
        words = cells.dropna().astype(str).str.strip().str.lower()
        if column in table.numeric:
            columns[str(column)] = cells.to_numpy(dtype=np.float64)
        elif len(words) and words.isin(YES | NO).all():
            values = np.full(len(cells), np.nan)
            values[words.index] = np.where(words.isin(YES), 1.0, -1.0)
            columns[str(column)] = values
        else:
            notes.append(f"Column {column!r} is left out: it holds text.")
    if len(columns) < 2:
        raise InputError("ratings", f"{source}, with {len(columns)} columns of numbers", "two items or more")
    values = np.stack(list(columns.values()), 1)
    names = list(columns)
    code = values == NOT_RATED
    if code.any() and not (values[~code & ~np.isnan(values)] >= 90).any():
        values[code] = np.nan
        notes.append(f"{int(code.sum()):,} cells of 99 are read as not rated.")
    if (values[:, 0] == (~np.isnan(values[:, 1:])).sum(1)).all():
        values, names = values[:, 1:], names[1:]
        notes.append("The first column counts the ratings of each row: it is left out.")
    rated = ~np.isnan(values).all(1)
    if not rated.all():
        notes.append(f"{int((~rated).sum())} users rated nothing: they are left out.")
    empty = np.isnan(values[rated]).all(0)
    if empty.any():
        notes.append(f"{int(empty.sum())} items were rated by nobody: they are left out.")
    values = values[rated][:, ~empty]
    if values.shape[0] < 2 or values.shape[1] < 2:
        raise InputError("ratings", f"{source}, with {values.shape[0]} users and {values.shape[1]} items", "2 of each")
    return Ratings(values, [n for n, e in zip(names, empty, strict=True) if not e], notes)


def read_arms(source: str) -> tuple[np.ndarray, list[str], list[str]]:
    """Features ``[arms, d]`` of a table with a row for each arm, their names, and notes. Each column has variance 1."""
    table = _read("arms", source, (), None)
    names, notes = _names(table, None), list(table.notes)
    numbers = table.features[list(table.numeric)]
    if numbers.shape[1] == 0:
        raise InputError("arms", f"{source}, with no column of numbers", "a number of arms, or a table of features")
    if numbers.isna().to_numpy().any():
        raise InputError("arms", f"{source}, with empty cells", "a number in each cell")
    values = numbers.to_numpy(dtype=np.float64)
    spread = values.std(0)
    kept = spread > 0
    if not kept.any():
        raise InputError("arms", f"{source}, in which all arms are equal", "arms that differ")
    if not kept.all():
        notes.append(f"{int((~kept).sum())} columns are left out: they are the same for all arms.")
    values = (values[:, kept] - values[:, kept].mean(0)) / spread[kept]
    titles = [f"arm {i + 1}" for i in range(len(values))] if names is None else [str(n) for n in names]
    if len(np.unique(values, axis=0)) < len(values):
        raise InputError("arms", f"{source}, in which two arms have equal features", "arms that differ")
    return values, titles, notes


def _read(option: str, source: str, bundled: tuple[str, ...], item: str | None) -> Table:
    path = bundled_path(source) if source in bundled and not Path(source).exists() else Path(source).expanduser()
    if not path.exists():
        known = f", or one of {', '.join(bundled)}" if bundled else ""
        raise InputError(option, f"{path}, which does not exist", f"a file{known}")
    table = read_table(str(path), categorical=() if item is None else (item,))
    if len(table) < 2:
        raise InputError(option, f"{path}, with {len(table)} row", "at least 2")
    return table


def _names(table: Table, item: str | None) -> pd.Series | None:
    if item is not None:
        return table.features[item].astype(str)
    for column in table.categorical:
        cells = table.features[column]
        if cells.notna().all() and cells.nunique() == len(cells) and not _words(cells).isin(YES | NO).all():
            return cells.astype(str)
    return None


def _words(cells: pd.Series) -> pd.Series:
    return cells.dropna().astype(str).str.strip().str.lower()


def _questions_of(column: str, cells: pd.Series) -> dict[str, np.ndarray]:
    """Questions about a column with the chance of a yes of each item; none for text with many values."""
    gone = cells.isna().to_numpy()
    words = _words(cells)
    if len(words) == 0:
        return {}
    if words.isin(YES | NO).all():
        chance = np.full(len(cells), 0.5)
        chance[words.index] = words.isin(YES)
        return {f"{column}?": chance}
    numeric = cells.dtype != object
    if numeric:
        numbers = cells.to_numpy(dtype=np.float64)
        if np.nanmin(numbers) >= 0 and np.nanmax(numbers) <= 1:
            return {f"{column}?": np.where(gone, 0.5, numbers)}
        if len(np.unique(numbers[~gone])) > MOST_VALUES:
            cuts = np.unique(np.quantile(numbers[~gone], (0.25, 0.5, 0.75)))
            return {f"{column} > {cut:.4g}?": np.where(gone, 0.5, numbers > cut) for cut in cuts}
    values = sorted(cells.dropna().unique(), key=lambda v: (str(type(v)), v))
    if len(values) > MOST_VALUES:
        return {}
    names = [f"{v:g}" if isinstance(v, float) else str(v) for v in values]
    return {
        f"{column} = {name}?": np.where(gone, 0.5, (cells == value).to_numpy())
        for name, value in zip(names, values, strict=True)
    }
