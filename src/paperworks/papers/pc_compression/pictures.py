"""Image files: pixels that the model codes, and files that are kept as they are; with their metadata."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from paperworks.errors import InputError
from paperworks.inputs.images import IMAGE_SUFFIXES, decode_image


class Picture(NamedTuple):
    """An image file.

    ``pixels`` is uint8 [h, w] or [h, w, 3]; or the bytes of the file, uint8 [bytes], for an image of another kind (with
    transparency, a palette, 16 bits), which is kept as it is. ``about`` is its metadata, JSON-ready.
    """

    name: str
    pixels: np.ndarray
    about: dict[str, Any]

    @property
    def kept(self) -> bool:
        """Whether the file is kept as it is."""
        return self.pixels.ndim == 1


def read_folder(folder: Path) -> list[Picture]:
    """All images below a folder, by name."""
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
    if not files:
        raise InputError("input", f"{folder}, without images", f"files ending in {', '.join(IMAGE_SUFFIXES)}")
    found = [read_picture(file, file.relative_to(folder).as_posix()) for file in files]
    names = [Path(p.name).with_suffix("").as_posix() for p in found if not p.kept]
    if len(set(names)) < len(names):
        raise InputError("input", "two images whose names differ in their ending only", "different names")
    return found


def read_picture(path: Path, name: str) -> Picture:
    """One image file."""
    try:
        stored = decode_image(path)
    except OSError as error:
        raise InputError(name, f"a file that is no image ({error})", "an image") from None
    pixels = stored.pixels
    if stored.mode not in ("L", "RGB") or pixels.dtype != np.uint8 or pixels.shape[2:] not in ((), (3,)):
        return Picture(name, np.frombuffer(path.read_bytes(), np.uint8), {"mode": stored.mode})
    return Picture(name, pixels, _metadata(path))


def _metadata(path: Path) -> dict[str, Any]:
    """What an image file says besides its pixels, as far as PNG can say it."""
    from PIL import Image

    with Image.open(path) as image:
        image.load()
        about: dict[str, Any] = {}
        for name in ("icc_profile", "exif"):
            if isinstance(image.info.get(name), bytes):
                about[name] = base64.b64encode(image.info[name]).decode()
        if "dpi" in image.info:
            about["dpi"] = [float(v) for v in image.info["dpi"]]
        text = {k: str(v) for k, v in getattr(image, "text", {}).items()}
        return about | ({"text": text} if text else {})


def write_pictures(pictures: Sequence[Picture], target: Path) -> None:
    """Pixels as PNG files with their metadata; kept files as they were."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    for picture in pictures:
        place = target / picture.name
        place.parent.mkdir(parents=True, exist_ok=True)
        if picture.kept:
            place.write_bytes(picture.pixels.tobytes())
            continue
        info = PngInfo()
        for key, value in picture.about.get("text", {}).items():
            info.add_text(key, value)
        options: dict[str, Any] = {
            name: base64.b64decode(picture.about[name]) for name in ("icc_profile", "exif") if name in picture.about
        }
        if "dpi" in picture.about:
            options["dpi"] = tuple(picture.about["dpi"])
        image = Image.fromarray(picture.pixels)
        image.save(place.with_suffix(".png"), optimize=True, pnginfo=info, **options)


def same_pictures(a: Sequence[Picture], b: Sequence[Picture]) -> bool:
    """Whether names, pixels or bytes, and metadata are equal."""
    return len(a) == len(b) and all(
        x.name == y.name and np.array_equal(x.pixels, y.pixels) and (x.kept or x.about == y.about)
        for x, y in zip(a, b, strict=True)
    )


def notes(pictures: Sequence[Picture]) -> list[str]:
    """What does not come back as it was, or was not modelled."""
    found = []
    kept = Counter(p.about["mode"] for p in pictures if p.kept)
    if kept:
        kinds = ", ".join(f"{count} of mode {mode}" for mode, count in kept.items())
        found.append(f"Kept as their files, not modelled: {kinds} (the model takes 8-bit grey and RGB).")
    others = Counter(Path(p.name).suffix.lower() for p in pictures if not p.kept)
    others.pop(".png", None)
    if others:
        kinds = ", ".join(f"{count} {suffix}" for suffix, count in others.items())
        found.append(
            f"{kinds}: their pixels come back as PNG, with colour profile, EXIF, resolution and texts; not the files."
        )
    return found


def encoded_sizes(pictures: Sequence[Picture]) -> dict[str, int]:
    """Bytes of the modelled images as PNG and lossless WebP files, at their strongest settings."""
    from PIL import Image

    sizes = {"PNG, a file each": 0, "WebP, a file each": 0}
    for picture in pictures:
        if picture.kept:
            sizes = {name: size + len(picture.pixels) for name, size in sizes.items()}
            continue
        image = Image.fromarray(picture.pixels)
        png, webp = io.BytesIO(), io.BytesIO()
        image.save(png, "PNG", optimize=True, compress_level=9)
        image.save(webp, "WEBP", lossless=True, quality=100, method=4, exact=True)
        sizes["PNG, a file each"] += png.tell()
        sizes["WebP, a file each"] += webp.tell()
    return sizes
