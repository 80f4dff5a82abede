"""The users' files: the paper's official format, TSPLIB, tables of points, and JSON lines for any elements."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paperworks.errors import InputError
from paperworks.papers.pointer_networks.instances import Instances
from paperworks.papers.pointer_networks.problems import PROBLEMS
from paperworks.runs.files import require_free, write_text

CLOSED = ("hull", "tsp")
"""Problems whose solutions repeat the first index at the end in the official files."""

POINT_FORMATS = (".csv", ".tsv", ".txt", ".npy", ".jsonl", ".tsp")


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
    return np.array([_number(w, field) for w in words]).reshape(-1, 2)


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
class TSPLIB:
    """An instance of TSPLIB: float64 [n, 2] coordinates as they are in the file, and the node numbers."""

    name: str
    points: NDArray[np.float64]
    nodes: list[int]

    def length(self, tour: Sequence[int]) -> int:
        """The tour's length in TSPLIB's EUC_2D: every distance rounded to the nearest integer."""
        ordered = self.points[list(tour)]
        return int(np.floor(np.sqrt(((ordered - np.roll(ordered, -1, axis=0)) ** 2).sum(-1)) + 0.5).sum())


def read_tsplib(path: str | Path) -> TSPLIB:
    """Read a .tsp file with EDGE_WEIGHT_TYPE EUC_2D. Raises InputError naming the line."""
    path = Path(path)
    header: dict[str, str] = {}
    nodes: dict[int, tuple[float, float]] = {}
    inside = False
    for number, raw in enumerate(read_lines(path), 1):
        line, field = raw.strip(), f"{path.name}, line {number}"
        if not line:
            continue
        if line == "EOF":
            break
        if inside and line[0].isalpha():
            inside = False
        if inside:
            words = line.split()
            if len(words) != 3 or not words[0].isdigit():
                raise InputError(field, repr(line), "a node number and two coordinates")
            if int(words[0]) in nodes:
                raise InputError(field, f"node {words[0]} again", "every node once")
            nodes[int(words[0])] = (_number(words[1], field), _number(words[2], field))
        elif line == "NODE_COORD_SECTION":
            inside = True
            _require_euclidean(header, path.name)
        else:
            key, _, value = line.partition(":")
            header[key.strip().upper()] = value.strip()
    if not nodes:
        raise InputError(str(path), "no NODE_COORD_SECTION", "a TSPLIB file with coordinates")
    dimension = header.get("DIMENSION", str(len(nodes)))
    if dimension != str(len(nodes)):
        raise InputError(str(path), f"{len(nodes)} nodes", f"{dimension}, its DIMENSION")
    return TSPLIB(header.get("NAME", path.stem), np.array(list(nodes.values())), list(nodes))


def _require_euclidean(header: dict[str, str], name: str) -> None:
    kind = header.get("EDGE_WEIGHT_TYPE", "EUC_2D")
    if header.get("TYPE", "TSP").split()[0] != "TSP":
        raise InputError(f"{name}, TYPE", header["TYPE"], "TSP")
    if kind != "EUC_2D":
        raise InputError(f"{name}, EDGE_WEIGHT_TYPE", kind, "EUC_2D (points of the plane)")


def tsplib_tour_text(name: str, nodes: Sequence[int], tour: Sequence[int], comment: str = "") -> str:
    """A tour as TSPLIB's .tour file."""
    head = [f"NAME : {name}.tour", *([f"COMMENT : {comment}"] if comment else []), "TYPE : TOUR"]
    return "\n".join(
        [*head, f"DIMENSION : {len(tour)}", "TOUR_SECTION", *(str(nodes[i]) for i in tour), "-1", "EOF", ""]
    )


@dataclass(frozen=True)
class Elements:
    """What a file holds: elements [n, d] per instance, their names, and 0-based targets where the file has them."""

    points: list[NDArray[np.float64]]
    names: list[str]
    targets: list[list[int]] | None = None
    tsplib: TSPLIB | None = None


def read_elements(path: str | Path, problem: str = "tsp") -> Elements:
    """Read instances from any of the formats, told apart by suffix and content.

    - ``.tsp``: TSPLIB, one instance.
    - ``.npy``: numbers [n, d], one instance, or [N, n, d].
    - ``.jsonl``: per line ``{"elements": [[...], ...], "target": [...]}``, indices from 0, ``target`` optional.
    - ``.csv``, ``.tsv``: a row per element, with or without a header. Under a header, a column ``instance`` tells
      instances apart, and a column ``position`` (0, 1, ...; empty: not part of it) gives the place in the target.
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
    return _from_table(path)


def _from_npy(path: Path) -> Elements:
    try:
        array = np.load(_existing(path), allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
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
        except (ValueError, KeyError, TypeError) as error:
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


def _from_table(path: Path) -> Elements:
    lines = read_lines(path)
    first = next((line for line in lines if line.strip()), "")
    delimiter = next((mark for mark in (",", "\t", ";") if mark in first), None)
    rows = [
        (
            number,
            [c.strip() for c in (line.split() if delimiter is None else next(csv.reader([line], delimiter=delimiter)))],
        )
        for number, line in enumerate(lines, 1)
        if line.strip()
    ]
    if not rows:
        raise InputError(str(path), "an empty file", "a row per element")
    header = rows[0][1] if any(not _is_number(c) for c in rows[0][1]) else None
    body = rows[1:] if header else rows
    names = [h.lower() for h in header] if header else []
    special = {name: names.index(name) for name in ("instance", "position") if name in names}
    groups: dict[str, list[tuple[list[float], str]]] = {}
    for number, cells in body:
        field = f"{path.name}, line {number}"
        if len(cells) != len(rows[0][1]):
            raise InputError(field, f"{len(cells)} cells", f"{len(rows[0][1])}, as in the first line")
        key = cells[special["instance"]] if "instance" in special else path.stem
        features = [_number(c, field) for i, c in enumerate(cells) if i not in special.values()]
        groups.setdefault(key, []).append((features, cells[special["position"]] if "position" in special else ""))
    if not groups or not next(iter(groups.values()))[0][0]:
        raise InputError(str(path), "no elements", "a row of numbers per element")
    points = [np.array([f for f, _ in rows]) for rows in groups.values()]
    if "position" not in special:
        return Elements(points, list(groups))
    targets = [_ordered([p for _, p in rows], f"{path.name}, instance {key}") for key, rows in groups.items()]
    return Elements(points, list(groups), targets)


def _ordered(positions: list[str], field: str) -> list[int]:
    """Row indices by their position; the positions that are there must be 0, 1, ..."""
    placed = {position: row for row, position in enumerate(positions) if position}
    wanted = [str(i) for i in range(len(placed))]
    if sorted(placed) != sorted(wanted) or len(placed) != sum(map(bool, positions)) or not placed:
        raise InputError(f"{field}, position", ", ".join(p for p in positions if p) or "none", "0, 1, 2, ... once each")
    return [placed[position] for position in wanted]


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise InputError("input", f"{path}, which is no file", f"a file that ends in {', '.join(POINT_FORMATS)}")
    return path


def read_lines(path: Path) -> list[str]:
    """The lines of a text file (UTF-8, a byte order mark is skipped)."""
    try:
        return _existing(path).read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise InputError(str(path), "bytes that are no text", "a text file in UTF-8") from None


def _number(word: str, field: str) -> float:
    if not _is_number(word):
        raise InputError(field, repr(word), "a number")
    value = float(word)
    if not math.isfinite(value):
        raise InputError(field, word, "a finite number")
    return value


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
