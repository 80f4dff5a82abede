"""Compressed files: arrays in, bytes out, and back; with what is needed to notice every damage.

Layout (little endian): ``PWPC``, version (1 byte), coding mode (1), precision (1), type code (1), SHA-256 of the model
(32), rows N (8), variables D (4), categories C (4), rows per stream (4), number of array dimensions (1), their sizes (8
each), CRC-32 of the codes (4), length of the attachment (4), the attachment, length of the stream table (4), the number
of 32-bit words of each stream (variable-length integers), the words, and the first 16 bytes of the SHA-256 of all that.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from paperworks.errors import InputError
from paperworks.papers.pc_compression import partial, rans, tree_coder
from paperworks.papers.pc_compression.circuit import Circuit
from paperworks.papers.pc_compression.codes import as_codes
from paperworks.papers.pc_compression.hclt import HCLT

MAGIC = b"PWPC"
VERSION = 1
TYPES = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "bool")
HEAD = struct.Struct("<4sBBBB32sQIIIB")
DIGEST = 16
BLOCK = 1024

Mode = Literal["tree", "partial"]
MODES: tuple[Mode, ...] = ("tree", "partial")


class CorruptFile(InputError):
    """Bytes that are not a whole, undamaged compressed file: nothing is decoded."""

    def __init__(self, found: str) -> None:
        super().__init__("file", found, "an undamaged file that compress() wrote")

    def __reduce__(self) -> tuple[type[CorruptFile], tuple[str]]:  # type: ignore[override]
        return type(self), (self.found,)


@dataclass(frozen=True)
class Header:
    """What a compressed file says about itself. ``attachment`` is the caller's own."""

    mode: Mode
    precision: int
    dtype: str
    model: str
    rows: int
    variables: int
    categories: int
    rows_per_stream: int
    shape: tuple[int, ...]
    checksum: int
    attachment: bytes
    words: tuple[int, ...]

    @property
    def code_bits(self) -> int:
        """Length of the codewords alone, in bits."""
        return 32 * sum(self.words)


class PCCodec:
    """Codes arrays with a model.

    Parameters
    ----------
    model : an ``HCLT`` or a ``Circuit``.
    precision : n; intervals are whole numbers that sum to 2^n, 16 to 28.
    mode : ``tree`` (hidden Chow-Liu trees; one walk over the tree), or ``partial`` (the paper's partial evaluation, any
        circuit); default the faster one that the model allows. A file is read in the mode that it was written in.
    rows_per_stream : rows that share one stream of the coder; None for one stream. 1 gives each row a codeword of its
        own, at the cost of one or two 32-bit words.
    n_jobs : threads; the bytes do not depend on it.
    """

    def __init__(
        self,
        model: HCLT | Circuit,
        precision: int = 24,
        *,
        mode: Mode | None = None,
        rows_per_stream: int | None = 128,
        n_jobs: int = 1,
    ) -> None:
        if not 16 <= precision <= 28:
            raise InputError("precision", precision, "16 to 28 bits")
        if mode is not None and mode not in MODES:
            raise InputError("mode", repr(mode), "tree or partial")
        if mode == "tree" and not isinstance(model, HCLT):
            raise InputError("mode", "tree, with a circuit", "partial: the faster mode is for hidden Chow-Liu trees")
        if rows_per_stream is not None and rows_per_stream < 1:
            raise InputError("rows_per_stream", rows_per_stream, "1 or more, or None for one stream")
        if n_jobs < 1:
            raise InputError("n_jobs", n_jobs, "1 or more")
        self.model, self.precision, self.rows_per_stream, self.n_jobs = model, precision, rows_per_stream, n_jobs
        self.mode: Mode = mode or ("tree" if isinstance(model, HCLT) else "partial")
        self.n_variables = model.n_variables if isinstance(model, Circuit) else model.n_features_in_
        categories = model.n_categories if isinstance(model, Circuit) else model.n_categories_
        self.n_categories = int(categories or 0)
        if self.n_categories >= 1 << (precision - 2):
            raise InputError("precision", precision, f"more bits for {self.n_categories} categories")
        self._coders: dict[str, _Coder] = {}

    def compress(self, X: Any, attachment: bytes = b"") -> bytes:
        """The compressed file of ``X``: any shape whose trailing axes multiply to D, whole numbers 0..C-1.

        Raises InputError for values out of range, for missing ones, and for other shapes.
        """
        values = np.asarray(X)
        if values.ndim < 1 or len(values) < 1 or values.size != len(values) * self.n_variables:
            raise InputError("X", f"shape {values.shape}", f"[N, ...] with {self.n_variables} values per row")
        if str(values.dtype) not in TYPES:
            raise InputError("X", f"values of type {values.dtype}", f"one of {', '.join(TYPES)}")
        codes = as_codes(values.reshape(len(values), -1), self.n_categories, self.n_variables)[0]
        if np.ma.isMaskedArray(X) or (codes == self.n_categories).any():
            raise InputError("X", "missing values", "complete rows; make missing a category of its own, or impute()")
        per_stream = min(len(codes), self.rows_per_stream or len(codes))
        streams = self._in_blocks(lambda rows: self._encode(rows, per_stream), codes, per_stream)
        lengths = [length for _, lengths in streams for length in lengths]
        header = HEAD.pack(
            MAGIC,
            VERSION,
            MODES.index(self.mode),
            self.precision,
            TYPES.index(str(values.dtype)),
            bytes.fromhex(self.model.sha256),
            len(codes),
            self.n_variables,
            self.n_categories,
            per_stream,
            values.ndim,
        )
        table = b"".join(_varint(length) for length in lengths)
        body = b"".join(
            [
                header,
                struct.pack(f"<{values.ndim}Q", *values.shape),
                struct.pack("<II", zlib.crc32(np.ascontiguousarray(codes).astype("<u2").tobytes()), len(attachment)),
                attachment,
                struct.pack("<I", len(table)),
                table,
                *(words.astype("<u4").tobytes() for words, _ in streams),
            ]
        )
        return body + hashlib.sha256(body).digest()[:DIGEST]

    def decompress(self, data: bytes) -> np.ndarray:
        """The array that was compressed: same values, shape and type.

        Raises ``CorruptFile`` for damaged bytes, and InputError for a file that another model wrote.
        """
        header, payload = _parse(data)
        if header.model != self.model.sha256:
            raise InputError(
                "model", f"model {self.model.sha256[:12]}", f"the one that compressed this file, {header.model[:12]}"
            )
        counts = np.array(header.words, dtype=np.int64)
        edges = np.concatenate([[0], np.cumsum(counts)])
        per_stream = header.rows_per_stream
        coder = self._coder(header.mode)
        group = max(1, BLOCK // per_stream)
        rows = np.empty((header.rows, self.n_variables), dtype=np.uint16)

        def work(first: int) -> bool:
            last = min(first + group, len(counts))
            ended = np.zeros(last - first, dtype=np.uint8)
            target = rows[first * per_stream : last * per_stream]
            words = payload[edges[first] : edges[last]]
            coder.decode(words, counts[first:last], per_stream, header.precision, target, ended)
            return bool(ended.all())

        if not all(self._map(work, range(0, len(counts), group))):
            raise CorruptFile("a stream that does not end where it should")
        if zlib.crc32(rows.astype("<u2").tobytes()) != header.checksum:
            raise CorruptFile("values that do not match their checksum")
        return rows.reshape(header.shape).astype(header.dtype)

    def bits(self, X: Any) -> np.ndarray:
        """Bits that each value of ``X`` [N, ...] costs in the code, float64 [N, D]."""
        codes = as_codes(np.asarray(X).reshape(len(X), -1), self.n_categories, self.n_variables)[0]
        if np.ma.isMaskedArray(X) or (codes == self.n_categories).any():
            raise InputError("X", "missing values, which are not coded", "complete rows, or impute()")
        starts = np.empty(codes.shape, dtype=np.uint32)
        widths = np.empty_like(starts)
        coder = self._coder(self.mode)
        coder.intervals(codes, self.precision, starts, widths)
        found = np.empty(codes.shape)
        found[:, coder.order] = self.precision - np.log2(widths)
        return found

    def ideal_bits(self, X: Any) -> float:
        """-log2 p(X) by the model: what the file's codewords approach."""
        return float(-self.model.score_samples(np.asarray(X).reshape(len(X), -1)).sum() / np.log(2))

    def _encode(self, rows: np.ndarray, per_stream: int) -> tuple[np.ndarray, list[int]]:
        """Words of the streams of some rows, and their numbers."""
        starts = np.empty((len(rows), self.n_variables), dtype=np.uint32)
        widths = np.empty_like(starts)
        self._coder(self.mode).intervals(np.ascontiguousarray(rows), self.precision, starts, widths)
        pieces = []
        for first in range(0, len(rows), per_stream):
            part = slice(first, first + per_stream)
            words = np.empty(starts[part].size + 2, dtype=np.uint32)
            count = rans.push_all(starts[part].ravel(), widths[part].ravel(), self.precision, words)
            pieces.append(words[:count])
        return np.concatenate(pieces), [len(piece) for piece in pieces]

    def _in_blocks(
        self, encode: Callable[[np.ndarray], tuple[np.ndarray, list[int]]], codes: np.ndarray, per_stream: int
    ) -> list[tuple[np.ndarray, list[int]]]:
        size = max(1, BLOCK // per_stream) * per_stream
        return self._map(lambda first: encode(codes[first : first + size]), range(0, len(codes), size))

    def _map(self, work: Callable[[int], Any], items: range) -> list[Any]:
        if self.n_jobs == 1 or len(items) < 2:
            return [work(item) for item in items]
        with ThreadPoolExecutor(self.n_jobs) as pool:
            return list(pool.map(work, items))

    def _coder(self, mode: Mode) -> _Coder:
        if mode not in self._coders:
            self._coders[mode] = _TreeCoder(self.model) if mode == "tree" else _PartialCoder(self.model)
        return self._coders[mode]


class _Coder:
    """Intervals of rows, and rows from words. ``order`` [D]: the variables as they are coded."""

    order: np.ndarray

    def intervals(self, rows: np.ndarray, precision: int, starts: np.ndarray, widths: np.ndarray) -> None:
        raise NotImplementedError

    def decode(
        self,
        words: np.ndarray,
        counts: np.ndarray,
        per_stream: int,
        precision: int,
        rows: np.ndarray,
        ended: np.ndarray,
    ) -> None:
        raise NotImplementedError


class _TreeCoder(_Coder):
    def __init__(self, model: HCLT | Circuit) -> None:
        if not isinstance(model, HCLT):
            raise InputError("model", "a circuit", "a hidden Chow-Liu tree, as the file's mode asks")
        self.walk = model.walk
        self.order = self.walk.order

    def intervals(self, rows: np.ndarray, precision: int, starts: np.ndarray, widths: np.ndarray) -> None:
        tree_coder.intervals(rows, self.walk, precision, starts, widths)

    def decode(
        self,
        words: np.ndarray,
        counts: np.ndarray,
        per_stream: int,
        precision: int,
        rows: np.ndarray,
        ended: np.ndarray,
    ) -> None:
        tree_coder.decode(words, counts, per_stream, self.walk, precision, rows, ended)


class _PartialCoder(_Coder):
    def __init__(self, model: HCLT | Circuit) -> None:
        self.plan = model.circuit().plan if isinstance(model, HCLT) else model.plan
        self.order = self.plan.order
        self.tables, self.counts = partial.leaf_tables(self.plan)

    def intervals(self, rows: np.ndarray, precision: int, starts: np.ndarray, widths: np.ndarray) -> None:
        partial.intervals(rows, self.plan, self.tables, self.counts, precision, starts, widths)

    def decode(
        self,
        words: np.ndarray,
        counts: np.ndarray,
        per_stream: int,
        precision: int,
        rows: np.ndarray,
        ended: np.ndarray,
    ) -> None:
        partial.decode(words, counts, per_stream, self.plan, self.tables, self.counts, precision, rows, ended)


def read_header(data: bytes) -> Header:
    """What a compressed file says about itself. Raises ``CorruptFile`` for damaged bytes."""
    return _parse(data)[0]


def _parse(data: bytes) -> tuple[Header, np.ndarray]:
    """Header and words; the digest is checked before anything else is believed."""
    if len(data) < HEAD.size + DIGEST or data[:4] != MAGIC:
        raise CorruptFile(f"{len(data)} bytes that start with {data[:4]!r}")
    body = data[:-DIGEST]
    if hashlib.sha256(body).digest()[:DIGEST] != data[-DIGEST:]:
        raise CorruptFile("bytes that do not match their checksum (changed or cut off)")
    _, version, mode, precision, kind, model, rows, variables, categories, per_stream, ndim = HEAD.unpack_from(body)
    if version != VERSION or mode >= len(MODES) or kind >= len(TYPES):
        raise InputError("file", f"format version {version}, mode {mode}", f"version {VERSION}")
    at = HEAD.size
    shape = struct.unpack_from(f"<{ndim}Q", body, at)
    at += 8 * ndim
    checksum, length = struct.unpack_from("<II", body, at)
    at += 8
    attachment = body[at : at + length]
    at += length
    (length,) = struct.unpack_from("<I", body, at)
    at += 4
    words = _read_varints(body[at : at + length])
    at += length
    header = Header(
        MODES[mode],
        precision,
        TYPES[kind],
        model.hex(),
        rows,
        variables,
        categories,
        per_stream,
        shape,
        checksum,
        attachment,
        words,
    )
    payload = np.frombuffer(body[at:], dtype="<u4").astype(np.uint32)
    if len(payload) != sum(words) or len(words) != -(-rows // per_stream):
        raise CorruptFile("streams of other lengths than the header says")
    return header, payload


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def _read_varints(data: bytes) -> tuple[int, ...]:
    found, number, shift = [], 0, 0
    for byte in data:
        number |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            found.append(number)
            number, shift = 0, 0
    return tuple(found)
