"""Permutations of bits and rows of bits: checked, applied, and read from the user's files.

One convention throughout: ``permutation[i] = j`` sends input bit i to output position j. A matrix P has
``P[j, i] = 1`` there, so that the output is ``P x``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal
from zipfile import BadZipFile

import numpy as np
from numpy.typing import ArrayLike, NDArray

from paperworks.errors import InputError
from paperworks.inputs.kinds import whole_array
from paperworks.papers.permutations_ntk.theory import require_bits

Bits = NDArray[np.uint8]
Permutation = NDArray[np.int64]
RowFormat = Literal["auto", "table", "bytes"]

NAMED = ("random", "reverse", "shuffle", "identity")
_SEPARATORS = str.maketrans(',;\t"', "    ")
TABLES = (".csv", ".tsv", ".txt", ".npy", ".parquet")


def as_permutation(value: ArrayLike, field: str = "permutation") -> Permutation:
    """A permutation given as k positions or as a k x k matrix, as int64 positions (k,).

    Raises InputError naming the position, row or column at fault.
    """
    array = _as_array(value, field)
    if array.size == 0 or array.ndim not in (1, 2) or array.dtype.kind not in "biuf":
        raise InputError(field, f"{array.dtype} of shape {array.shape}", "k positions or a k x k matrix of 0 and 1")
    if array.ndim == 2:
        return _from_matrix(array, field)
    k = len(array)
    if (array != np.floor(array)).any():
        raise InputError(field, f"{array[array != np.floor(array)][0]}", "whole numbers")
    positions = array.astype(np.int64)
    for i, j in enumerate(positions):
        if not 0 <= j < k:
            raise InputError(f"{field}[{i}]", int(j), f"a position from 0 to {k - 1}")
    counts = np.bincount(positions, minlength=k)
    if counts.max() > 1:
        twice = int(counts.argmax())
        where = np.flatnonzero(positions == twice)
        raise InputError(f"{field}[{where[1]}]", f"{twice}, which is at {where[0]} too", "every position once")
    return positions


def _as_array(value: ArrayLike, field: str) -> NDArray:
    try:
        return np.asarray(value)
    except ValueError:
        raise InputError(field, "rows of different lengths", "as many columns in every row") from None


def _from_matrix(matrix: NDArray, field: str) -> Permutation:
    if matrix.shape[0] != matrix.shape[1]:
        raise InputError(field, f"a matrix of shape {matrix.shape}", "as many rows as columns")
    _require_binary(matrix, field)
    for axis, name in ((1, "row"), (0, "column")):
        sums = matrix.sum(axis=axis, dtype=np.int64)
        if (sums != 1).any():
            at = int(np.flatnonzero(sums != 1)[0])
            raise InputError(f"{field}, {name} {at}", f"{sums[at]} ones", "exactly one 1 in every row and column")
    return matrix.argmax(axis=0).astype(np.int64)


def permutation_matrix(permutation: ArrayLike) -> NDArray[np.float64]:
    """The matrix P (k, k), float64, with ``P x`` the permuted x."""
    positions = as_permutation(permutation)
    out = np.zeros((len(positions), len(positions)))
    out[positions, np.arange(len(positions))] = 1
    return out


def apply_permutation(permutation: ArrayLike, rows: ArrayLike) -> NDArray:
    """Rows (num, k) of any type with bit i moved to position ``permutation[i]``."""
    positions, table = as_permutation(permutation), np.asarray(rows)
    if table.ndim != 2 or table.shape[1] != len(positions):
        raise InputError("rows", f"shape {table.shape}", f"(num, {len(positions)})")
    out = np.empty_like(table)
    out[:, positions] = table
    return out


def named_permutation(name: str, bits: int, rng: np.random.Generator) -> Permutation:
    """``random``, ``reverse``, ``identity``, or ``shuffle`` (the two halves interleaved, as cards are)."""
    k = require_bits(bits)
    match name:
        case "random":
            return rng.permutation(k).astype(np.int64)
        case "reverse":
            return np.arange(k)[::-1].copy()
        case "identity":
            return np.arange(k)
        case "shuffle":
            order = np.empty(k, dtype=np.int64)
            order[0::2], order[1::2] = np.arange((k + 1) // 2), np.arange((k + 1) // 2, k)
            return np.argsort(order)
    raise InputError("permutation", repr(name), f"one of {', '.join(NAMED)}, positions such as 2,0,1, or a file")


def as_bit_rows(rows: ArrayLike, bits: int | None = None, *, zeros: bool = False, field: str = "X") -> Bits:
    """Rows of 0 and 1 as uint8 (num, k).

    Raises InputError naming the row and column of an entry that is not 0 or 1, a row with no ones (unless ``zeros``;
    such a row has no direction, and its permutation is itself), or another number of columns than ``bits``.
    """
    table = _as_array(rows, field)
    if table.ndim != 2 or table.shape[1] == 0 or table.dtype.kind not in "biuf":
        raise InputError(field, f"{table.dtype} of shape {table.shape}", "a table (num, k) of 0 and 1")
    if bits is not None and table.shape[1] != bits:
        raise InputError(field, f"{table.shape[1]} columns", f"{bits} columns, one per bit")
    _require_binary(table, field)
    out = table.astype(np.uint8)
    if not zeros and not out.any(axis=1).all():
        raise InputError(
            f"{field}, row {int((~out.any(axis=1)).argmax())}", "only zeros", "at least one 1 in every row"
        )
    return out


def _require_binary(table: NDArray, field: str) -> None:
    wrong = ~((table == 0) | (table == 1))
    if wrong.any():
        row, column = (int(i[0]) for i in np.nonzero(wrong))
        raise InputError(f"{field}, row {row}, column {column}", f"{table[row, column]:g}", "0 or 1")


def all_inputs(bits: int) -> Bits:
    """All 2^k - 1 rows with at least one 1, (2^k - 1, k); k at most 20."""
    if require_bits(bits) > 20:
        raise InputError("bits", bits, "at most 20 (a million rows) to list every input")
    numbers = np.arange(1, 2**bits, dtype=np.int64)
    return ((numbers[:, None] >> np.arange(bits)) & 1).astype(np.uint8)


def ones_profile(rows: ArrayLike) -> dict[int, int]:
    """How many distinct nonzero rows there are per number of ones; what the ensemble sizes depend on."""
    distinct = np.unique(as_bit_rows(rows, zeros=True), axis=0)
    values, counts = np.unique(distinct.sum(axis=1, dtype=np.int64), return_counts=True)
    return {int(v): int(c) for v, c in zip(values, counts, strict=True) if v}


def places_of(rows: Bits, among: Bits) -> NDArray[np.int64]:
    """Where each of ``rows`` is among distinct rows, (num,); -1 for one that is not."""
    places = {row.tobytes(): i for i, row in enumerate(among)}
    return np.array([places.get(row.tobytes(), -1) for row in rows], dtype=np.int64)


def is_table(path: Path, format: RowFormat = "auto") -> bool:
    """Whether a file is read as a table of 0 and 1 (the suffix decides under ``auto``), not as a stream of bits."""
    return format == "table" or (format == "auto" and path.suffix.lower() in TABLES)


def permutation_of_examples(inputs: ArrayLike, outputs: ArrayLike) -> tuple[Permutation, NDArray[np.bool_]]:
    """The permutation that a table of examples shows at its unit vectors, and which rows those are.

    Raises InputError naming a bit whose unit vector is missing, an example that contradicts another, or outputs at the
    unit vectors that are no permutation.
    """
    x = as_bit_rows(inputs, field="examples, inputs")
    y = as_bit_rows(outputs, x.shape[1], zeros=True, field="examples, outputs")
    if len(x) != len(y):
        raise InputError("examples", f"{len(x)} inputs and {len(y)} outputs", "one output per input")
    unit = x.sum(axis=1, dtype=np.int64) == 1
    missing = np.setdiff1d(np.arange(x.shape[1]), x[unit].argmax(axis=1))
    if missing.size:
        raise InputError(
            "examples", f"no row where only bit {missing[0]} is 1", "the unit vector of every bit among the inputs"
        )
    matrix = np.zeros((x.shape[1], x.shape[1]), dtype=np.uint8)
    seen: Mapping[int, int] = {}
    for row in np.flatnonzero(unit):
        bit = int(x[row].argmax())
        if bit in seen and (matrix[:, bit] != y[row]).any():
            raise InputError(f"examples, row {row}", f"another output than row {seen[bit]}", "one output per input")
        matrix[:, bit] = y[row]
        seen = {**seen, bit: int(row)}
    return as_permutation(matrix, "examples, outputs of the unit vectors as columns"), unit


def read_permutation(text: str, bits: int, rng: np.random.Generator) -> Permutation:
    """A permutation from its name, from positions such as ``2,0,1``, or from a file (.json, .npy, or a text table)."""
    if text in NAMED:
        return named_permutation(text, bits, rng)
    if re.fullmatch(r"\s*-?\d+\s*(,\s*-?\d+\s*)*", text):
        return as_permutation([int(part) for part in text.split(",")])
    path = Path(text)
    if _is_file(path):
        if path.suffix.lower() == ".json":
            try:
                return as_permutation(json.loads(path.read_text(encoding="utf-8")))
            except (ValueError, RecursionError) as error:
                raise InputError("permutation", f"{path}: {error}", "JSON with a list of positions") from None
        table = np.atleast_2d(_read_table(path, "permutation"))
        return as_permutation(table.ravel() if 1 in table.shape else table)
    expected = f"one of {', '.join(NAMED)}, positions such as 2,0,1, or a file that exists"
    raise InputError("permutation", repr(text), expected)


def read_bit_rows(path: Path, bits: int | None, format: RowFormat = "auto", field: str = "input") -> Bits:
    """Rows of bits (num, k) from a file; rows of zeros are kept.

    Tables are .csv, .tsv, .txt (0 and 1, separated or not, with or without a heading), .npy and .parquet. Any other
    file (or ``format="bytes"``) is read as its bits, most significant first, cut into blocks of ``bits``.
    """
    if not path.is_file():
        raise InputError(field, f"{path}, which is no file", "a file that exists")
    if is_table(path, format):
        return as_bit_rows(_read_table(path, field), bits, zeros=True, field=f"{field} {path.name}")
    stream = np.unpackbits(np.fromfile(path, dtype=np.uint8))
    k = bits or 8
    if stream.size == 0 or stream.size % k:
        raise InputError(field, f"{path.name}, which has {stream.size} bits", f"one or more whole blocks of {k} bits")
    return stream.reshape(-1, k)


def _read_table(path: Path, field: str) -> NDArray:
    suffix = path.suffix.lower()
    try:
        if suffix == ".npy":
            return whole_array(path)
        if suffix == ".parquet":
            import pandas as pd

            return pd.read_parquet(path).to_numpy()
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, EOFError, ValueError, BadZipFile) as error:
        raise InputError(field, f"{path}: {error}", f"a table in one of {', '.join(TABLES)}") from None
    return _parse_lines(lines, path, field)


def _parse_lines(lines: list[str], path: Path, field: str) -> NDArray:
    rows: list[list[float]] = []
    where: list[int] = []
    for number, line in enumerate(lines, 1):
        words = line.translate(_SEPARATORS).split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) == 1 and len(words[0]) > 1 and set(words[0]) <= {"0", "1"}:
            words = list(words[0])
        values = [_number(word) for word in words]
        if None in values:
            if not rows and not any(value is not None for value in values):
                continue  # a heading
            bad = words[values.index(None)]
            raise InputError(f"{field} {path.name}, line {number}", repr(bad), "whole numbers")
        rows.append([value for value in values if value is not None])
        where.append(number)
        if len(rows[-1]) != len(rows[0]):
            found = f"{len(rows[-1])} columns"
            raise InputError(f"{field} {path.name}, line {number}", found, f"{len(rows[0])}, as in line {where[0]}")
    if not rows:
        raise InputError(f"{field} {path.name}", "no rows", "at least one row of numbers")
    return np.array(rows)


def _number(word: str) -> float | None:
    """A number as tables write it (1, 1.0, 1e0, true), or None."""
    if word.lower() in ("true", "false"):
        return float(word.lower() == "true")
    try:
        return float(word)
    except ValueError:
        return None


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # too long for a name, or with a zero character
        return False
