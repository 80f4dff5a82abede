"""Instruction data that may be larger than memory: records read by their place in the file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np

from paperworks.errors import InputError
from paperworks.language.generation.records import (
    InstructionRecord,
    check_file,
    parse_line,
    plain_row,
    read_instructions,
    record_of,
)


class InstructionFile(Sequence[InstructionRecord]):
    """The records of a file, as ``read_instructions`` gives them, read when they are asked for.

    Of a ``.jsonl`` file only the place of each line is held (8 bytes), of a ``.parquet`` file one row group at a time;
    ``.json`` and ``.csv`` files are read whole.

    Raises InputError, named ``field``: no such file, another kind, no row; and, when read, a row of no known form.
    """

    def __init__(self, path: str | Path, field: str = "instructions") -> None:
        self.path, self.field = check_file(path, field), field
        self.kind = self.path.suffix.lower()
        self._records: list[InstructionRecord] = []
        self._bounds = np.zeros(1, np.int64)
        self._group: tuple[int, list[Any]] = (-1, [])
        if self.kind == ".jsonl":
            self._bounds = _line_starts(self.path)
            self._count = len(self._bounds)
        elif self.kind == ".parquet":
            sizes = [self._parquet.metadata.row_group(i).num_rows for i in range(self._parquet.num_row_groups)]
            self._bounds = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
            self._count = int(self._bounds[-1])
        else:
            self._records = read_instructions(self.path, field)
            self._count = len(self._records)
        if not self._count:
            raise InputError(field, f"{self.path}, without a row", "one record or more")

    @classmethod
    def of(cls, records: Sequence[InstructionRecord]) -> InstructionFile:
        """Records that are in memory already, with the same methods."""
        made = cls.__new__(cls)
        made.path, made.field, made.kind = Path(), "instructions", "memory"
        made._records, made._count = list(records), len(records)
        if not made._count:
            raise InputError("instructions", "no record", "one or more")
        return made

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[InstructionRecord]:
        for start in range(0, self._count, 1024):
            yield from self.take(range(start, min(start + 1024, self._count)))

    @overload
    def __getitem__(self, index: int) -> InstructionRecord: ...
    @overload
    def __getitem__(self, index: slice) -> list[InstructionRecord]: ...
    def __getitem__(self, index: int | slice) -> InstructionRecord | list[InstructionRecord]:
        if isinstance(index, slice):
            return self.take(range(*index.indices(self._count)))
        if not -self._count <= index < self._count:
            raise IndexError(index)
        return self.take([index % self._count])[0]

    def take(self, positions: Sequence[int] | np.ndarray | range) -> list[InstructionRecord]:
        """The records at any positions, in the order given."""
        if self._records:
            return [self._records[int(i)] for i in positions]
        if self.kind == ".jsonl":
            with self.path.open("rb") as source:
                return [self._line(source, int(i)) for i in positions]
        return [self._row(int(i)) for i in positions]

    def raw_lines(self, positions: np.ndarray) -> Iterator[bytes]:
        """Lines of a ``.jsonl`` file as they are, without their end."""
        with self.path.open("rb") as source:
            for number in positions:
                source.seek(int(self._bounds[int(number)]))
                yield source.readline().removeprefix(b"\xef\xbb\xbf").rstrip(b"\r\n")

    def raw_tables(self, positions: np.ndarray) -> Iterator[Any]:
        """Rows of a ``.parquet`` file as they are, one pyarrow table for each row group; ``positions`` ascend."""
        ends = np.searchsorted(positions, self._bounds)
        for group in range(len(self._bounds) - 1):
            inside = np.asarray(positions)[ends[group] : ends[group + 1]] - self._bounds[group]
            if len(inside):
                yield self._parquet.read_row_group(group).take(inside)

    def _line(self, source: Any, number: int) -> InstructionRecord:
        source.seek(int(self._bounds[number]))
        where = f"{self.path}, record {number}"
        try:
            text = source.readline().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise InputError(self.field, f"{where}: not UTF-8 ({error})", "text in UTF-8") from None
        return record_of(parse_line(text, where, self.field), number, where, self.field)

    def _row(self, number: int) -> InstructionRecord:
        group = int(np.searchsorted(self._bounds, number, side="right")) - 1
        if group != self._group[0]:
            self._group = group, self._parquet.read_row_group(group).to_pylist()
        row = self._group[1][number - int(self._bounds[group])]
        return record_of(plain_row(row), number, f"{self.path}, row {number}", self.field)

    @property
    def _parquet(self) -> Any:
        if not hasattr(self, "_opened"):
            import pyarrow.parquet as pq
            from pyarrow import ArrowException

            try:
                self._opened: Any = pq.ParquetFile(self.path)
            except (ArrowException, OSError) as error:
                raise InputError(
                    self.field, f"{self.path}, which cannot be read ({str(error).splitlines()[0]})", "a Parquet file"
                ) from error
        return self._opened


def _line_starts(path: Path) -> np.ndarray:
    """Where the lines that are not blank begin: int64."""
    from array import array

    starts, place = array("q"), 0
    with path.open("rb") as source:
        for line in source:
            if line.strip() and line.strip() != b"\xef\xbb\xbf":
                starts.append(place)
            place += len(line)
    return np.frombuffer(starts, np.int64) if len(starts) else np.empty(0, np.int64)
