"""Where the voxels of a scan are: shape and affine, reorientation to RAS, and resampling to another grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from paperworks.errors import InputError

TOLERANCE_MM = 0.01
"""Two grids are one if no voxel of one is farther than this from its place in the other."""


@dataclass(frozen=True)
class Geometry:
    """A grid of voxels in space.

    Attributes
    ----------
    shape : voxels along the three axes.
    affine : float64 ``[4, 4]``, from (i, j, k, 1) to millimetres, x to the right, y to the front, z to the head (RAS).
    """

    shape: tuple[int, int, int]
    affine: np.ndarray

    def __post_init__(self) -> None:
        affine = np.asarray(self.affine, dtype=np.float64)
        if affine.shape != (4, 4) or not np.isfinite(affine).all():
            raise InputError("affine", f"shape {affine.shape} or values that are not finite", "4 x 4 finite numbers")
        if abs(np.linalg.det(affine[:3, :3])) < 1e-9:
            raise InputError("affine", "a matrix without an inverse", "three axes with a spacing above 0")
        object.__setattr__(self, "affine", affine)
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance of neighbouring voxels along the axes, mm."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)

    @property
    def origin(self) -> tuple[float, float, float]:
        """Centre of voxel (0, 0, 0), mm, RAS."""
        x, y, z = self.affine[:3, 3]
        return float(x), float(y), float(z)

    def points(self, indices: ArrayLike) -> np.ndarray:
        """Millimetres ``[n, 3]`` of voxel indices ``[n, 3]``."""
        return np.asarray(indices) @ self.affine[:3, :3].T + self.affine[:3, 3]

    def indices(self, points: ArrayLike) -> np.ndarray:
        """Voxel indices ``[n, 3]``, fractions included, of points in mm ``[n, 3]``."""
        inverse = np.linalg.inv(self.affine)
        return np.asarray(points) @ inverse[:3, :3].T + inverse[:3, 3]

    def corners(self) -> np.ndarray:
        """Millimetres ``[8, 3]`` of the corner voxels' centres."""
        ends = [(0, n - 1) for n in self.shape]
        return self.points([(i, j, k) for i in ends[0] for j in ends[1] for k in ends[2]])

    def matches(self, other: Geometry, tolerance: float = TOLERANCE_MM) -> bool:
        """Whether both are the same grid: shape, and the place of every corner within ``tolerance`` mm."""
        return self.shape == other.shape and bool(np.abs(self.corners() - other.corners()).max() <= tolerance)

    def with_spacing(self, spacing: Sequence[float | None]) -> Geometry:
        """A grid over the same space with another spacing in mm; None keeps that of an axis."""
        if len(spacing) != 3 or any(s is not None and not s > 0 for s in spacing):
            raise InputError("spacing", spacing, "three numbers above 0, in mm, or None to keep that of an axis")
        old = np.array(self.spacing)
        new = np.array([o if s is None else float(s) for s, o in zip(spacing, old, strict=True)])
        shape = [max(1, round(n * o / s)) for n, o, s in zip(self.shape, old, new, strict=True)]
        affine = self.affine.copy()
        affine[:3, :3] *= new / old
        # the outer faces stay where they are, not the outer centres
        affine[:3, 3] = self.points([(new / old - 1) / 2])[0]
        return Geometry((shape[0], shape[1], shape[2]), affine)

    def describe(self) -> str:
        """Shape, spacing, origin and directions in words, for messages."""
        spacing = " x ".join(f"{s:.4g}" for s in self.spacing)
        origin = ", ".join(f"{o:.4g}" for o in self.origin)
        direction = (self.affine[:3, :3] / np.array(self.spacing)).T.round(3) + 0.0
        axes = "; ".join(" ".join(f"{v:.3g}" for v in axis) for axis in direction)
        return f"{' x '.join(map(str, self.shape))} voxels, {spacing} mm, origin ({origin}), axes ({axes})"


@dataclass(frozen=True)
class Volume:
    """Values on a grid: ``array [X, Y, Z]`` and its geometry."""

    array: np.ndarray
    geometry: Geometry

    def __post_init__(self) -> None:
        if self.array.shape != self.geometry.shape:
            raise InputError("array", f"shape {self.array.shape}", f"{self.geometry.shape}, as the geometry has")

    def to_ras(self) -> Volume:
        """The same values with axes nearest to right, front and head: flips and swaps only, nothing is resampled."""
        from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation

        affine = self.geometry.affine
        orientation = io_orientation(affine)
        array = np.ascontiguousarray(apply_orientation(self.array, orientation))
        moved = affine @ inv_ornt_aff(orientation, self.array.shape)
        return Volume(array, Geometry(array.shape, moved))

    def with_array(self, array: np.ndarray) -> Volume:
        """Other values on the same grid."""
        return replace(self, array=array)


def resample(volume: Volume, grid: Geometry, *, linear: bool = True, outside: float = 0.0) -> Volume:
    """Values of a volume at the voxels of another grid.

    Parameters
    ----------
    linear : trilinear; otherwise the nearest voxel (masks). Values stay as they are where the grids match.
    outside : value of voxels whose centre lies outside of the volume, by more than half a voxel; up to there the
        outermost value counts.

    Returns
    -------
    Volume on ``grid``: float32 if linear, else the volume's own dtype.
    """
    from scipy.ndimage import map_coordinates

    kept = volume.array.astype(np.float32) if linear else volume.array
    if volume.geometry.matches(grid):
        return Volume(kept, grid)
    across = np.linalg.inv(volume.geometry.affine) @ grid.affine
    found = np.empty(grid.shape, dtype=kept.dtype)
    i, j = np.meshgrid(np.arange(grid.shape[0]), np.arange(grid.shape[1]), indexing="ij")
    plane = np.stack([i.ravel(), j.ravel(), np.zeros(i.size), np.ones(i.size)])
    last = np.array(kept.shape)[:, None] - 1
    for k in range(grid.shape[2]):  # a plane at a time: the coordinates of all voxels would take 24 bytes each
        plane[2] = k
        # rounded, so that a plane that coincides with the edge is not outside by the last bit
        places = np.round((across @ plane)[:3], 9)
        inside = ((places >= -0.5) & (places <= last + 0.5)).all(0)
        places = np.clip(places, 0, last)
        if linear:
            values = map_coordinates(kept, places, order=1, mode="nearest")
        else:
            nearest = np.floor(places + 0.5).astype(np.intp).clip(0, last)
            values = kept[tuple(nearest)]
        found[:, :, k] = np.where(inside, values, np.asarray(outside, dtype=kept.dtype)).reshape(grid.shape[:2])
    return Volume(found, grid)
