"""Small series of DICOM, made and spoilt for the tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom

from paperworks.inputs.scans import Geometry, Volume
from paperworks.inputs.scans.phantom_files import write_ct_series, write_pet_series

OBLIQUE = np.array(
    [
        [1.5 * np.cos(0.2), -2.0 * np.sin(0.2), 0, -40.0],
        [1.5 * np.sin(0.2), 2.0 * np.cos(0.2), 0, 12.5],
        [0, 0, 3.3, -7.0],
        [0, 0, 0, 1.0],
    ]
)
"""Spacing 1.5 x 2.0 x 3.3 mm, turned about the long axis."""


def volume(shape: tuple[int, int, int] = (7, 6, 5), seed: int = 0, low: float = 0, high: float = 12) -> Volume:
    rng = np.random.default_rng(seed)
    return Volume(rng.uniform(low, high, shape).astype(np.float32), Geometry(shape, OBLIQUE))


def pet_series(folder: Path, change: Callable[[int, Any], None] | None = None) -> Path:
    """A PET series of 5 slices; ``change(number, header)`` edits each header, numbered from the lowest slice."""
    write_pet_series(folder, volume())
    return edited(folder, change)


def ct_series(folder: Path, change: Callable[[int, Any], None] | None = None) -> Path:
    write_ct_series(folder, volume(low=-1000, high=400))
    return edited(folder, change)


def edited(folder: Path, change: Callable[[int, Any], None] | None) -> Path:
    files = sorted(folder.glob("*.dcm"), reverse=True)  # numbered from the head
    for number, file in enumerate(files):
        if change is not None:
            header = pydicom.dcmread(file)
            change(number, header)
            header.save_as(file)
    return folder
