"""Arrays of images: NumPy files, IDX files, arrays in memory."""

from __future__ import annotations

import zipfile
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from paperworks.errors import InputError, nearest
from paperworks.inputs.images.found import SPLIT_NAMES, Found
from paperworks.inputs.images.idx import read_idx, write_idx
from paperworks.inputs.images.storage import ArrayStorage

Layout = Literal["channels_last", "channels_first"]
IMAGE_KEYS = ("images", "image", "x", "data", "pixels", "arr_0")
LABEL_KEYS = ("labels", "label", "y", "targets", "target")


def as_images(array: np.ndarray, layout: Layout | None = None, field: str = "images") -> np.ndarray:
    """An array as ``[n, h, w]`` or ``[n, h, w, 2 to 4]``.

    Raises InputError for another number of axes, no images, another type than numbers, or channels that may be first
    or last.
    """
    if array.dtype.kind not in "buif" or array.dtype.itemsize > 8:
        raise InputError(field, f"values of type {array.dtype}", "numbers")
    if layout not in (None, "channels_last", "channels_first"):
        raise InputError("layout", repr(layout), "'channels_last' or 'channels_first'")
    if array.ndim not in (3, 4) or 0 in array.shape:
        expected = "images [n, h, w], [n, h, w, c] or [n, c, h, w]"
        side = round(array.shape[1] ** 0.5) if array.ndim == 2 else 0
        if side and side * side == array.shape[1]:
            expected += f"; for rows of pixels use reshape(-1, {side}, {side})"
        raise InputError(field, f"an array of shape {array.shape}", expected)
    if array.ndim == 3:
        return array
    first, last = array.shape[1] in (1, 3, 4), array.shape[3] in (1, 2, 3, 4)
    if layout is None:
        if first == last:
            raise InputError("layout", f"an array of shape {array.shape}", "layout='channels_last' or 'channels_first'")
        layout = "channels_last" if last else "channels_first"
    images = array if layout == "channels_last" else array.transpose(0, 2, 3, 1)
    if images.shape[3] not in (1, 2, 3, 4):
        raise InputError(field, f"{images.shape[3]} channels", "1 to 4")
    return images[..., 0] if images.shape[3] == 1 else images


def read_npy(file: Path, layout: Layout | None) -> Found:
    """A ``.npy`` file, mapped: only the rows that are asked for are read."""
    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise InputError("images", f"{file} ({error})", "a .npy file of numbers") from None
    images = as_images(array, layout)

    return Found(
        ArrayStorage(images, form="NumPy array", written_as=partial(_write_npy, file.name, layout, array.shape))
    )


def read_npz(file: Path, layout: Layout | None, image_key: str | None, label_key: str | None) -> Found:
    """An ``.npz`` file with images and labels, or with ``x_train``, ``y_train``, ``x_test``, ``y_test``."""
    try:
        with np.load(file, allow_pickle=False) as archive:
            content = {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise InputError("images", f"{file} ({error})", "an .npz file of numbers") from None
    keys = _keys(content, image_key, label_key)
    shapes = {content[image].shape[1:] for _, image, _ in keys}
    if len(shapes) > 1:
        raise InputError("images", f"{file.name} with images of {sorted(shapes)}", "one shape in all splits")
    arrays = [as_images(content[image], layout, f"{file.name}[{image}]") for _, image, _ in keys]
    counts = [len(a) for a in arrays]
    labels = None
    if keys[0][2] is not None:
        labels = np.concatenate([content[str(label)].reshape(-1) for _, _, label in keys])
        for (_, image, label), n in zip(keys, counts, strict=True):
            if content[str(label)].size != n:
                raise InputError(f"{file.name}[{label}]", f"{content[str(label)].size} labels", f"{n}, as {image} has")
    splits = np.repeat([s for s, _, _ in keys], counts) if len(keys) > 1 else None

    written_as = partial(_write_npz, file.name, layout, content, keys, counts)
    pixels = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
    return Found(ArrayStorage(pixels, form="NumPy archive", written_as=written_as), labels, splits=splits)


def read_idx_files(files: list[Path], labels: Path | None) -> Found:
    """IDX files of images, each with the file of labels that has ``labels-idx1`` in place of ``images-idx3``."""
    parts: list[tuple[Path, Path | None]] = []
    for file in files:
        beside = [file.with_name(file.name.replace("images", "labels").replace("idx3", "idx1"))]
        beside += [beside[0].with_name(beside[0].name.removesuffix(".gz")), beside[0].with_name(beside[0].name + ".gz")]
        parts.append((file, labels or next((b for b in beside if b != file and b.is_file()), None)))
    arrays = [as_images(read_idx(file), field=str(file)) for file, _ in parts]
    if len({a.shape[1:] for a in arrays}) > 1:
        raise InputError("images", f"shapes {sorted({a.shape[1:] for a in arrays})}", "IDX files of images of one size")
    found = [None if of is None else read_idx(of) for _, of in parts]
    for (file, of), array, values in zip(parts, arrays, found, strict=True):
        if values is not None and values.shape != (len(array),):
            raise InputError(str(of), f"labels of shape {values.shape}", f"({len(array)},), as {file.name} has images")
    counts = [len(a) for a in arrays]
    splits = None
    if len(parts) > 1:
        splits = np.repeat([_split_of(file.name) or file.name for file, _ in parts], counts)
    whole = None if any(v is None for v in found) else np.concatenate([v for v in found if v is not None])

    return Found(
        ArrayStorage(np.concatenate(arrays), form="IDX", written_as=partial(_write_idx_files, parts, found)),
        whole,
        splits=splits,
    )


def _keys(content: dict[str, Any], image_key: str | None, label_key: str | None) -> list[tuple[str, str, str | None]]:
    """(split, key of the images, key of the labels) of every part of an archive."""
    for option, key in (("image_key", image_key), ("label_key", label_key)):
        if key is not None and key not in content:
            raise InputError(option, repr(key), f"one of {', '.join(content)}{nearest(key, content)}")
    lower = {name.lower(): name for name in content}
    if image_key is None:
        parts = [
            (SPLIT_NAMES[part], lower[f"{x}_{part}"], lower.get(f"{y}_{part}"))
            for part in SPLIT_NAMES
            for x, y in (("x", "y"), ("images", "labels"))
            if f"{x}_{part}" in lower
        ]
        parts += [
            (SPLIT_NAMES[part], lower[f"{part}_images"], lower.get(f"{part}_labels"))
            for part in SPLIT_NAMES
            if f"{part}_images" in lower
        ]
        if parts and len({label is None for _, _, label in parts}) == 1:
            return parts
        image_key = next((lower[key] for key in IMAGE_KEYS if key in lower), None)
        if image_key is None:
            candidates = [name for name, value in content.items() if value.ndim in (3, 4)]
            if len(candidates) != 1:
                raise InputError("image_key", "nothing", f"the name of the images: {', '.join(content)}")
            image_key = candidates[0]
    if label_key is None:
        label_key = next((lower[key] for key in LABEL_KEYS if key in lower and lower[key] != image_key), None)
    return [("", image_key, label_key)]


def _split_of(name: str) -> str:
    low = name.lower().replace("t10k", "test")
    return next((split for word, split in SPLIT_NAMES.items() if word in low), "")


def _as_before(images: np.ndarray, layout: Layout | None, shape: tuple[int, ...]) -> np.ndarray:
    """Undo ``as_images``: the axes that the array had."""
    if len(shape) == 3:
        return images
    if images.ndim == 3:
        images = images[..., None]
    last = layout == "channels_last" or (layout is None and shape[3] in (1, 2, 3, 4))
    return images if last else images.transpose(0, 3, 1, 2)


def _write_npy(
    name: str, layout: Layout | None, shape: tuple[int, ...], folder: Path, changed: np.ndarray, rows: np.ndarray
) -> list[str]:
    np.save(folder / name, _as_before(changed, layout, shape))
    return [name]


def _write_npz(
    file: str,
    layout: Layout | None,
    content: dict[str, np.ndarray],
    keys: list[tuple[str, str, str | None]],
    counts: list[int],
    folder: Path,
    changed: np.ndarray,
    rows: np.ndarray,
) -> list[str]:
    out, start = dict(content), 0
    for (_, image, _), n in zip(keys, counts, strict=True):
        here = (rows >= start) & (rows < start + n)
        out[image] = _as_before(changed[here], layout, content[image].shape)
        for name, value in content.items():  # labels, and whatever else has a value per image of this split
            if name != image and value.shape[:1] == (n,) and (len(keys) == 1 or _split_of(name) == _split_of(image)):
                out[name] = value[rows[here] - start]
        start += n
    np.savez_compressed(folder / file, allow_pickle=False, **out)
    return [file]


def _write_idx_files(
    parts: list[tuple[Path, Path | None]],
    labels: list[np.ndarray | None],
    folder: Path,
    changed: np.ndarray,
    rows: np.ndarray,
) -> list[str]:
    names, start = [], 0
    for (file, of), values in zip(parts, labels, strict=True):
        n = len(read_idx(file)) if values is None else len(values)
        here = (rows >= start) & (rows < start + n)
        write_idx(folder / file.name, changed[here])
        names.append(file.name)
        if of is not None and values is not None:
            write_idx(folder / of.name, values[rows[here] - start])
            names.append(of.name)
        start += n
    return names
