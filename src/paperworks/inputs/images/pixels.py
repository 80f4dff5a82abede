"""From an image file to an array of its own depth, and from there to a batch of one size, depth and channel count.

    stored mode           array
    1, L, P (grey)        uint8 [h, w]          (mode 1: 0 and 255)
    LA                    uint8 [h, w, 2]
    P, RGB, YCbCr, CMYK   uint8 [h, w, 3]       (palette and CMYK converted)
    RGBA, P with alpha    uint8 [h, w, 4]
    I;16                  uint16 [h, w]
    16-bit colour PNG     uint16 [h, w, 2 to 4]
    16-bit colour TIFF    uint8 [h, w, 3 or 4]  (Pillow reads the upper 8 bits)
    I                     int32 [h, w]
    F                     float32 [h, w]

An EXIF orientation is applied; of an animated file the first frame is read.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from paperworks.errors import InputError
from paperworks.inputs.images.png16 import is_deep_png, read_png16

if TYPE_CHECKING:
    from PIL import Image

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".pgm", ".ppm", ".pbm", ".gif")
"""Endings of the files that a folder is searched for, in lower case."""

Fit = Literal["stretch", "crop", "pad"]
ValueRange = tuple[float, float]


@dataclass(frozen=True)
class StoredImage:
    """A decoded image, and how it was stored.

    Attributes
    ----------
    pixels : see the module's table.
    format : Pillow's name of the file format ("PNG", "JPEG", ...), empty for a row of an array.
    mode : Pillow's name of the stored mode ("1", "L", "P", "CMYK", ...).
    frames : number of frames or pages; the pixels are those of the first.
    oriented : whether an EXIF orientation was applied.
    icc_profile : the colour profile, kept when written back.
    """

    pixels: np.ndarray
    format: str = ""
    mode: str = ""
    frames: int = 1
    oriented: bool = False
    icc_profile: bytes | None = None


_UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: np.rot90(pixels, 2).swapaxes(0, 1),
    8: lambda pixels: np.rot90(pixels, 1),
}
"""EXIF orientations but the plain one: from the stored picture to the one that is shown."""


def decode_image(source: Path | bytes) -> StoredImage:
    """Decode an image file, or the bytes of one.

    Raises OSError with the reason where the file is no image, is cut off, or is of a kind that is not read.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    data = source if isinstance(source, bytes) else None
    with open(source, "rb") if data is None else io.BytesIO(data) as file:  # type: ignore[arg-type]
        head = file.read(26)
        file.seek(0)
        try:
            with Image.open(file) as image:
                frames = int(getattr(image, "n_frames", 1))
                icc = image.info.get("icc_profile")
                image.seek(0)
                if is_deep_png(head):
                    turn = _UPRIGHT.get(image.getexif().get(0x0112, 1))
                    file.seek(0)
                    pixels = read_png16(file.read())
                    upright = pixels if turn is None else np.ascontiguousarray(turn(pixels))
                    return StoredImage(upright, "PNG", f"{image.mode};16", frames, turn is not None, icc)
                image.load()
                oriented = image.getexif().get(0x0112, 1) in _UPRIGHT
                shown = ImageOps.exif_transpose(image) if oriented else image
                return StoredImage(_to_array(shown), image.format or "", image.mode, frames, oriented, icc)
        except UnidentifiedImageError:
            raise OSError("not an image that Pillow can read") from None
        except (ValueError, SyntaxError, EOFError, Image.DecompressionBombError, IndexError, TypeError) as error:
            raise OSError(str(error) or type(error).__name__) from None


def _to_array(image: Image.Image) -> np.ndarray:
    mode = image.mode
    if mode in ("P", "PA"):
        image = image.convert("RGBA" if mode == "PA" or "transparency" in image.info else "RGB")
    elif mode == "1":
        image = image.convert("L")
    elif mode in ("CMYK", "YCbCr", "LAB", "HSV", "RGBX"):
        image = image.convert("RGB")
    elif mode in ("La", "RGBa"):
        image = image.convert(mode.upper())
    elif mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16)
    elif mode not in ("L", "LA", "RGB", "RGBA", "I", "F"):
        raise OSError(f"mode {mode} is not read")
    return np.array(image)


def as_batch(
    images: list[np.ndarray],
    *,
    size: tuple[int, int] | None = None,
    channels: Literal[1, 3] | None = None,
    dtype: Literal["uint8", "float32"] = "float32",
    fit: Fit = "stretch",
    background: float = 1.0,
    value_range: ValueRange | None = None,
) -> np.ndarray:
    """Images of any modes and sizes as one array ``[n, channels, height, width]``, float32 in [0, 1] or uint8.

    Parameters
    ----------
    images : arrays as in the module's table.
    size : (height, width). None: the images' own, which must be the same for all. Resized bilinearly, antialiased.
    channels : 1 turns colour into grey (ITU-R 601: 0.299 R + 0.587 G + 0.114 B), 3 repeats grey. None: 3 if any
        image has colour, else 1. Alpha is blended over ``background`` (1 is white, 0 black).
    fit : where the shapes differ: "stretch" to the size, "crop" the middle after resizing the shorter side, or "pad"
        with 0 after resizing the longer side.
    value_range : values that become 0 and 1. None: the depth's own (255, 65535; bool 0 and 1); float must then lie in
        [0, 1], and 32-bit integers are refused since they have no white of their own.

    Raises
    ------
    InputError : mixed sizes without ``size``, a value outside of its range, an option out of bounds.
    """
    if channels not in (None, 1, 3):
        raise InputError("channels", channels, "1 or 3")
    if fit not in ("stretch", "crop", "pad"):
        raise InputError("fit", repr(fit), "'stretch', 'crop' or 'pad'")
    if dtype not in ("uint8", "float32"):
        raise InputError("dtype", repr(dtype), "'uint8' or 'float32'")
    if size is not None and (len(size) != 2 or min(size) < 1):
        raise InputError("size", size, "(height, width), at least 1 pixel each")
    shapes = {image.shape[:2] for image in images}
    if size is None and len(shapes) > 1:
        some = ", ".join(f"{h} x {w}" for h, w in sorted(shapes)[:4])
        raise InputError("size", f"images of {len(shapes)} sizes ({some})", "size=(height, width), to resize to")
    if channels is None:
        channels = 3 if any(image.ndim == 3 and image.shape[2] >= 3 for image in images) else 1
    wanted = size or next(iter(shapes), (0, 0))
    out = np.empty((len(images), channels, *wanted), dtype=dtype)
    for row, image in enumerate(images):
        # bytes stay bytes as far as possible: exact, and a quarter of the memory
        exact = image.dtype == np.uint8 and value_range is None
        pixels = _to_channels(image if exact else _to_unit(image, value_range), channels, background)
        pixels = _resized(pixels, wanted, fit)
        if exact and dtype == "float32":
            pixels = pixels.astype(np.float32) / np.float32(255)
        elif not exact and dtype == "uint8":
            pixels = np.rint(pixels * 255)
        out[row] = pixels.transpose(2, 0, 1)
    return out


def _to_unit(image: np.ndarray, value_range: ValueRange | None) -> np.ndarray:
    low, high = value_range or _range_of(image.dtype)
    if not high > low:
        raise InputError("value_range", (low, high), "(low, high) with low < high")
    if image.size and (image.min() < low or image.max() > high or not np.isfinite(image).all()):
        found = f"values from {image.min()} to {image.max()}"
        raise InputError("value_range", found, f"values from {low:g} to {high:g}, or another value_range=(low, high)")
    return ((image.astype(np.float64) - low) / (high - low)).astype(np.float32)


def _range_of(dtype: np.dtype) -> ValueRange:
    if dtype.kind in "bf":
        return 0, 1
    if dtype in (np.uint8, np.uint16):
        return 0, float(np.iinfo(dtype).max)
    raise InputError(
        "value_range", f"images of type {dtype}", "value_range=(low, high): which values are black and white"
    )


def _to_channels(pixels: np.ndarray, channels: int, background: float) -> np.ndarray:
    """``[h, w, channels]`` of the same type, uint8 or float32 in [0, 1]."""
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    whole = 255 if pixels.dtype == np.uint8 else 1
    if pixels.shape[2] in (2, 4):
        alpha = pixels[:, :, -1:].astype(np.float32) / whole
        blended = pixels[:, :, :-1] * alpha + background * whole * (1 - alpha)
        pixels = _like(blended, pixels)
    if channels == 1 and pixels.shape[2] == 3:
        return _like(pixels @ np.array([0.299, 0.587, 0.114], dtype=np.float32), pixels)[:, :, None]
    return np.repeat(pixels, 3, axis=2) if channels == 3 and pixels.shape[2] == 1 else pixels


def _like(values: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    return np.rint(values).astype(np.uint8) if pixels.dtype == np.uint8 else values.astype(np.float32)


def _resized(pixels: np.ndarray, size: tuple[int, int], fit: Fit) -> np.ndarray:
    height, width = pixels.shape[:2]
    if (height, width) == size:
        return pixels
    scale = (size[0] / height, size[1] / width)
    if fit == "stretch":
        return _resize(pixels, size)
    factor = max(scale) if fit == "crop" else min(scale)
    rounded = [max(1, round(height * factor)), max(1, round(width * factor))]
    bound: Any = max if fit == "crop" else min  # rounding must not make it smaller or larger than the frame
    scaled = _resize(pixels, (bound(rounded[0], size[0]), bound(rounded[1], size[1])))
    top, left = abs(scaled.shape[0] - size[0]) // 2, abs(scaled.shape[1] - size[1]) // 2
    if fit == "crop":
        return scaled[top : top + size[0], left : left + size[1]]
    framed = np.zeros((*size, pixels.shape[2]), dtype=pixels.dtype)
    framed[top : top + scaled.shape[0], left : left + scaled.shape[1]] = scaled
    return framed


def _resize(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    from PIL import Image

    shape = (size[1], size[0])  # Pillow's order
    planes = [
        np.asarray(Image.fromarray(np.ascontiguousarray(pixels[:, :, c])).resize(shape, Image.Resampling.BILINEAR))
        for c in range(pixels.shape[2])
    ]
    return np.stack(planes, axis=2)
