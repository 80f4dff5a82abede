"""Image files to arrays."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest

from paperworks.errors import InputError
from paperworks.inputs.images import fashion_mnist, mnist, read_idx


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def test_mnist(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = []
    for part, n in (("train", 5), ("t10k", 3)):
        images, labels = rng.integers(256, size=(n, 28, 28), dtype=np.uint8), rng.integers(10, size=n, dtype=np.uint8)
        (tmp_path / f"{part}-images-idx3-ubyte").write_bytes(idx(images))
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(idx(labels))
        arrays += [images, labels]
    found = mnist(tmp_path)
    assert all(np.array_equal(a, b) and a.dtype == np.uint8 for a, b in zip(found, arrays, strict=True))


def test_broken_idx(tmp_path: Path) -> None:
    file = tmp_path / "x"
    with pytest.raises(InputError, match="without x"):
        read_idx(file)
    for data in (b"", b"\0\0\x0d\x01\0\0\0\0", idx(np.zeros((2, 3), dtype=np.uint8))[:-1]):
        file.write_bytes(data)
        with pytest.raises(InputError, match="x: found"):
            read_idx(file)


def test_fashion_mnist(tmp_path: Path) -> None:
    for label in range(10):
        rows = [[(label * 7 + i) % 256] * 784 for i in range(5)]
        (tmp_path / f"{label}.json").write_text(json.dumps({"data": [*rows, []]}))
    found = fashion_mnist(tmp_path, test_per_class=3)
    assert found.train.shape == (20, 28, 28)
    assert found.test.shape == (30, 28, 28)
    assert np.bincount(found.test_labels).tolist() == [3] * 10
    assert found.test[:, 5, 5].tolist() == [label * 7 + i for label in range(10) for i in (2, 3, 4)]
    with pytest.raises(InputError, match=r"0\.json: found 5 rows"):
        fashion_mnist(tmp_path)
    (tmp_path / "3.json").write_text(json.dumps({"data": [[1] * 783] * 5}))
    with pytest.raises(InputError, match=r"3\.json"):
        fashion_mnist(tmp_path, test_per_class=3)
