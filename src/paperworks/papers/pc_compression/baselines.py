"""What the circuit is compared with: general coders, image formats, and simpler models."""

from __future__ import annotations

import bz2
import io
import lzma
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from paperworks.papers.pc_compression.structure import Tree

MOST_FILES = 2000
"""Images that are written to a file each, to estimate the size of all; these files are most of the time."""


def general_coders(data: bytes, *, fast: bool = False) -> dict[str, int]:
    """Bytes after zlib, bz2, xz, zstd and brotli at their strongest settings; ``fast``: after xz -6 and bzip2 only."""
    import pyarrow as pa

    if fast:
        return {"bzip2 -9": len(bz2.compress(data, 9)), "xz -6": len(lzma.compress(data))}
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "lc": 0, "lp": 0, "pb": 0}]
    plain = len(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME))
    found = {
        "zlib -9": len(zlib.compress(data, 9)),
        "bzip2 -9": len(bz2.compress(data, 9)),
        "xz -9e": min(plain, len(lzma.compress(data, format=lzma.FORMAT_XZ, filters=filters))),
    }
    for name, level in (("zstd", 22), ("brotli", 11)):
        if pa.Codec.is_available(name):
            found[f"{name} -{level}"] = len(pa.Codec(name, compression_level=level).compress(data, asbytes=True))
    return found


def image_coders(images: np.ndarray) -> dict[str, int]:
    """Bytes of uint8 images [N, h, w] or [N, h, w, 3] as PNG and lossless WebP, at their strongest settings.

    Once a file per image, estimated from ``MOST_FILES`` where there are more; once as one sheet of all of them (no
    overhead of small files).
    """
    from PIL import Image

    def size(image: np.ndarray, **options: Any) -> int:
        out = io.BytesIO()
        Image.fromarray(image).save(out, **options)
        return out.tell()

    formats: dict[str, Callable[[np.ndarray], int]] = {
        "PNG": lambda image: size(image, format="PNG", optimize=True, compress_level=9),
        "WebP": lambda image: size(image, format="WEBP", lossless=True, quality=100, method=6, exact=True),
    }
    found = {}
    for name, measure in formats.items():
        some = images[:: -(-len(images) // MOST_FILES)]
        found[f"{name}, a file each"] = round(sum(measure(image) for image in some) * len(images) / len(some))
        found[f"{name}, one sheet"] = sum(measure(part) for part in sheets(images))
    return found


def sheets(images: np.ndarray, columns: int = 64, limit: int = 8192) -> list[np.ndarray]:
    """Images [N, h, w, ...] side by side on sheets within WebP's limits; the last row is filled with zeros."""
    n, height, width = images.shape[:3]
    columns = max(1, min(columns, limit // width, n))
    rows = max(1, limit // height)
    found = []
    for start in range(0, n, rows * columns):
        part = images[start : start + rows * columns]
        lines = -(-len(part) // columns)
        sheet = np.zeros((lines * columns, *images.shape[1:]), dtype=images.dtype)
        sheet[: len(part)] = part
        grid = sheet.reshape(lines, columns, *images.shape[1:]).swapaxes(1, 2)
        found.append(np.ascontiguousarray(grid.reshape(lines * height, columns * width, *images.shape[3:])))
    return found


def independent_bpd(train: np.ndarray, test: np.ndarray, n_categories: int, pseudocount: float = 0.1) -> float:
    """Bits per dimension of ``test`` when every variable has its own distribution, learned from ``train``."""
    return float(independent_bits(train, test, n_categories, pseudocount).sum() / test.size)


def independent_bits(train: np.ndarray, test: np.ndarray, n_categories: int, pseudocount: float = 0.1) -> np.ndarray:
    """Bits of each row of ``test`` ``[N]`` when every variable has its own distribution, learned from ``train``."""
    bits = np.zeros(len(test))
    for v in range(train.shape[1]):
        counts = np.bincount(train[:, v], minlength=n_categories) + pseudocount / n_categories
        bits -= np.log2(counts[test[:, v]] / counts.sum())
    return bits


def chow_liu_bpd(train: np.ndarray, test: np.ndarray, tree: Tree, n_categories: int, pseudocount: float = 0.1) -> float:
    """Bits per dimension of ``test`` under the tree of the variables themselves, without latent states."""
    return float(chow_liu_bits(train, test, tree, n_categories, pseudocount).sum() / test.size)


def chow_liu_bits(
    train: np.ndarray, test: np.ndarray, tree: Tree, n_categories: int, pseudocount: float = 0.1
) -> np.ndarray:
    """Bits of each row of ``test`` ``[N]`` under the tree of the variables themselves, without latent states."""
    bits = np.zeros(len(test))
    for v, parent in enumerate(tree.parents.tolist()):
        if parent < 0:
            bits += independent_bits(train[:, [v]], test[:, [v]], n_categories, pseudocount)
            continue
        known, counts = np.unique(train[:, parent].astype(np.int64) * n_categories + train[:, v], return_counts=True)
        of_parent = np.bincount(train[:, parent], minlength=n_categories) + pseudocount
        pairs = test[:, parent].astype(np.int64) * n_categories + test[:, v]
        place = np.minimum(np.searchsorted(known, pairs), len(known) - 1)
        joint = np.where(known[place] == pairs, counts[place], 0) + pseudocount / n_categories
        bits -= np.log2(joint / of_parent[test[:, parent]])
    return bits
