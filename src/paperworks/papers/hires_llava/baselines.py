"""What a sliced encoder is compared with: windows that overlap."""

from __future__ import annotations

import numpy as np

from paperworks.errors import InputError
from paperworks.parameters import check_whole


def overlapping_windows(canvas: np.ndarray, side: int, overlap: int) -> np.ndarray:
    """Square windows of a canvas uint8 ``[h, w, c]`` that overlap by ``overlap`` pixels: ``[k, side, side, c]``.

    The last window of a row and of a column ends with the canvas. An object of at most ``overlap`` pixels lies whole in
    one of them; a larger one may still be cut by all.

    Raises InputError for an overlap of a whole window, or a canvas smaller than a window.
    """
    check_whole("side", side, 1)
    check_whole("overlap", overlap, 0, side - 1)
    if min(canvas.shape[:2]) < side:
        raise InputError("canvas", canvas.shape[:2], f"at least {side} x {side} pixels")
    tops, lefts = (_starts(extent, side, side - overlap) for extent in canvas.shape[:2])
    return np.stack([canvas[y : y + side, x : x + side] for y in tops for x in lefts])


def _starts(extent: int, side: int, step: int) -> list[int]:
    return sorted({min(start, extent - side) for start in range(0, extent - side + step, step)})
