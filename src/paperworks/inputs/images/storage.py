"""Where the pixels of an image set are: files, an array, or the image column of a table."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from paperworks.inputs.images.pixels import StoredImage, decode_image


class ImageStorage(Protocol):
    """Rows of images. Errors of reading are OSErrors with the reason."""

    form: str

    def __len__(self) -> int:
        """Number of rows, broken ones included."""
        ...

    def stored(self, row: int) -> StoredImage:
        """The decoded image of a row."""
        ...

    def name(self, row: int) -> str:
        """What to call it in messages, and the path to write it to."""
        ...

    def ids(self) -> Sequence[str]:
        """Stable ids of all rows."""
        ...


class FileStorage:
    """Image files under a folder; the ids are their paths within it."""

    def __init__(self, root: Path, names: list[str], *, form: str = "folder of images", table: Any = None) -> None:
        self.root, self.names, self.form = root, names, form
        self.table = table
        """CSV only: (path, file column, delimiter) of the table that names the files, and its cells as text."""

    def __len__(self) -> int:
        return len(self.names)

    def stored(self, row: int) -> StoredImage:
        """The decoded file."""
        return decode_image(self.root / self.names[row])

    def name(self, row: int) -> str:
        """The path within the folder."""
        return self.names[row]

    def ids(self) -> Sequence[str]:
        """The paths; a table may name a file more than once."""
        return numbered(self.names)


class ArrayStorage:
    """An array ``[n, h, w]`` or ``[n, h, w, c]``, in memory or mapped; the ids are hashes of the content."""

    def __init__(
        self,
        array: np.ndarray,
        *,
        form: str = "array",
        names: list[str] | None = None,
        known_ids: list[str] | None = None,
        written_as: Any = None,
    ) -> None:
        self.array, self.form, self.names = array, form, names
        self._ids = known_ids
        self.written_as = written_as
        """How ``write_images`` writes it back: a function of (folder, array, rows) that returns the files' names."""

    def __len__(self) -> int:
        return len(self.array)

    def stored(self, row: int) -> StoredImage:
        """A copy of the row."""
        pixels = np.array(self.array[row])
        return StoredImage(pixels, mode=mode_of(pixels))

    def name(self, row: int) -> str:
        """The name of the file it was decoded from, or its row."""
        return self.names[row] if self.names else f"row {row}"

    def ids(self) -> Sequence[str]:
        """16 hexadecimal digits of the SHA-256 of type, shape and values."""
        if self._ids is None:
            head = f"{self.array.dtype.str}{self.array.shape[1:]}".encode()
            self._ids = numbered([_digest(head + np.ascontiguousarray(image).tobytes()) for image in self.array])
        return self._ids


class ColumnStorage:
    """The image column of Parquet or Arrow files, read one row group at a time.

    Parameters
    ----------
    parts : the tables, each with ``__len__`` and ``cell(row)``: a value of the column, bytes or ``{bytes, path}``.
    folder : where paths in the column start.
    keys : values of an id column; None: a hash of the encoded bytes.
    """

    def __init__(
        self, parts: list[Any], folder: Path, *, form: str, keys: list[str] | None = None, written_as: Any = None
    ) -> None:
        self.parts, self.folder, self.form = parts, folder, form
        self.starts = np.cumsum([0, *(len(part) for part in parts)]).tolist()
        self.written_as = written_as
        self._ids: list[str] | None = None if keys is None else numbered(keys)

    def __len__(self) -> int:
        return self.starts[-1]

    def encoded(self, row: int) -> bytes:
        """The bytes of the image file. Raises OSError for a row without an image, or a file that is not there."""
        part = bisect_right(self.starts, row) - 1
        cell = self.parts[part].cell(row - self.starts[part])
        if isinstance(cell, dict):
            data, path = cell.get("bytes"), cell.get("path")
            if data is None and path:
                return (self.folder / path).read_bytes()
            cell = data
        if not cell:
            raise OSError("no image in this row")
        return bytes(cell)

    def stored(self, row: int) -> StoredImage:
        """The decoded image."""
        return decode_image(self.encoded(row))

    def name(self, row: int) -> str:
        """The row."""
        return f"row {row}"

    def ids(self) -> Sequence[str]:
        """Values of the id column, or 16 hexadecimal digits of the SHA-256 of the encoded image."""
        if self._ids is None:
            self._ids = numbered([self._digest(row) for row in range(len(self))])
        return self._ids

    def _digest(self, row: int) -> str:
        try:
            return _digest(self.encoded(row))
        except OSError:
            return f"row-{row}"


def mode_of(pixels: np.ndarray) -> str:
    """Pillow's name of the mode that holds such pixels; the type where there is none."""
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    if pixels.dtype == np.uint8:
        return {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[channels]
    if channels == 1:
        named = {"uint16": "I;16", "int32": "I", "float32": "F", "bool": "1"}
        return named.get(str(pixels.dtype), str(pixels.dtype))
    return {2: "LA;16", 3: "RGB;16", 4: "RGBA;16"}[channels] if pixels.dtype == np.uint16 else str(pixels.dtype)


def numbered(keys: Sequence[str]) -> list[str]:
    """The keys, with ``-2``, ``-3``, ... added where one occurs again."""
    if len(set(keys)) == len(keys):
        return list(keys)
    seen: Counter[str] = Counter()
    taken = set(keys)
    found = []
    for key in keys:
        seen[key] += 1
        name = key
        while seen[key] > 1 and (name := f"{key}-{seen[key]}") in taken:
            seen[key] += 1
        taken.add(name)
        found.append(name)
    return found


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
