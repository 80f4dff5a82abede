"""The paper's figures. Those marked in ``paper.toml`` as from memory are so marked in the tables that show them."""

from __future__ import annotations

from typing import NamedTuple


class TourLengths(NamedTuple):
    """Mean lengths of Table 2; None where the paper has none."""

    optimal: float | None
    a1: float
    a2: float
    a3: float
    network: float


TSP_LENGTHS = {
    5: TourLengths(2.12, 2.18, 2.12, 2.12, 2.12),
    10: TourLengths(2.87, 3.07, 2.87, 2.87, 2.88),
    20: TourLengths(3.83, 4.24, 3.86, 3.85, 3.88),
    25: TourLengths(None, 4.71, 4.27, 4.24, 4.30),
    30: TourLengths(None, 5.11, 4.63, 4.60, 4.72),
    40: TourLengths(None, 5.82, 5.27, 5.23, 5.91),
    50: TourLengths(None, 6.46, 5.84, 5.79, 7.66),
}
"""From 20 on with the network trained on 5 to 20 points."""

HULL = {
    5: (0.920, 0.996),
    10: (0.870, 0.998),
    50: (0.696, 0.999),
    100: (0.503, 0.999),
    200: (0.221, 0.999),
    500: (0.013, 0.992),
}
"""Accuracy and area of the network trained on 5 to 50 points."""

DELAUNAY = {5: (0.807, 0.930), 10: (0.226, 0.813), 50: (0.0, 0.528)}
"""Accuracy and triangle coverage, trained and tested on one size each."""

MEMORY_NOTE = "Of the paper's figures all but those printed for a network at 5, 10 and 50 points are from memory."
