"""PNG files with 16 bits per channel and more than one channel, which Pillow reduces to 8 bits.

See the PNG specification (W3C, third edition): chunks, scanlines and the five filters.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {2: 3, 4: 2, 6: 4}
"""Colour type -> channels: RGB, LA, RGBA."""


def is_deep_png(head: bytes) -> bool:
    """Whether a file that starts so (26 bytes) is a PNG with 16 bits per channel and several channels."""
    return head[:8] == _SIGNATURE and len(head) >= 26 and head[24] == 16 and head[25] in _CHANNELS


def read_png16(data: bytes) -> np.ndarray:
    """The pixels, uint16 ``[h, w, channels]``. Raises OSError for a damaged or an interlaced file."""
    width, height, _, kind, _, _, interlace = struct.unpack(">IIBBBBB", data[16:29])
    if interlace:
        raise OSError("an interlaced PNG with 16 bits per colour channel is not read: save it without interlacing")
    channels = _CHANNELS[kind]
    try:
        raw = zlib.decompress(b"".join(_chunks(data, b"IDAT")))
    except (zlib.error, struct.error) as error:
        raise OSError(f"damaged PNG data ({error})") from None
    stride = width * channels * 2
    if len(raw) != height * (stride + 1):
        raise OSError(f"{len(raw)} bytes of pixels where {height * (stride + 1)} belong")
    rows = np.frombuffer(raw, dtype=np.uint8).reshape(height, stride + 1)
    if rows[:, 0].max(initial=0) > 4:
        raise OSError(f"unknown PNG filter {rows[:, 0].max()}")
    lines = _unfilter(rows[:, 0], rows[:, 1:], channels * 2)
    return lines.reshape(height, width, channels, 2).view(">u2")[..., 0].astype(np.uint16)


def write_png16(pixels: np.ndarray, icc_profile: bytes | None = None) -> bytes:
    """A PNG file of uint16 pixels ``[h, w, 2 to 4]``."""
    height, width, channels = pixels.shape
    kind = {n: code for code, n in _CHANNELS.items()}[channels]
    lines = np.ascontiguousarray(pixels.astype(">u2")).view(np.uint8).reshape(height, -1)
    up = lines.copy()
    up[1:] -= lines[:-1]  # filter 2 (Up): neighbours are alike, so differences compress
    rows = np.concatenate([np.full((height, 1), 2, dtype=np.uint8), up], axis=1)
    parts = [_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0))]
    if icc_profile:
        parts.append(_chunk(b"iCCP", b"profile\0\0" + zlib.compress(icc_profile)))
    parts += [_chunk(b"IDAT", zlib.compress(rows.tobytes(), 6)), _chunk(b"IEND", b"")]
    return _SIGNATURE + b"".join(parts)


def _chunks(data: bytes, wanted: bytes) -> list[bytes]:
    found, at = [], 8
    while at + 12 <= len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        if data[at + 4 : at + 8] == wanted:
            found.append(data[at + 8 : at + 8 + length])
        at += length + 12
    return found


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def _unfilter(filters: np.ndarray, rows: np.ndarray, step: int) -> np.ndarray:
    """Undo the filters; ``step`` is the number of bytes of a pixel."""
    out = np.empty_like(rows)
    above = np.zeros(rows.shape[1], dtype=np.uint8)
    for y, (kind, row) in enumerate(zip(filters, rows, strict=True)):
        if kind == 1:
            out[y] = np.cumsum(row.reshape(-1, step), axis=0, dtype=np.uint8).reshape(-1)
        elif kind == 2:
            out[y] = row + above
        elif kind:
            out[y] = _by_byte(int(kind), row.tolist(), above.tolist(), step)
        else:
            out[y] = row
        above = out[y]
    return out


def _by_byte(kind: int, row: list[int], above: list[int], step: int) -> list[int]:
    """Filters 3 (Average) and 4 (Paeth), where every byte depends on the one a pixel before."""
    left, corner = [0] * step, [0] * step
    out: list[int] = []
    for i, value in enumerate(row):
        a, b, c = left[i % step], above[i], corner[i % step]
        if kind == 3:
            guess = (a + b) >> 1
        else:
            p = a + b - c
            far_a, far_b, far_c = abs(p - a), abs(p - b), abs(p - c)
            guess = a if far_a <= far_b and far_a <= far_c else b if far_b <= far_c else c
        value = (value + guess) & 255
        out.append(value)
        left[i % step], corner[i % step] = value, b
    return out
