"""The users' files: the paper's official format, TSPLIB, tables of points, and JSON lines for any elements."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from paperworks.errors import InputError
from paperworks.inputs.kinds import whole_array
from paperworks.papers.pointer_networks.instances import Instances
from paperworks.papers.pointer_networks.lines import POINT_FORMATS, existing, number_of, read_lines
from paperworks.papers.pointer_networks.problems import PROBLEMS
from paperworks.papers.pointer_networks.tables import read_table
from paperworks.papers.pointer_networks.tsplib import TSPLIB, read_tsplib
from paperworks.runs.files import require_free, write_text

CLOSED = ("hull", "tsp")
"""Problems whose solutions repeat the first index at the end in the official files."""


def read_official(path: str | Path, problem: str = "tsp", *, limit: int | None = None) -> Instances:
    """Read ``x1 y1 ... xn yn output i1 i2 ... i1``, one instance per line, indices from 1.

    The repeat of the first index at the end (hulls and tours) is taken off; the network's stop closes the cycle. Lines
    without ``output`` are instances without a solution; either all have one, or none. The labels are taken as they are:
    ``verify_labels`` says which are not exact.

    Raises InputError naming the first bad line.
    """
    path = Path(path)
    points: list[NDArray[np.float64]] = []
    targets: list[list[int]] = []
    for number, line in enumerate(read_lines(path), 1):
        if not line.strip():
            continue
        if limit is not None and len(points) == limit:
            break
        field = f"{path.name}, line {number}"
        numbers, marked, indices = line.partition("output")
        points.append(_coordinates(numbers.split(), field))
        if marked:
            targets.append(_indices(indices.split(), len(points[-1]), problem, field))
        if targets and len(targets) != len(points):
            raise InputError(field, "no 'output'", "a solution on every line, or on none")
    if not points:
        raise InputError(str(path), "no instances", "lines of x1 y1 ... xn yn output i1 ... i1")
    return Instances.from_lists(points, targets or None, field=path.name)


def verify_labels(instances: Instances, problem: str) -> list[int]:
    """The rows whose solutions are not exact: wrong hulls and triangulations, and tours longer than the optimum.

    Third-party copies of the official tours are not all optimal. Tours are compared with Held-Karp's, up to 22 points.
    """
    kind = PROBLEMS[problem]
    wrong = []
    for row, (points, solution) in enumerate(instances):
        found = kind.metrics([points], [solution], [kind.solve(points)])
        right = found["ratio"] <= 1 + 1e-9 if problem == "tsp" else found["accuracy"] == 1
        if not right:
            wrong.append(row)
    return wrong


def _coordinates(words: list[str], field: str) -> NDArray[np.float64]:
    if not words or len(words) % 2:
        raise InputError(field, f"{len(words)} coordinates before 'output'", "x and y of every point")
    return np.array([number_of(w, field) for w in words]).reshape(-1, 2)


def _indices(words: list[str], n: int, problem: str, field: str) -> list[int]:
    found = []
    for word in words:
        if not word.isdigit() or not 1 <= int(word) <= n:
            raise InputError(field, f"index {word!r}", f"whole numbers from 1 to {n}")
        found.append(int(word) - 1)
    if not found:
        raise InputError(field, "nothing after 'output'", "indices")
    if problem in CLOSED and len(found) > 1 and found[-1] == found[0]:
        del found[-1]
    if problem == "delaunay" and len(found) % 3:
        raise InputError(field, f"{len(found)} indices", "triples")
    if problem == "tsp" and sorted(found) != list(range(n)):
        raise InputError(field, f"{len(set(found))} different indices of {len(found)}", f"a tour of all {n} points")
    return found


def write_official(
    path: str | Path, points: Sequence[NDArray[np.float64]], solutions: Sequence[Sequence[int]], problem: str = "tsp"
) -> None:
    """Write the official format; numbers read back to the same float64. Raises InputError if the file exists."""
    require_free(Path(path), "path")
    write_text(Path(path), official_text(points, solutions, problem))


def official_text(
    points: Sequence[NDArray[np.float64]], solutions: Sequence[Sequence[int]], problem: str = "tsp"
) -> str:
    """The official format as text: solutions become 1-based, hulls and tours are closed by their first index."""
    lines = []
    for p, solution in zip(points, solutions, strict=True):
        closed = [*solution, solution[0]] if problem in CLOSED and solution else list(solution)
        numbers = " ".join(repr(float(x)) for x in np.asarray(p).ravel())
        lines.append(f"{numbers} output {' '.join(str(i + 1) for i in closed)}")
    return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Elements:
    """What a file holds: elements [n, d] per instance, their names, and 0-based targets where the file has them.

    ``notes`` say how the file was understood.
    """

    points: list[NDArray[np.float64]]
    names: list[str]
    targets: list[list[int]] | None = None
    tsplib: TSPLIB | None = None
    notes: list[str] = field(default_factory=list)


def read_elements(path: str | Path, problem: str = "tsp", columns: Sequence[str] = ()) -> Elements:
    """Read instances from any of the formats, told apart by suffix and content.

    - ``.tsp``: TSPLIB, one instance.
    - ``.npy``: numbers [n, d], one instance, or [N, n, d].
    - ``.jsonl``: per line ``{"elements": [[...], ...], "target": [...]}``, indices from 0, ``target`` optional.
    - ``.csv``, ``.tsv``: a row per element, with or without a header. Under a header, a column ``instance`` tells
      instances apart, and a column ``position`` (0, 1, ...; empty: not part of it) gives the place in the target.
      ``columns`` names the features; see ``tables.read_table`` for those that are found without it.
    - ``.txt``: the official format; without the word ``output``, a row per element.

    Raises InputError naming the line.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix == ".tsp":
        instance = read_tsplib(path)
        return Elements([instance.points], [instance.name], None, instance)
    if suffix == ".npy":
        return _from_npy(path)
    if suffix == ".jsonl":
        return _from_json_lines(path)
    if suffix not in POINT_FORMATS:
        raise InputError("input", path.name, f"a file that ends in {', '.join(POINT_FORMATS)}")
    if suffix == ".txt" and any("output" in line for line in read_lines(path)):
        instances = read_official(path, problem)
        names = [f"line {i}" for i in range(1, len(instances) + 1)]
        return Elements(instances.inputs(), names, instances.solutions() if instances.targets is not None else None)
    points, names, targets, notes = read_table(path, columns, plane=problem != "sequence")
    return Elements(points, names, targets, None, notes)


def _from_npy(path: Path) -> Elements:
    try:
        array = whole_array(existing(path))
    except (ValueError, OSError, EOFError, BadZipFile) as error:
        raise InputError(str(path), f"no array ({str(error).splitlines()[0]})", "what numpy.save writes") from None
    if array.ndim not in (2, 3) or not np.issubdtype(array.dtype, np.number) or np.iscomplexobj(array):
        raise InputError(str(path), f"{array.dtype} {array.shape}", "real numbers [n, d] or [N, n, d]")
    parts = [array] if array.ndim == 2 else list(array)
    names = [path.stem] if array.ndim == 2 else [f"instance {i}" for i in range(1, len(parts) + 1)]
    return Elements([np.asarray(p, dtype=np.float64) for p in parts], names)


def _from_json_lines(path: Path) -> Elements:
    points: list[NDArray[np.float64]] = []
    targets: list[list[int]] = []
    for number, line in enumerate(read_lines(path), 1):
        if not line.strip():
            continue
        field = f"{path.name}, line {number}"
        try:
            row: Any = json.loads(line)
            points.append(np.array(row["elements"], dtype=np.float64))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise InputError(field, f"{type(error).__name__}: {error}", '{"elements": [[...], ...]}') from None
        if points[-1].ndim != 2 or 0 in points[-1].shape:
            raise InputError(field, f"elements of shape {points[-1].shape}", "[n, d], a list of features per element")
        if "target" in row:
            targets.append(_json_target(row["target"], len(points[-1]), field))
        if targets and len(targets) != len(points):
            raise InputError(field, "no target", "a target on every line, or on none")
    if not points:
        raise InputError(str(path), "no instances", 'lines of {"elements": [[...], ...]}')
    return Elements(points, [f"line {i}" for i in range(1, len(points) + 1)], targets or None)


def _json_target(target: Any, n: int, field: str) -> list[int]:
    good = isinstance(target, list) and all(isinstance(i, int) and 0 <= i < n for i in target)
    if not good or not target:
        raise InputError(f"{field}, target", target, f"a list of whole numbers from 0 to {n - 1}")
    return target
