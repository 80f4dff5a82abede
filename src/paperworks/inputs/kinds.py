"""What a file's first bytes say that it is, so that a reader of text refuses other files with words; whole arrays."""

from __future__ import annotations

import gzip
import os
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from paperworks.errors import InputError

if TYPE_CHECKING:
    import numpy as np

SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"PAR1", "a Parquet file"),
    (b"\x93NUMPY", "a numpy array (.npy)"),
    (b"PK\x03\x04", "a zip archive (.zip, .npz, .xlsx, .docx)"),
    (b"\x1f\x8b", "data packed by gzip (.gz)"),
    (b"BZh", "data packed by bzip2 (.bz2)"),
    (b"\xfd7zXZ\x00", "data packed by xz (.xz)"),
    (b"\x28\xb5\x2f\xfd", "data packed by zstd (.zst)"),
    (b"\x04\x22\x4d\x18", "data packed by lz4 (.lz4)"),
    (b"SQLite format 3\x00", "an SQLite database"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"%PDF", "a PDF document"),
    (b"\x89HDF", "an HDF5 file"),
    (b"ARROW1", "an Arrow file"),
    (b"Obj\x01", "an Avro file"),
    (b"\x7fELF", "a program"),
    (b"\xd0\xcf\x11\xe0", "an old Office document (.xls, .doc)"),
)
"""First bytes of formats, and what to call them."""

UTF16 = (b"\xff\xfe", b"\xfe\xff")
_CONTROL = bytes(set(range(32)) - set(b"\t\n\r\f\x1b\v"))


def binary_kind(data: bytes) -> str:
    """What the beginning of a file is, in words, if it is no text; an empty string for text.

    Known formats are named. Anything else with a NUL byte, or with more than one control character in a hundred, is
    "binary data".
    """
    for start, words in SIGNATURES:
        if data.startswith(start):
            return words
    if data.startswith(UTF16):
        return "text in UTF-16 (see iconv)"
    if b"\x00" in data or sum(map(data.count, (bytes([c]) for c in _CONTROL))) > len(data) / 100:
        return "binary data"
    return ""


def read_unpacked(path: Path) -> bytes:
    """A file's bytes, unpacked by gzip where its name ends in .gz.

    Raises OSError where it cannot be read or unpacked; its words say what is wrong.
    """
    data = path.read_bytes()
    if not path.name.lower().endswith(".gz"):
        return data
    try:
        return gzip.decompress(data)
    except (EOFError, zlib.error) as error:
        raise OSError(f"damaged gzip data: {error}") from None


def whole_array(path: str | os.PathLike[str]) -> np.ndarray:
    """The array of a ``.npy`` file.

    Raises OSError, ValueError or EOFError where it is none. A file is mapped before it is copied, so that one whose
    header promises more than there is takes no memory.
    """
    import numpy as np

    found = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(found, np.ndarray):
        raise ValueError("an archive of arrays (.npz), not one array")
    return np.array(found)


def require_text(path: str | os.PathLike[str], data: bytes, expected: str) -> None:
    """Raise InputError that names the file and what it is, if ``data``, its beginning, is no text."""
    kind = binary_kind(data)
    if kind:
        raise InputError(str(Path(path)), kind, expected)
