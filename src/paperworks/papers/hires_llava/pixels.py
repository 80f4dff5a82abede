"""Images of any kind as uint8 RGB, with a note on what was converted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from paperworks.errors import InputError
from paperworks.inputs.images import ImageDataset, as_batch, decode_image


def as_rgb(item: Any, number: int = 0) -> tuple[np.ndarray, str]:
    """An image as uint8 ``[h, w, 3]``, and what was converted in words (empty for 8-bit RGB).

    Parameters
    ----------
    item : a PIL image, turned as its EXIF orientation says; an array ``[h, w]``, ``[h, w, 1 to 4]`` of uint8, uint16,
        or float in [0, 1]; or a path.
    number : position in its list, for messages.

    Raises
    ------
    InputError : naming ``images``, for anything else, a file that cannot be read, or an image without a pixel.
    """
    field = f"images, number {number}"
    pixels, animated = _array(item, field)
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (1, 2, 3, 4)) or not pixels.size:
        raise InputError(field, f"an array {pixels.shape}", "[h, w] or [h, w, 1 to 4], with at least one pixel")
    if pixels.dtype.kind not in "uf" or pixels.dtype not in (np.uint8, np.uint16, np.float16, np.float32, np.float64):
        raise InputError(field, f"values of type {pixels.dtype}", "uint8, uint16, or float in [0, 1]")
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    said = []
    if pixels.dtype != np.uint8:
        said.append("16 bits" if pixels.dtype == np.uint16 else "floats")
    said += {1: ["grey"], 2: ["grey with alpha"], 3: [], 4: ["alpha"]}[channels]
    if animated:
        said.append("several frames, of which the first is read")
    try:
        batch = as_batch([pixels], channels=3, dtype="uint8")
    except InputError as error:  # the reader's own advice names an option of its
        expected = "floats in [0, 1]" if pixels.dtype.kind == "f" else error.expected
        raise InputError(field, error.found, expected) from None
    return np.ascontiguousarray(batch[0].transpose(1, 2, 0)), ", ".join(said)


def all_rgb(items: Sequence[Any], patch: int = 1) -> tuple[list[np.ndarray], list[str]]:
    """All images as uint8 ``[h, w, 3]``, and notes on what was converted, each with how many images it is about.

    Raises InputError for an empty list, and for an image with a side shorter than ``patch`` pixels.
    """
    if len(items) == 0:
        raise InputError("images", "none", "at least one image")
    images, counts = list[np.ndarray](), dict[str, int]()
    for number, item in enumerate(items):
        pixels, said = as_rgb(item, number)
        if min(pixels.shape[:2]) < patch:
            size = f"{pixels.shape[0]} x {pixels.shape[1]} pixels"
            raise InputError(f"images, number {number}", size, f"at least one patch of {patch} x {patch} pixels")
        images.append(pixels)
        if said:
            counts[said] = counts.get(said, 0) + 1
    notes = [f"{count:,} image{'s' * (count != 1)} converted to 8-bit RGB ({said})" for said, count in counts.items()]
    return images, notes


def stored_rgb(dataset: ImageDataset, row: int) -> np.ndarray:
    """Image ``row`` of a set at its own size, uint8 ``[h, w, 3]``."""
    height, width = dataset[row].shape[:2]
    batch = dataset.array([row], size=(int(height), int(width)), channels=3, dtype="uint8")
    return np.ascontiguousarray(batch[0].transpose(1, 2, 0))


def _array(item: Any, field: str) -> tuple[np.ndarray, bool]:
    from PIL import Image

    if isinstance(item, (str, Path)):
        try:
            stored = decode_image(Path(item))
        except OSError as error:
            raise InputError(field, f"{item} ({error})", "a readable image file") from None
        return stored.pixels, stored.frames > 1
    if isinstance(item, Image.Image):
        try:
            return _of_pillow(item), getattr(item, "n_frames", 1) > 1
        except OSError as error:
            raise InputError(field, f"an image that cannot be decoded ({error})", "a readable image") from None
    if isinstance(item, np.ndarray):
        return item, False
    raise InputError(field, type(item).__name__, "a PIL image, an array of pixels or a path")


def _of_pillow(given: Any) -> np.ndarray:
    from PIL import ImageOps

    image = ImageOps.exif_transpose(given)  # as files are read: a photograph the way up that it was taken
    if image.mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16)
    if image.mode in ("L", "LA", "RGB", "RGBA", "F"):
        return np.asarray(image)
    if image.mode == "I":
        values = np.asarray(image)
        fits = values.size and values.min() >= 0 and values.max() <= np.iinfo(np.uint16).max
        return values.astype(np.uint16) if fits else values
    transparent = "transparency" in image.info or image.mode in ("PA", "RGBa")
    return np.asarray(image.convert("RGBA" if transparent else "L" if image.mode == "1" else "RGB"))
