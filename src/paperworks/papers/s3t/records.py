"""Where every record is: an index on the disk in which one record is found without reading the others.

::

    records-3f2a....bin     entries of 24 bytes, in order of their keys: key, shard, slice
                            then 48 bytes for each block of entries: its first key, and its SHA-256

The SHA-256 of the last part is the index's digest. The manifest has it; the file is named by it and never changed.
"""

from __future__ import annotations

import hashlib
import struct
from bisect import bisect_right
from collections.abc import ItemsView, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from paperworks.errors import InputError
from paperworks.papers.s3t.receipts import Stored
from paperworks.runs.files import write_bytes

PREFIX = "records-"
BLOCK = 4096
"""Entries of a block: a search reads one, about 100 kB."""
_ENTRY = struct.Struct("<16sii")
_SUMMARY = struct.Struct("<16s32s")

Place = tuple[int, int]


class IndexHead(Stored):
    """What the manifest says of the index."""

    count: int = 0
    digest: str = ""

    @property
    def name(self) -> str:
        return f"{PREFIX}{self.digest[:16]}.bin"


class RecordIndex(Mapping[str, Place]):
    """Key of a record -> (shard, slice), read from a folder; iteration is in order of the keys.

    Raises InputError where a part that is read is not as it was written.
    """

    def __init__(self, folder: Path, head: IndexHead) -> None:
        self.path, self.head = folder / head.name, head
        self._blocks: dict[int, bytes] = {}

    def __len__(self) -> int:
        return self.head.count

    def __getitem__(self, key: str) -> Place:
        raw = _raw(key)
        number = -1 if raw is None else bisect_right(self._summaries.first, raw) - 1
        if raw is None or number < 0:
            raise KeyError(key)
        block = self._block(number)
        low, high = 0, len(block) // _ENTRY.size
        while low < high:
            middle = (low + high) // 2
            found, shard, slice_ = _ENTRY.unpack_from(block, middle * _ENTRY.size)
            if found == raw:
                return shard, slice_
            low, high = (middle + 1, high) if found < raw else (low, middle)
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        return iter(self._whole)

    def items(self) -> ItemsView[str, Place]:
        return self._whole.items()

    @cached_property
    def _whole(self) -> dict[str, Place]:
        blocks = [self._block(number) for number in range(len(self._summaries.first))]
        return {key.hex(): (shard, slice_) for block in blocks for key, shard, slice_ in _ENTRY.iter_unpack(block)}

    @cached_property
    def _summaries(self) -> _Summaries:
        blocks = -(-self.head.count // BLOCK)
        text = self._read(self.head.count * _ENTRY.size, blocks * _SUMMARY.size)
        if hashlib.sha256(text).hexdigest() != self.head.digest:
            raise self._edited()
        found = list(_SUMMARY.iter_unpack(text))
        return _Summaries([first for first, _ in found], [digest for _, digest in found])

    def _block(self, number: int) -> bytes:
        if number not in self._blocks:
            entries = min(BLOCK, self.head.count - number * BLOCK)
            block = self._read(number * BLOCK * _ENTRY.size, entries * _ENTRY.size)
            if hashlib.sha256(block).digest() != self._summaries.digest[number]:
                raise self._edited()
            self._blocks[number] = block
        return self._blocks[number]

    def _read(self, start: int, size: int) -> bytes:
        try:
            with self.path.open("rb") as file:
                file.seek(start)
                return file.read(size)
        except OSError as error:
            raise InputError(
                "folder", f"{self.path}, which cannot be read ({error.strerror})", "the records as fit wrote them"
            ) from None

    def _edited(self) -> InputError:
        return InputError(str(self.path), "records that are not those that the manifest names", "as fit wrote them")


class _Summaries(NamedTuple):
    """First key and digest of every block."""

    first: list[bytes]
    digest: list[bytes]


def write_index(folder: Path, records: Mapping[str, Place]) -> IndexHead:
    """Write the index of some records, and return what the manifest says of it."""
    entries = b"".join(_ENTRY.pack(bytes.fromhex(key), *records[key]) for key in sorted(records))
    step = BLOCK * _ENTRY.size
    blocks = [entries[start : start + step] for start in range(0, len(entries), step)]
    summaries = b"".join(_SUMMARY.pack(block[:16], hashlib.sha256(block).digest()) for block in blocks)
    head = IndexHead(count=len(records), digest=hashlib.sha256(summaries).hexdigest())
    if not (folder / head.name).exists():
        write_bytes(folder / head.name, entries + summaries)
    return head


def _raw(key: str) -> bytes | None:
    try:
        raw = bytes.fromhex(key)
    except ValueError:
        return None
    return raw if len(raw) == 16 else None
