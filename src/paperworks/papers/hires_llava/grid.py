"""Cutting an image of any size into slices of the encoder's size, and where tokens lie in the image.

choose_grid(height, width, side, most) -> (rows, columns)
place_image(...) -> Placement        how the image lies on the canvas of rows x columns slices
cut_image(pixels, placement) -> slices [rows * columns, side, side, channels], row-major
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from paperworks.errors import InputError
from paperworks.parameters import check_whole

Grid = tuple[int, int]
"""Rows and columns of slices."""
Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels; right and bottom are the first pixels outside."""


def choose_grid(height: int, width: int, side: int, max_slices: int) -> Grid:
    """The grid of slices for an image of ``height`` x ``width`` pixels.

    Among all grids of at most ``max_slices`` slices it has the highest effective resolution: the area of the image
    fitted into the grid without distortion, at most its own. Of equal ones it has the least waste (area of the grid
    beyond that), then the aspect ratio closest to the image's, then the fewest slices.

    Raises InputError for sizes that are not whole numbers of 1 or more.
    """
    for name, value in (("height", height), ("width", width), ("side", side), ("max_slices", max_slices)):
        check_whole(name, value, 1)

    def order(grid: Grid) -> tuple[Fraction, Fraction, float, int]:
        rows, columns = grid
        scale = min(Fraction(columns * side, width), Fraction(rows * side, height))
        effective = min(Fraction(width * height), scale * scale * width * height)
        waste = rows * columns * side * side - effective
        # multiplied out, so that mirrored grids of a square image have the very same figure
        distortion = abs(math.log(columns * height) - math.log(rows * width))
        return -effective, waste, round(distortion, 12), rows * columns

    grids = [(m, n) for m in range(1, max_slices + 1) for n in range(1, max_slices // m + 1)]
    return min(grids, key=order)


@dataclass(frozen=True)
class Placement:
    """How an image lies on the canvas of its slices: fitted with its aspect ratio, at the top left.

    Attributes
    ----------
    height, width : of the image, in pixels.
    side : of a slice, in pixels.
    grid : rows and columns of slices.
    """

    height: int
    width: int
    side: int
    grid: Grid

    @property
    def scaled(self) -> tuple[int, int]:
        """Height and width of the image on the canvas, in pixels of the canvas."""
        rows, columns = self.grid
        scale = min(Fraction(columns * self.side, self.width), Fraction(rows * self.side, self.height))
        return (
            min(rows * self.side, max(1, round(self.height * scale))),
            min(columns * self.side, max(1, round(self.width * scale))),
        )

    def in_image(self, box: Box) -> Box:
        """A box on the canvas as a box in the image, cut to the image."""
        tall, wide = self.scaled
        left, top, right, bottom = box
        across, down = self.width / wide, self.height / tall
        return (
            min(left, wide) * across,
            min(top, tall) * down,
            min(right, wide) * across,
            min(bottom, tall) * down,
        )

    def slice_boxes(self) -> list[Box]:
        """Where each slice lies in the image, row-major."""
        rows, columns = self.grid
        corners = [(c * self.side, r * self.side) for r in range(rows) for c in range(columns)]
        return [self.in_image((x, y, x + self.side, y + self.side)) for x, y in corners]

    def valid_tokens(self, patch: int) -> np.ndarray:
        """Which patches of the whole map have a pixel of the image, bool ``[rows * side / patch, ...]``."""
        tall, wide = self.scaled
        rows, columns = (count * self.side // patch for count in self.grid)
        down, across = np.arange(rows) * patch < tall, np.arange(columns) * patch < wide
        return down[:, None] & across[None, :]

    def cut_lines(self) -> tuple[list[float], list[float]]:
        """The cuts that run through the image: y of the horizontal ones and x of the vertical ones, in its pixels."""
        tall, wide = self.scaled
        rows, columns = self.grid
        ys = [r * self.side * self.height / tall for r in range(1, rows) if r * self.side < tall]
        xs = [c * self.side * self.width / wide for c in range(1, columns) if c * self.side < wide]
        return ys, xs


def place_image(height: int, width: int, side: int, max_slices: int, grid: Grid | None = None) -> Placement:
    """Where an image goes. ``grid`` is used as it is given; None chooses one of at most ``max_slices``."""
    return Placement(height, width, side, choose_grid(height, width, side, max_slices) if grid is None else grid)


def on_canvas(pixels: np.ndarray, placement: Placement, fill: np.ndarray) -> np.ndarray:
    """The image uint8 ``[h, w, c]`` on its canvas ``[rows * side, columns * side, c]``; beyond it is ``fill``."""
    rows, columns = placement.grid
    scaled = resize(pixels, placement.scaled)
    canvas = np.empty((rows * placement.side, columns * placement.side, pixels.shape[2]), np.uint8)
    canvas[:] = np.rint(fill).astype(np.uint8)
    canvas[: scaled.shape[0], : scaled.shape[1]] = scaled
    return canvas


def cut_image(pixels: np.ndarray, placement: Placement, fill: np.ndarray) -> np.ndarray:
    """The slices of an image uint8 ``[h, w, c]``: uint8 ``[rows * columns, side, side, c]``, row-major.

    Raises InputError for an image that is not of the placement's size.
    """
    if pixels.shape[:2] != (placement.height, placement.width):
        raise InputError("pixels", pixels.shape, f"an image of {placement.height} x {placement.width} pixels")
    rows, columns = placement.grid
    side, channels = placement.side, pixels.shape[2]
    canvas = on_canvas(pixels, placement, fill).reshape(rows, side, columns, side, channels)
    return canvas.swapaxes(1, 2).reshape(rows * columns, side, side, channels)


def resize(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize uint8 ``[h, w, c]`` to (height, width), bilinear with antialiasing; unchanged if it has that size."""
    if pixels.shape[:2] == size:
        return pixels
    from PIL import Image

    shape = (size[1], size[0])  # Pillow's order
    planes = [Image.fromarray(np.ascontiguousarray(pixels[:, :, c])) for c in range(pixels.shape[2])]
    return np.stack([np.asarray(plane.resize(shape, Image.Resampling.BILINEAR)) for plane in planes], axis=2)
