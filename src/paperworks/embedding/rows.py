"""Vectors as rows of arrays that may be larger than memory: checking them and reading them in chunks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from paperworks.errors import InputError

CHUNK_BYTES = 64 * 2**20
"""Memory of a chunk of rows in float32."""


def as_rows(vectors: Any, field: str = "X") -> Any:
    """An array-like [n, d] of numbers that can be sliced, without reading it.

    Parameters
    ----------
    vectors : an array, a memory map, anything with ``shape``, ``dtype`` and slices (h5py, zarr), a nested list, or the
        path of a ``.npy`` file or of a folder of them (see ``ShardedRows``), which are memory-mapped.

    Raises
    ------
    InputError : no such file, not numeric, not two axes, or no rows or columns.
    """
    if isinstance(vectors, (str, Path)):
        path = Path(vectors).expanduser()
        if path.is_dir():
            from paperworks.embedding.sharded_rows import ShardedRows

            return ShardedRows(path, field)
        try:
            vectors = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError, BadZipFile) as error:
            raise InputError(field, f"{path}, which cannot be read ({error})", "a .npy file [n, d]") from error
    if not (hasattr(vectors, "shape") and hasattr(vectors, "dtype") and hasattr(vectors, "__getitem__")):
        vectors = np.asarray(vectors)
    elif hasattr(vectors, "detach"):  # a tensor
        vectors = vectors.detach().cpu()
        vectors = (vectors.float() if str(vectors.dtype) == "torch.bfloat16" else vectors).numpy()  # numpy has none
    elif hasattr(vectors, "iloc"):
        vectors = vectors.to_numpy()
    if np.dtype(vectors.dtype).kind not in "fiub":
        raise InputError(field, f"values of type {vectors.dtype}", "real numbers")
    if len(vectors.shape) != 2 or 0 in vectors.shape:
        raise InputError(field, f"shape {tuple(vectors.shape)}", "[n, d] with at least one row and one column")
    return vectors


def chunk_rows(width: int, chunk_bytes: int = CHUNK_BYTES) -> int:
    """Rows of that width in a chunk."""
    return max(1, chunk_bytes // (4 * width))


def read_rows(rows: Any, which: Any, field: str = "X", check: bool = True) -> np.ndarray:
    """The chosen rows (a slice, or sorted positions) as a C-contiguous float32 array.

    ``check`` refuses NaN and infinities.
    """
    with np.errstate(over="ignore"):
        block = np.ascontiguousarray(rows[which], dtype=np.float32)
    if not check:
        return block
    finite = np.isfinite(block.sum(axis=1, dtype=np.float64))
    if not finite.all():
        first = int(np.flatnonzero(~finite)[0])
        number = (which.start or 0) + first if isinstance(which, slice) else int(np.asarray(which)[first])
        raise InputError(field, f"NaN or infinity in row {number}", "finite numbers (within the range of float32)")
    return block


def read_at(rows: Any, which: np.ndarray, field: str = "X") -> np.ndarray:
    """Rows at any positions, in the order given, repeats allowed; float32."""
    unique, inverse = np.unique(which, return_inverse=True)
    return read_rows(rows, unique, field)[inverse]


def chunks(rows: Any, size: int, field: str = "X", check: bool = True) -> Iterator[tuple[int, np.ndarray]]:
    """(first row, float32 rows) for consecutive chunks of ``size`` rows."""
    for start in range(0, rows.shape[0], size):
        yield start, read_rows(rows, slice(start, min(start + size, rows.shape[0])), field, check)


def unit_rows(block: np.ndarray, start: int = 0, field: str = "X") -> np.ndarray:
    """Rows divided by their Euclidean norm, in their own number format. Raises InputError for a row of zeros."""
    norms = np.sqrt(np.einsum("ij,ij->i", block, block, dtype=np.float64))
    if not norms.all():
        raise InputError(
            field, f"zeros only in row {start + int(np.flatnonzero(norms == 0)[0])}", "rows with a direction"
        )
    return (block / norms[:, None]).astype(block.dtype, copy=False)
