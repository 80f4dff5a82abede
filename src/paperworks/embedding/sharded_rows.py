"""Vectors in several ``.npy`` files as rows of one array."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from paperworks.errors import InputError

MANIFEST = "shards.json"
"""In a folder of ``encode_shards``: the names of its files."""


class ShardedRows:
    """The rows of the ``.npy`` files of a folder, one file after the other, memory-mapped.

    It is read by slices and by arrays of positions, as a memory map is.

    Parameters
    ----------
    source : a folder of ``encode_shards``, or of ``.npy`` files [n_i, d], taken in the order of their names; or the
        files themselves. Files without rows are passed over.

    Raises
    ------
    InputError : no file, one that is missing or cannot be read, or files of different widths.
    """

    def __init__(self, source: str | Path | Sequence[str | Path], field: str = "X") -> None:
        self.files = _files(source, field)
        self._parts: list[np.ndarray] = []
        for path in self.files:
            part = map_file(path, field)
            if len(part):
                self._parts.append(part)
        widths = sorted({part.shape[1] for part in self._parts})
        if len(widths) != 1:
            found = f"vectors of {' and '.join(map(str, widths))} numbers" if widths else "no row"
            raise InputError(field, f"{found} in {Path(self.files[0]).parent}", "vectors of one length")
        self._starts = np.cumsum([0, *(len(part) for part in self._parts)])
        self.shape = (int(self._starts[-1]), widths[0])
        self.dtype = np.result_type(*(part.dtype for part in self._parts))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, which: Any) -> np.ndarray:
        """Rows of a slice, of positions, or of a bool mask; one row for a number."""
        if isinstance(which, slice):
            start, stop, step = which.indices(len(self))
            if step != 1:
                return self[np.arange(start, stop, step)]
            first = int(np.searchsorted(self._starts, start, side="right")) - 1
            found = []
            for number in range(first, len(self._parts)):
                low = self._starts[number]
                if low >= stop:
                    break
                found.append(self._parts[number][max(start - low, 0) : stop - low])
            return np.concatenate(found) if found else np.empty((0, self.shape[1]), self.dtype)
        positions = np.asarray(which)
        if positions.dtype == bool:
            positions = np.flatnonzero(positions)
        if positions.ndim == 0:
            return self[positions[None]][0]
        positions = np.where(positions < 0, positions + len(self), positions).astype(np.int64)
        if len(positions) and (positions.min() < 0 or positions.max() >= len(self)):
            raise IndexError(f"a row outside 0 to {len(self) - 1}")
        out = np.empty((len(positions), self.shape[1]), self.dtype)
        owner = np.searchsorted(self._starts, positions, side="right") - 1
        for number in np.unique(owner):
            own = owner == number
            out[own] = self._parts[number][positions[own] - self._starts[number]]
        return out


def map_file(path: str | Path, field: str) -> np.ndarray:
    """A ``.npy`` file [n, d], memory-mapped; n may be 0. Raises InputError where it is none."""
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise InputError(field, f"{path}, which is missing: not all parts are encoded", "all files") from None
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise InputError(field, f"{path}, which cannot be read ({error})", "a .npy file [n, d]") from None
    if not hasattr(found, "ndim") or found.ndim != 2 or found.dtype.kind not in "fiub":
        kind = f"{found.dtype} of shape {found.shape}" if hasattr(found, "ndim") else "an archive"
        raise InputError(field, f"{path}: {kind}", "real numbers [n, d]")
    return found


def _files(source: str | Path | Sequence[str | Path], field: str) -> list[Path]:
    if not isinstance(source, (str, Path)):
        return [Path(one).expanduser() for one in source]
    folder = Path(source).expanduser()
    note = folder / MANIFEST
    if note.is_file():
        try:
            return [folder / str(name) for name in json.loads(note.read_text(encoding="utf-8"))["files"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(field, f"{note}, which cannot be read ({error})", "as encode_shards wrote it") from None
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() == ".npy" and not p.name.startswith("."))
    if not found:
        raise InputError(field, f"{folder}, without .npy files", "a .npy file [n, d], or a folder of them")
    return found
