"""Between the users' coordinates and the unit square that the bundled networks were trained on."""

from __future__ import annotations

import warnings
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
Rescale = Literal["auto", "always", "never"]
"""``always`` fits points into the unit square, ``auto`` (with a warning) only those outside it."""

MARGIN = 1e-9


def to_unit_square(points: Points) -> Points:
    """Shift points [n, d] and divide them by their largest extent: shape and angles stay, hence every solution too.

    The shorter extent is centred. Points that are all equal go to the centre.
    """
    low, high = points.min(axis=0), points.max(axis=0)
    extent = float((high - low).max())
    if extent == 0:
        return np.full_like(points, 0.5)
    return (points - (low + high) / 2) / extent + 0.5


def outside_unit_square(points: Points) -> bool:
    """Whether any coordinate is below 0 or above 1."""
    return bool((points < -MARGIN).any() or (points > 1 + MARGIN).any())


def scaled(points: list[Points], rescale: Rescale) -> list[Points]:
    """The points as a network should see them; warns once when ``auto`` had to rescale."""
    if rescale == "never":
        return points
    if rescale == "always":
        return [to_unit_square(p) for p in points]
    outside = [outside_unit_square(p) for p in points]
    if any(outside):
        warnings.warn(
            f"{sum(outside)} of {len(points)} instances lie outside the unit square and are fitted into it",
            stacklevel=3,
        )
    return [to_unit_square(p) if out else p for p, out in zip(points, outside, strict=True)]
