"""IDX files (the format of MNIST), plain or gzipped."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from paperworks.errors import InputError

_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_idx(file: Path) -> np.ndarray:
    """An IDX file: two zero bytes, type, number of dimensions, big-endian sizes, values. Gzip is recognised.

    Returns an array in the machine's byte order. Raises InputError for a file that is missing, of another form, cut off
    or too long.
    """
    if not file.is_file():
        raise InputError("folder", f"{file.parent}, without {file.name}", "the folder that `paperworks data get` made")
    data = file.read_bytes()
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except (EOFError, OSError, zlib.error) as error:
            raise InputError(str(file), f"a damaged gzip file ({error})", "a whole one") from None
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in _TYPES:
        found = f"a file that starts with {data[:4].hex(' ')}"
        raise InputError(str(file), found, "an IDX file (00 00, then 08 for unsigned bytes or another type)")
    kind, start = np.dtype(_TYPES[data[2]]), 4 + 4 * data[3]
    if len(data) < start:
        raise InputError(str(file), f"{len(data)} bytes", f"a header of {start} bytes")
    shape = tuple(int(n) for n in np.frombuffer(data, dtype=">u4", count=data[3], offset=4))
    if len(data) - start != math.prod(shape) * kind.itemsize:
        found = f"{len(data) - start} bytes of values"
        raise InputError(str(file), found, f"{math.prod(shape) * kind.itemsize}, as its header says")
    return np.frombuffer(data, dtype=kind, offset=start).reshape(shape).astype(kind.newbyteorder("="))


def write_idx(file: Path, array: np.ndarray) -> None:
    """Write an array as IDX, gzipped where the name ends in ``.gz``. Raises InputError for a type that IDX lacks."""
    kind = next((code for code, name in _TYPES.items() if np.dtype(name) == array.dtype.newbyteorder(">")), None)
    if kind is None:
        raise InputError("array", f"type {array.dtype}", "uint8, int8, int16, int32, float32 or float64")
    head = bytes([0, 0, kind, array.ndim]) + np.asarray(array.shape, dtype=">u4").tobytes()
    data = head + array.astype(_TYPES[kind]).tobytes()
    # no time in the gzip header: the same array gives the same file
    file.write_bytes(gzip.compress(data, mtime=0) if file.suffix == ".gz" else data)
