"""TSPLIB's distances: published optima by exact search, every form of explicit weights, the formulas by hand."""

from __future__ import annotations

import numpy as np
import pytest

from paperworks.errors import InputError
from paperworks.papers.pointer_networks.heuristics import (
    christofides,
    greedy_edge,
    nearest_neighbour,
    nearest_two_opt,
    reference_tour,
)
from paperworks.papers.pointer_networks.tours import Cities, held_karp, is_tour, or_opt, tour_length, two_opt
from paperworks.papers.pointer_networks.tsplib import read_tsplib

# TSPLIB's burma14 and gr17 (coordinates and distances are facts of the library); optima 3323 and 2085.
BURMA = """16.47 96.10
16.47 94.44
20.09 92.54
22.39 93.37
25.23 97.24
22.00 96.05
20.47 97.02
17.20 96.29
16.30 97.38
14.05 98.12
16.53 97.38
21.52 95.59
19.41 97.13
20.09 94.55"""
GR17 = """0
633 0
257 390 0
91 661 228 0
412 227 169 383 0
150 488 112 120 267 0
80 572 196 77 351 63 0
134 530 154 105 309 34 29 0
259 555 372 175 338 264 232 249 0
505 289 262 476 196 360 444 402 495 0
353 282 110 324 61 208 292 250 352 154 0
324 638 437 240 421 329 297 314 95 578 435 0
70 567 191 27 346 83 47 68 189 439 287 254 0
211 466 74 182 243 105 150 108 326 336 184 391 145 0
268 420 53 239 199 123 207 165 383 240 140 448 202 57 0
246 745 472 237 528 364 332 349 202 685 542 157 289 426 483 0
121 518 142 84 297 35 29 36 236 390 238 301 55 96 153 336 0"""


def file_of(tmp_path, kind, section, body, size, *lines):
    path = tmp_path / "x.tsp"
    head = ["NAME: x", "TYPE: TSP", f"DIMENSION: {size}", f"EDGE_WEIGHT_TYPE: {kind}", *lines, section]
    path.write_text("\n".join([*head, body, "EOF\n"]))
    return path


def coordinates(text):
    return "\n".join(f"{i} {line}" for i, line in enumerate(text.splitlines(), 1))


def burma(tmp_path):
    return read_tsplib(file_of(tmp_path, "GEO", "NODE_COORD_SECTION", coordinates(BURMA), 14))


def gr17(tmp_path, form="LOWER_DIAG_ROW", body=GR17):
    return read_tsplib(file_of(tmp_path, "EXPLICIT", "EDGE_WEIGHT_SECTION", body, 17, f"EDGE_WEIGHT_FORMAT: {form}"))


def test_published_optima(tmp_path):
    for instance, optimum in ((burma(tmp_path), 3323), (gr17(tmp_path), 2085)):
        best = held_karp(instance.cities)
        assert instance.length(best) == optimum == tour_length(instance.cities, best)


def test_all_forms_of_explicit_weights_are_the_same_matrix(tmp_path):
    whole = gr17(tmp_path).distances.astype(int)
    above, below = np.triu_indices(17, 1), np.tril_indices(17, -1)
    forms = {
        "FULL_MATRIX": whole,
        "UPPER_ROW": whole[above],
        "LOWER_ROW": whole[below],
        "UPPER_COL": whole[below],
        "LOWER_COL": whole[above],
        "UPPER_DIAG_ROW": whole[np.triu_indices(17)],
        "LOWER_DIAG_COL": whole[np.triu_indices(17)],
        "UPPER_DIAG_COL": whole[np.tril_indices(17)],
    }
    for form, weights in forms.items():
        text = "\n".join(" ".join(map(str, part)) for part in np.array_split(weights.ravel(), 7))
        assert np.array_equal(gr17(tmp_path, form, text).distances, whole), form


def test_every_method_measures_by_the_given_distances(tmp_path):
    cities = gr17(tmp_path).cities
    optimum = 2085
    for method in (greedy_edge, nearest_neighbour, nearest_two_opt, christofides, lambda c: reference_tour(c)[0]):
        tour = method(cities)
        assert is_tour(tour, 17)
        assert optimum <= tour_length(cities, tour)
        better = or_opt(cities, two_opt(cities, tour))
        assert optimum <= tour_length(cities, better) <= tour_length(cities, tour)
    assert tour_length(cities, reference_tour(cities)[0]) == optimum
    points = np.random.default_rng(0).random((9, 2))
    matrix = np.sqrt(((points[:, None] - points) ** 2).sum(-1))
    for method in (greedy_edge, nearest_neighbour, nearest_two_opt, christofides, held_karp):
        assert np.array_equal(method(points), method(Cities(np.zeros((9, 2)), matrix)))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("EUC_2D", [4, 3]), ("CEIL_2D", [4, 3]), ("MAN_2D", [5, 3]), ("MAX_2D", [3, 3]), ("ATT", [2, 1])],
)
def test_formulas_of_the_plane(tmp_path, kind, expected):
    # From the first city: (2.5, 2.6), so 3.607 away, 5.1 by blocks; and (0, 2.5), 2.5 away.
    body = coordinates("0 0\n2.5 2.6\n0 2.5")
    found = read_tsplib(file_of(tmp_path, kind, "NODE_COORD_SECTION", body, 3))
    assert found.distances[0, 1:].tolist() == expected
    assert np.array_equal(found.distances, found.distances.T)
    assert (np.diag(found.distances) == 0).all()


def test_where_a_network_sees_the_cities(tmp_path):
    instance = burma(tmp_path)
    plane = np.sqrt(((instance.points[:, None] - instance.points) ** 2).sum(-1)) * np.pi / 180 * 6378.388
    far = instance.distances > 300
    assert np.abs(plane[far] / instance.distances[far] - 1).max() < 0.05
    assert instance.in_plane
    points = np.random.default_rng(1).random((6, 2)) * 1000
    matrix = np.rint(np.sqrt(((points[:, None] - points) ** 2).sum(-1))).astype(int)
    text = "\n".join(" ".join(map(str, row)) for row in matrix)
    found = read_tsplib(file_of(tmp_path, "EXPLICIT", "EDGE_WEIGHT_SECTION", text, 6))
    again = np.sqrt(((found.points[:, None] - found.points) ** 2).sum(-1))
    np.testing.assert_allclose(again, matrix, atol=2)
    assert not found.in_plane


@pytest.mark.parametrize(
    ("kind", "body", "size", "lines", "words"),
    [
        ("XRAY1", "1 0 0", 1, (), "EDGE_WEIGHT_TYPE: found XRAY1"),
        ("EXPLICIT", "0 1 2", 2, ("EDGE_WEIGHT_FORMAT: FULL_MATRIX",), "3 weights; expected 4"),
        ("EXPLICIT", "0 1 2 0", 2, ("EDGE_WEIGHT_FORMAT: FULL_MATRIX",), "not symmetric"),
        ("EXPLICIT", "0 x", 2, ("EDGE_WEIGHT_FORMAT: UPPER_ROW",), "line 7: found 'x'"),
        ("EXPLICIT", "-1", 2, ("EDGE_WEIGHT_FORMAT: UPPER_ROW",), "negative"),
        ("EXPLICIT", "1", 2, ("EDGE_WEIGHT_FORMAT: FUNCTION",), "EDGE_WEIGHT_FORMAT: found FUNCTION"),
    ],
)
def test_refusals(tmp_path, kind, body, size, lines, words):
    section = "EDGE_WEIGHT_SECTION" if kind == "EXPLICIT" else "NODE_COORD_SECTION"
    with pytest.raises(InputError, match=words):
        read_tsplib(file_of(tmp_path, kind, section, body, size, *lines))
