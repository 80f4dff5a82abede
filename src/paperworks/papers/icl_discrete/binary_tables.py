"""The user's table as contexts: rows of bits with a label of two values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from paperworks.errors import InputError
from paperworks.inputs.tables import Table, read_table
from paperworks.papers.icl_discrete.functions import NearestNeighbours
from paperworks.papers.icl_discrete.tasks import Prompts


@dataclass(frozen=True)
class BinaryTable:
    """Rows of bits.

    Attributes
    ----------
    bits : int8 ``[rows, bits]`` of -1 and +1; labels : int8 ``[rows]``.
    names : what +1 means, per bit; positive, negative : the label's two values.
    """

    bits: np.ndarray
    labels: np.ndarray
    names: tuple[str, ...]
    positive: str
    negative: str
    notes: tuple[str, ...] = ()


def read_binary_table(
    source: Any, target: str | None, read: Callable[[Any, str | None], Table] = read_table
) -> BinaryTable:
    """Read a table (CSV, TSV, Parquet, or a frame) and turn its columns into bits.

    A column of two values is one bit; other columns of text are one bit per value; other columns of numbers are one
    bit, above the median or not. A missing cell is a value of its own in text, and an error in numbers. ``read`` reads
    the table, with options of its own.

    Raises InputError naming the column, and the row where there is one: no target, a target that has not two values,
    or no column with two values or more.
    """
    if target is None:
        columns = list(read(source, None).features.columns)
        raise InputError("target", "nothing", f"the label's column, one of {', '.join(map(str, columns[:12]))}")
    table = read(source, target)
    labels = table.label.astype(str).to_numpy()  # type: ignore[union-attr]
    values = sorted(set(labels))
    if len(values) != 2:
        odd = next((i for i, v in enumerate(labels) if v not in ("0", "1", "-1")), None)
        where = "" if odd is None else f", such as {labels[odd]!r} in row {odd}"
        raise InputError(f"target {target!r}", f"{len(values)} values{where}", "a column of two, such as 0 and 1")
    bits, names = [], []
    for column in table.features.columns:
        cells = table.features[column]
        for name, bit in _bits(str(column), cells, column in table.numeric):
            names.append(name)
            bits.append(bit)
    if not bits:
        raise InputError("input", f"{table.name}, whose columns have one value each", "columns that differ")
    return BinaryTable(
        np.where(np.stack(bits, 1), 1, -1).astype(np.int8),
        np.where(labels == values[1], 1, -1).astype(np.int8),
        tuple(names),
        values[1],
        values[0],
        table.notes,
    )


def _bits(column: str, cells: pd.Series, numeric: bool) -> list[tuple[str, np.ndarray]]:
    if numeric:
        numbers = cells.to_numpy(dtype=float)
        if np.isnan(numbers).any():
            row = int(np.isnan(numbers).argmax())
            raise InputError(f"input, column {column!r}, row {row}", "a missing number", "a number in every row")
        values = np.unique(numbers)
        if len(values) == 1:
            return []
        cut = values[0] if len(values) == 2 else float(np.median(numbers))
        if cut == values[-1]:  # half of the rows have the largest value
            cut = values[-2]
        return [(f"{column} > {cut:g}", numbers > cut)]
    texts = cells.astype(object).where(cells.notna(), "missing").astype(str).to_numpy()
    values = np.unique(texts)
    if len(values) == 1:
        return []
    chosen = values[1:] if len(values) == 2 else values
    return [(f"{column} = {value}", texts == value) for value in chosen]


def informative_bits(table: BinaryTable, rows: np.ndarray, count: int) -> np.ndarray:
    """The ``count`` bits with the highest mutual information with the label on the given rows, in order of columns."""
    from sklearn.metrics import mutual_info_score

    scores = [mutual_info_score(table.labels[rows], table.bits[rows, i]) for i in range(table.bits.shape[1])]
    return np.sort(np.argsort(scores, kind="stable")[::-1][:count])


def table_prompts(
    table: BinaryTable, n_dims: int, prompts: int, n_points: int, rng: np.random.Generator
) -> tuple[Prompts, list[str]]:
    """Prompts of random rows without repetition within a prompt, and the names of the bits that are used.

    Where the table has more than ``n_dims`` bits, the most informative ones on one half of the rows are taken, and the
    prompts come from the other half. Where it has fewer, random bits fill up.
    """
    rows = rng.permutation(len(table.labels))
    names = list(table.names)
    chosen = np.arange(len(names))
    if len(names) > n_dims:
        half = len(rows) // 2
        chosen = informative_bits(table, rows[:half], n_dims)
        rows = rows[half:]
        names = [table.names[i] for i in chosen]
    if len(rows) < n_points:
        raise InputError("points", n_points, f"at most {len(rows)}, the rows that prompts can come from")
    picked = np.stack([rng.permutation(rows)[:n_points] for _ in range(prompts)])
    xs, ys = table.bits[picked][:, :, chosen], table.labels[picked]
    missing = n_dims - xs.shape[2]
    if missing:
        filler = (rng.integers(2, size=(*xs.shape[:2], missing)) * 2 - 1).astype(np.int8)
        xs = np.concatenate([xs, filler], 2)
        names += [f"random bit {i}" for i in range(missing)]
    return Prompts(xs, ys, NearestNeighbours(xs, ys), np.zeros(prompts, np.int64)), names
