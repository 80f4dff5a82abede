"""Tables of elements: a row per element, with or without a header."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from paperworks.errors import InputError, nearest
from paperworks.papers.pointer_networks.lines import is_number, number_of, read_lines

COORDINATES = (
    ("x", "y"),
    ("x_coord", "y_coord"),
    ("xcoord", "ycoord"),
    ("coord_x", "coord_y"),
    ("easting", "northing"),
    ("lon", "lat"),
    ("lng", "lat"),
    ("long", "lat"),
    ("longitude", "latitude"),
)
"""Names of columns that hold coordinates, without regard to case."""

Table = tuple[list[NDArray[np.float64]], list[str], list[list[int]] | None, list[str]]


def read_table(path: Path, columns: Sequence[str] = (), *, plane: bool = True) -> Table:
    """Read elements [n, d] per instance.

    Cells are separated by commas, semicolons (numbers may then have decimal commas), tabs or white space. Lines that
    begin with ``#`` are comments; one in front of the rows that has as many cells as they is the header. Under a header
    the features are ``columns``; else, in the plane, two columns with names of coordinates (x and y, longitude and
    latitude, easting and northing); else all columns of numbers. A column ``instance`` tells instances apart, a column
    ``position`` gives the place in the target.

    Returns
    -------
    points, names of the instances, 0-based targets or None, and notes on what was understood. Raises InputError naming
    the line or the column.
    """
    header, body = _rows(path)
    names = [name.lower() for name in header]
    special: dict[str, int] = {name: names.index(name) for name in ("instance", "position") if name in names}
    chosen, notes = _features(path, header, body, columns, special, plane)
    groups: dict[str, list[tuple[list[float], str]]] = {}
    for number, cells in body:
        field = f"{path.name}, line {number}"
        features = [number_of(cells[i], f"{field}, column {header[i]}" if header else field) for i in chosen]
        key = cells[special["instance"]] if "instance" in special else path.stem
        groups.setdefault(key, []).append((features, cells[special["position"]] if "position" in special else ""))
    points = [np.array([features for features, _ in rows]) for rows in groups.values()]
    if "position" not in special:
        return points, list(groups), None, notes
    targets = [_ordered([p for _, p in rows], f"{path.name}, instance {key}") for key, rows in groups.items()]
    return points, list(groups), targets, notes


def _rows(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The header (empty without one), and the cells of every row with its line."""
    lines = [(number, line.strip()) for number, line in enumerate(read_lines(path), 1) if line.strip()]
    comments = [line.lstrip("#").strip() for _, line in lines if line.startswith("#")]
    lines = [(number, line) for number, line in lines if not line.startswith("#")]
    if not lines:
        raise InputError(str(path), "an empty file", "a row per element")
    mark = next((mark for mark in ("\t", ";", ",") if 2 * sum(mark in line for _, line in lines) >= len(lines)), None)

    def cells(line: str) -> list[str]:
        found = line.split() if mark is None else [c.strip() for c in next(csv.reader([line], delimiter=mark))]
        return [_decimal_point(c) for c in found] if mark == ";" else found

    rows = [(number, cells(line)) for number, line in lines]
    width = statistics.mode(len(row) for _, row in rows)
    while len(rows) > 1 and len(rows[0][1]) != width and not any(is_number(c) for c in rows[0][1]):
        del rows[0]  # a title above the table
    header: list[str] = []
    if not any(is_number(c) for c in rows[0][1]) or (len(rows) > 1 and _is_header(rows[0][1], rows[1][1])):
        header = rows.pop(0)[1]
    elif comments and len(cells(comments[-1])) == width:
        header = cells(comments[-1])
    if not rows:
        raise InputError(str(path), "a header and no elements", "a row of numbers per element")
    width = len(header) or width
    for number, row in rows:
        if len(row) != width:
            raise InputError(f"{path.name}, line {number}", f"{len(row)} cells", f"{width}, as elsewhere")
    return header, rows


def _is_header(first: list[str], second: list[str]) -> bool:
    """Whether a first row with a number in it is a header: a word stands where the next row has a number."""
    return any(is_number(b) and not is_number(a) for a, b in zip(first, second, strict=False))


def _decimal_point(cell: str) -> str:
    if cell.count(",") != 1 or "." in cell:
        return cell
    return cell.replace(",", ".") if is_number(cell.replace(",", ".")) else cell


def _features(
    path: Path,
    header: list[str],
    body: list[tuple[int, list[str]]],
    columns: Sequence[str],
    special: dict[str, int],
    plane: bool,
) -> tuple[list[int], list[str]]:
    """The places of the features, and what to say about them."""
    names, width = [name.lower() for name in header], len(body[0][1])
    if columns:
        if not header:
            raise InputError("columns", ",".join(columns), f"no names: {path.name} has no header")
        for column in columns:
            if column.lower() not in names:
                known = f"{', '.join(header)}{nearest(column, header)}"
                raise InputError("columns", column, f"columns of {path.name}: {known}")
        return [names.index(column.lower()) for column in columns], []
    others = [i for i in range(width) if i not in special.values()]
    if plane and header:
        for pair in COORDINATES:
            if all(name in names for name in pair):
                chosen, notes = [names.index(name) for name in pair], []
                if pair[1].startswith("lat"):
                    notes = ["Longitude and latitude are taken as coordinates of a plane: lengths are in degrees."]
                return chosen, [*_note(path, header, chosen, others), *notes]
    numeric = [i for i in others if all(is_number(cells[i]) for _, cells in body)]
    partly = [i for i in others if i not in numeric and any(is_number(cells[i]) for _, cells in body)]
    if not header or (partly and (not plane or len(numeric) != 2)):
        numeric = sorted([*numeric, *partly])  # reading them names the cell that is no number
    if not header:
        numeric = others
    if plane and header and len(numeric) > 2 and len(numeric) < len(others):
        found = ", ".join(header[i] for i in numeric)
        raise InputError("columns", f"{len(numeric)} columns of numbers in {path.name} ({found})", "--columns X,Y")
    if not numeric:
        raise InputError(str(path), "no column of numbers", "a row of numbers per element")
    return numeric, _note(path, header, numeric, others)


def _note(path: Path, header: list[str], chosen: list[int], others: list[int]) -> list[str]:
    if chosen == others or not header:
        return []
    read, left = (", ".join(header[i] for i in places) for places in (chosen, [i for i in others if i not in chosen]))
    return [f"Read from {path.name}: columns {read}. Left out: {left} (--columns names others)."]


def _ordered(positions: list[str], field: str) -> list[int]:
    """Row indices by their position; the positions that are there must be 0, 1, ..."""
    placed = {position: row for row, position in enumerate(positions) if position}
    wanted = [str(i) for i in range(len(placed))]
    if sorted(placed) != sorted(wanted) or len(placed) != sum(map(bool, positions)) or not placed:
        raise InputError(f"{field}, position", ", ".join(p for p in positions if p) or "none", "0, 1, 2, ... once each")
    return [placed[position] for position in wanted]
