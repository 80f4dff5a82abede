"""Pixels for the tests of images."""

from __future__ import annotations

import numpy as np


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def noise(*shape: int, dtype: str = "uint8") -> np.ndarray:
    return rng().integers(np.iinfo(dtype).max + 1, size=shape, dtype=dtype)
