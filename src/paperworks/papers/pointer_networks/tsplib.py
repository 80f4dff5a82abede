"""Instances of TSPLIB (Reinelt 1991): its distances, exactly as its documentation defines them, and its tour files."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from paperworks.errors import InputError
from paperworks.papers.pointer_networks.lines import number_of, read_lines
from paperworks.papers.pointer_networks.tours import Cities

Matrix = NDArray[np.float64]

EARTH_RADIUS = 6378.388
"""Kilometres, for GEO."""

SECTIONS = ("NODE_COORD_SECTION", "DISPLAY_DATA_SECTION", "EDGE_WEIGHT_SECTION")


@dataclass(frozen=True)
class TSPLIB:
    """An instance of TSPLIB.

    Attributes
    ----------
    name : of the instance.
    points : float64 [n, 2], where a network sees the cities: the file's coordinates; for GEO longitude (times the
        cosine of the mean latitude) and latitude in degrees; for explicit weights without display coordinates, the
        plane in which distances are nearest to them (classical scaling).
    nodes : the file's node numbers.
    distances : float64 [n, n], whole numbers as TSPLIB rounds them.
    in_plane : whether ``points`` are coordinates of the file in a plane, for which hulls have a meaning.
    """

    name: str
    points: Matrix
    nodes: list[int]
    distances: Matrix
    in_plane: bool = True

    @property
    def cities(self) -> Cities:
        """The cities with TSPLIB's distances."""
        return Cities(self.points, self.distances)

    def length(self, tour: Sequence[int]) -> int:
        """The tour's length in TSPLIB's distances."""
        order = np.asarray(tour)
        return int(self.distances[order, np.roll(order, -1)].sum())


def read_tsplib(path: str | Path) -> TSPLIB:
    """Read a .tsp file with coordinates (EUC_2D, CEIL_2D, MAN_2D, MAX_2D, ATT, GEO) or with explicit weights.

    Raises InputError naming the line.
    """
    path = Path(path)
    header, sections = _parts(path)
    kind = header.get("EDGE_WEIGHT_TYPE", "EUC_2D")
    if header.get("TYPE", "TSP").split()[:1] != ["TSP"]:
        raise InputError(f"{path.name}, TYPE", header["TYPE"], "TSP")
    if kind != "EXPLICIT" and kind not in DISTANCES:
        known = ", ".join([*DISTANCES, "EXPLICIT"])
        raise InputError(f"{path.name}, EDGE_WEIGHT_TYPE", kind, f"one of {known}")
    name = header.get("NAME", path.stem).removesuffix(".tsp")
    if kind == "EXPLICIT":
        matrix = _explicit(header, sections, path)
        shown = sections.get("DISPLAY_DATA_SECTION") or sections.get("NODE_COORD_SECTION")
        nodes, points = _coordinates(shown, path) if shown else (list(range(1, len(matrix) + 1)), _scaled(matrix))
        _check_dimension(header, len(points), path)
        if len(points) != len(matrix):
            raise InputError(str(path), f"{len(points)} coordinates", f"{len(matrix)}, as there are weights")
        return TSPLIB(name, points, nodes, matrix, in_plane=False)
    if not sections.get("NODE_COORD_SECTION"):
        raise InputError(str(path), "no NODE_COORD_SECTION", "a TSPLIB file with coordinates")
    nodes, points = _coordinates(sections["NODE_COORD_SECTION"], path)
    _check_dimension(header, len(points), path)
    distances = DISTANCES[kind](points)
    np.fill_diagonal(distances, 0)
    if kind == "GEO":
        latitude, longitude = np.degrees(_radians(points)).T
        points = np.stack([longitude * math.cos(math.radians(latitude.mean())), latitude], 1)
    return TSPLIB(name, points, nodes, distances)


def _parts(path: Path) -> tuple[dict[str, str], dict[str, list[tuple[int, list[str]]]]]:
    """The header, and the words of every line of each section with the line's number."""
    header: dict[str, str] = {}
    sections: dict[str, list[tuple[int, list[str]]]] = {}
    inside: str | None = None
    for number, raw in enumerate(read_lines(path), 1):
        line = raw.strip()
        if line == "EOF":
            break
        if not line:
            continue
        if line.rstrip(" :") in SECTIONS:
            inside = line.rstrip(" :")
            sections[inside] = []
        elif inside and not line[0].isalpha():
            sections[inside].append((number, line.split()))
        else:
            inside = None
            key, _, value = line.partition(":")
            header[key.strip().upper()] = value.strip()
    return header, sections


def _coordinates(lines: list[tuple[int, list[str]]], path: Path) -> tuple[list[int], Matrix]:
    nodes: dict[int, tuple[float, float]] = {}
    for number, words in lines:
        field = f"{path.name}, line {number}"
        if len(words) != 3 or not words[0].isdigit():
            raise InputError(field, repr(" ".join(words)), "a node number and two coordinates")
        if int(words[0]) in nodes:
            raise InputError(field, f"node {words[0]} again", "every node once")
        nodes[int(words[0])] = (number_of(words[1], field), number_of(words[2], field))
    return list(nodes), np.array(list(nodes.values()))


def _check_dimension(header: dict[str, str], found: int, path: Path) -> None:
    dimension = header.get("DIMENSION", str(found))
    if dimension != str(found):
        raise InputError(str(path), f"{found} nodes", f"{dimension}, its DIMENSION")


def _explicit(header: dict[str, str], sections: dict[str, list[tuple[int, list[str]]]], path: Path) -> Matrix:
    form = header.get("EDGE_WEIGHT_FORMAT", "FULL_MATRIX")
    size = header.get("DIMENSION", "")
    if not size.isdigit() or int(size) < 1:
        raise InputError(f"{path.name}, DIMENSION", size or "nothing", "the number of cities")
    n = int(size)
    # A symmetric matrix read by columns of its upper half is read by rows of its lower half.
    by_rows = {
        "UPPER_COL": "LOWER_ROW",
        "LOWER_COL": "UPPER_ROW",
        "UPPER_DIAG_COL": "LOWER_DIAG_ROW",
        "LOWER_DIAG_COL": "UPPER_DIAG_ROW",
    }
    places = {
        "FULL_MATRIX": lambda: np.divmod(np.arange(n * n), n),
        "UPPER_ROW": lambda: np.triu_indices(n, 1),
        "LOWER_ROW": lambda: np.tril_indices(n, -1),
        "UPPER_DIAG_ROW": lambda: np.triu_indices(n),
        "LOWER_DIAG_ROW": lambda: np.tril_indices(n),
    }
    if by_rows.get(form, form) not in places:
        raise InputError(f"{path.name}, EDGE_WEIGHT_FORMAT", form, f"one of {', '.join([*places, *by_rows])}")
    rows, columns = places[by_rows.get(form, form)]()
    lines = sections.get("EDGE_WEIGHT_SECTION", [])
    weights = [number_of(word, f"{path.name}, line {number}") for number, words in lines for word in words]
    if len(weights) != len(rows):
        raise InputError(f"{path.name}, EDGE_WEIGHT_SECTION", f"{len(weights)} weights", f"{len(rows)} for {form}")
    matrix = np.zeros((n, n))
    matrix[rows, columns] = weights
    if form == "FULL_MATRIX":
        if not np.array_equal(matrix, matrix.T):
            raise InputError(f"{path.name}, EDGE_WEIGHT_SECTION", "a matrix that is not symmetric", "equal ways back")
    else:
        matrix[columns, rows] = weights
    if (matrix < 0).any():
        raise InputError(f"{path.name}, EDGE_WEIGHT_SECTION", "negative weights", "distances of 0 or more")
    np.fill_diagonal(matrix, 0)
    return matrix


def _scaled(matrix: Matrix) -> Matrix:
    """Points of the plane whose distances are near to the matrix: the two largest axes of classical scaling."""
    n = len(matrix)
    centre = np.eye(n) - 1 / n
    values, vectors = np.linalg.eigh(-0.5 * centre @ matrix**2 @ centre)
    axes = vectors[:, ::-1][:, :2] * np.sqrt(np.maximum(values[::-1][:2], 0))
    return np.pad(axes, ((0, 0), (0, 2 - axes.shape[1])))


def _differences(points: Matrix) -> Matrix:
    return points[:, None] - points[None]


def _euclidean(points: Matrix) -> Matrix:
    return np.sqrt((_differences(points) ** 2).sum(-1))


def _att(points: Matrix) -> Matrix:
    exact = np.sqrt((_differences(points) ** 2).sum(-1) / 10)
    rounded = np.floor(exact + 0.5)
    return np.where(rounded < exact, rounded + 1, rounded)


def _radians(points: Matrix) -> Matrix:
    """Latitude and longitude of coordinates DDD.MM (degrees and minutes), with TSPLIB's value of pi."""
    degrees = np.trunc(points)
    return 3.141592 * (degrees + 5 * (points - degrees) / 3) / 180


def _geo(points: Matrix) -> Matrix:
    latitude, longitude = _radians(points).T
    q1 = np.cos(longitude[:, None] - longitude)
    q2 = np.cos(latitude[:, None] - latitude)
    q3 = np.cos(latitude[:, None] + latitude)
    angle = np.arccos(np.clip(0.5 * ((1 + q1) * q2 - (1 - q1) * q3), -1, 1))
    return np.trunc(EARTH_RADIUS * angle + 1)


DISTANCES: dict[str, Callable[[Matrix], Matrix]] = {
    "EUC_2D": lambda points: np.floor(_euclidean(points) + 0.5),
    "CEIL_2D": lambda points: np.ceil(_euclidean(points)),
    "MAN_2D": lambda points: np.floor(np.abs(_differences(points)).sum(-1) + 0.5),
    "MAX_2D": lambda points: np.floor(np.abs(_differences(points)) + 0.5).max(-1),
    "ATT": _att,
    "GEO": _geo,
}


def tsplib_tour_text(name: str, nodes: Sequence[int], tour: Sequence[int], comment: str = "") -> str:
    """A tour as TSPLIB's .tour file."""
    head = [f"NAME : {name}.tour", *([f"COMMENT : {comment}"] if comment else []), "TYPE : TOUR"]
    return "\n".join(
        [*head, f"DIMENSION : {len(tour)}", "TOUR_SECTION", *(str(nodes[i]) for i in tour), "-1", "EOF", ""]
    )
