"""The nine positions of an object on a canvas of 2 x 2 slices, numbered 1 to 9 row by row."""

from __future__ import annotations

from collections.abc import Sequence

from paperworks.errors import InputError
from paperworks.papers.hires_llava.grid import Box

POSITIONS = tuple(range(1, 10))
INSIDE, EDGES, CENTER = (1, 3, 7, 9), (2, 4, 6, 8), (5,)
NAMES = (
    "top left",
    "top center",
    "top right",
    "center left",
    "center",
    "center right",
    "bottom left",
    "bottom center",
    "bottom right",
)
"""What position ``i + 1`` is called."""


def center_of(position: int, slice_side: int) -> tuple[float, float]:
    """The x and y of a position, in pixels: S / 2, S and 3 S / 2 along each axis for slices of side S."""
    if position not in POSITIONS:
        raise InputError("position", position, "a number from 1 to 9")
    row, column = divmod(position - 1, 3)
    return slice_side * (column + 1) / 2, slice_side * (row + 1) / 2


def box_at(position: int, slice_side: int, height: int, width: int) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of an object of ``height`` x ``width`` pixels at a position, whole pixels."""
    x, y = center_of(position, slice_side)
    left, top = round(x - width / 2), round(y - height / 2)
    return left, top, left + width, top + height


def slices_touched(box: Sequence[float], slice_boxes: Sequence[Box]) -> int:
    """How many slices have a part of a box (left, top, right, bottom)."""
    left, top, right, bottom = box
    return sum(x0 < right and left < x1 and y0 < bottom and top < y1 for x0, y0, x1, y1 in slice_boxes)


def cuts_by_position(slice_side: int, entity_side: int, slice_boxes: Sequence[Box] | None = None) -> dict[int, int]:
    """For each position, how many slices an object of ``entity_side`` pixels lies in.

    ``slice_boxes`` are those of the model, in pixels of the canvas; by default the four slices of side ``slice_side``.
    """
    side = slice_side
    own = [(x * side, y * side, (x + 1) * side, (y + 1) * side) for y in (0, 1) for x in (0, 1)]
    boxes = own if slice_boxes is None else slice_boxes
    return {p: slices_touched(box_at(p, side, entity_side, entity_side), boxes) for p in POSITIONS}
