"""Writing images without loss, in the form they were read in."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np

from paperworks.errors import InputError
from paperworks.inputs.images.dataset import ImageDataset
from paperworks.inputs.images.pixels import StoredImage, decode_image
from paperworks.inputs.images.png16 import write_png16
from paperworks.inputs.images.storage import ArrayStorage, ColumnStorage, FileStorage
from paperworks.runs import Progress, no_progress
from paperworks.runs.files import new_folder

Format = Literal["keep", "png", "tiff"]
_OPTIONS: dict[str, dict[str, object]] = {
    "PNG": {"optimize": True},
    "TIFF": {"compression": "tiff_deflate"},
    "WEBP": {"lossless": True, "exact": True, "quality": 100},
    "BMP": {},
    "PPM": {},
}
"""Formats that can be lossless -> how to save them so."""
_SUFFIXES = {
    "PNG": (".png",),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
    "BMP": (".bmp",),
    "PPM": (".ppm", ".pgm", ".pbm"),
}


@dataclass(frozen=True)
class WrittenImages:
    """What ``write_images`` wrote.

    Attributes
    ----------
    folder : where it is.
    files : names in it, in the order of the images; of arrays and tables the files that hold them.
    notes : where the form differs from the one that was read, and why.
    """

    folder: Path
    files: tuple[str, ...]
    notes: tuple[str, ...]


def write_images(
    dataset: ImageDataset,
    folder: Path,
    images: Sequence[np.ndarray] | np.ndarray | Callable[[int], np.ndarray] | None = None,
    *,
    format: Format = "keep",
    progress: Progress = no_progress,
) -> WrittenImages:
    """Write a set, or changed images in the places of a set's, so that reading gives the very same pixels.

    Files keep their paths, modes, depths and colour profiles; what was read from JPEG or another lossy format is
    written as PNG, and ``notes`` says so. A table of labels is written with the new names. NumPy and IDX files keep
    names, keys, types and labels; Parquet and ``datasets`` become one Parquet file with the images as PNG. Every image
    is read back and compared before the folder appears.

    Parameters
    ----------
    dataset : the images, or a subset of those that were read.
    folder : a new or an empty folder.
    images : changed images, aligned with the dataset, or a function of the position; None writes them as they are.
        They have the types of the originals; the shape of an image may change, except in an array.
    format : files only: "keep", "png" or "tiff" for all.

    Raises
    ------
    InputError : a folder with content, a lossy format, a type or shape that does not fit, another number of images.
    """
    if format not in ("keep", "png", "tiff"):
        raise InputError("format", repr(format), "'keep', 'png' or 'tiff': JPEG and the like change pixel values")
    if images is not None and not callable(images) and len(images) != len(dataset):
        raise InputError("images", f"{len(images)} images", f"{len(dataset)}, as many as the set has")

    def pixels(index: int, original: np.ndarray) -> np.ndarray:
        if images is None:
            return original
        new = np.asarray(images(index) if callable(images) else images[index])
        if new.dtype != original.dtype:
            raise InputError(dataset.image_name(index), f"values of type {new.dtype}", f"{original.dtype}, as was read")
        return new

    storage = dataset.storage
    with new_folder(folder, "folder") as aside:
        if isinstance(storage, ArrayStorage):
            files, notes = _write_array(dataset, storage, pixels, aside)
        elif isinstance(storage, ColumnStorage):
            rows = progress(range(len(dataset)), "writing images", len(dataset))
            encoded = [encode_image(pixels(i, dataset[i]), "PNG")[0] for i in rows]
            files = storage.written_as(aside, encoded, dataset.rows)
            notes = [] if storage.form == "Parquet" else ["a folder of datasets is written as Parquet"]
            notes.append("images in the column are PNG")
        else:
            files, notes = _write_files(dataset, pixels, aside, format, progress)
    return WrittenImages(folder, tuple(files), tuple(notes))


def encode_image(pixels: np.ndarray, format: str, like: StoredImage | None = None) -> tuple[bytes, str]:
    """Encode without loss in the wanted format, or in PNG, or in TIFF: the first that gives the same pixels back.

    Returns the bytes and Pillow's name of the format. Raises InputError for pixels that no format here can hold.
    """
    for name in dict.fromkeys([format if format in _OPTIONS else "PNG", "PNG", "TIFF"]):
        try:
            data = _encode(pixels, name, like)
            back = decode_image(data).pixels
        except (OSError, KeyError, ValueError, TypeError):
            continue
        if back.dtype == pixels.dtype and np.array_equal(back, pixels):
            return data, name
    expected = "uint8 [h, w(, 2 to 4)], uint16 [h, w(, 2 to 4)], int32 or float32 [h, w]"
    raise InputError("pixels", f"type {pixels.dtype} and shape {pixels.shape}", expected)


def _encode(pixels: np.ndarray, format: str, like: StoredImage | None) -> bytes:
    from PIL import Image

    icc = like.icc_profile if like else None
    if pixels.dtype == np.uint16 and pixels.ndim == 3:
        if format != "PNG":
            raise OSError("Pillow writes 16 bits per channel for grey only")
        return write_png16(pixels, icc)
    image = Image.fromarray(np.ascontiguousarray(pixels))
    if like is not None and like.mode == "1" and np.isin(pixels, (0, 255)).all():
        image = image.convert("1", dither=Image.Dither.NONE)
    out = io.BytesIO()
    image.save(out, format=format, **({"icc_profile": icc} if icc else {}), **_OPTIONS[format])  # type: ignore[arg-type]
    return out.getvalue()


def _write_array(
    dataset: ImageDataset, storage: ArrayStorage, pixels: Callable[[int, np.ndarray], np.ndarray], folder: Path
) -> tuple[list[str], list[str]]:
    changed = np.stack([pixels(i, dataset[i]) for i in range(len(dataset))])
    if changed.shape[1:] != storage.array.shape[1:]:
        raise InputError("images", f"shape {changed.shape[1:]}", f"{storage.array.shape[1:]}, as was read")
    if storage.written_as is not None:
        return storage.written_as(folder, changed, dataset.rows), []
    content = {"images": changed, "ids": np.array(dataset.ids)}
    if dataset.labels is not None:
        content |= {"labels": dataset.labels, "class_names": np.array(dataset.class_names)}
    np.savez_compressed(folder / "images.npz", **content)  # type: ignore[arg-type]
    return ["images.npz"], ["an array without a file is written as images.npz"]


def _write_files(
    dataset: ImageDataset,
    pixels: Callable[[int, np.ndarray], np.ndarray],
    folder: Path,
    format: Format,
    progress: Progress,
) -> tuple[list[str], list[str]]:
    files: list[str] = []
    used = {dataset.image_name(i) for i in range(len(dataset))}
    converted: dict[tuple[str, str], list[str]] = {}
    for i in progress(range(len(dataset)), "writing images", len(dataset)):
        stored = dataset.stored(i)
        wanted = stored.format if format == "keep" else format.upper()
        data, got = encode_image(pixels(i, stored.pixels), wanted, stored)
        old = PurePosixPath(dataset.image_name(i))
        name = old.as_posix()
        if got != stored.format:
            converted.setdefault((stored.format, got), []).append(name)
        if old.suffix.lower() not in _SUFFIXES[got]:
            name = old.with_suffix(_SUFFIXES[got][0]).as_posix()
            if name in used:
                name = f"{old.as_posix()}{_SUFFIXES[got][0]}"
        used.add(name)
        place = folder / name
        if not place.resolve().is_relative_to(folder.resolve()):
            raise InputError("images", f"{name}, outside of its folder", "paths within the folder of the table")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
        files.append(name)
    notes = [
        f"{len(names)} {was} file{'s' * (len(names) != 1)} written as {now}"
        + ("" if was in _OPTIONS else f", since {was} as it is stored cannot keep new pixel values")
        + f": {', '.join(names[:3])}{' ...' if len(names) > 3 else ''}"
        for (was, now), names in converted.items()
    ]
    if isinstance(dataset.storage, FileStorage) and dataset.storage.table is not None:
        table = dataset.storage.table
        cells = table["cells"].iloc[dataset.rows].copy()
        cells[table["column"]] = files
        cells.to_csv(folder / table["name"], sep=table["delimiter"], index=False)
    return files, notes
