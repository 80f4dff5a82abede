"""Small simulated scans, read once for all tests."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import numpy as np

from paperworks.inputs.scans import Case, Geometry, PhantomSettings, Volume, phantom_cases
from paperworks.papers.petct_slices import SliceClassifier, SliceTable

SIZE = 24


def cases(n: int = 8, seed: int = 0, **settings: Any) -> list[Case]:
    chosen = PhantomSettings(size=SIZE, slices=20, **settings)
    return [
        Case(s.pet, s.ct, s.mask, s.patient_id, s.case_id, s.center, s.disease) for s in phantom_cases(n, seed, chosen)
    ]


@cache
def table(n: int = 8) -> SliceTable:
    """Slices of so many scans."""
    return SliceTable.from_cases(cases(n), size=SIZE)


def quick(**options: Any) -> SliceClassifier:
    """A small classifier that trains in a moment."""
    chosen = {"image_size": SIZE, "network": "small", "epochs": 1, "batch_size": 32, "pet_window": (0, 15)} | options
    return SliceClassifier(device="cpu", **chosen)


@cache
def fitted() -> SliceClassifier:
    """A classifier after an epoch."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return quick().fit(table())


def flat_case(planes: np.ndarray, mask: np.ndarray | None = None, spacing: float = 2.0) -> Case:
    """A scan of given slices ``[X, Y, Z]``."""
    grid = Geometry(planes.shape, np.diag([spacing, spacing, 3.0, 1.0]))
    lesions = None if mask is None else Volume(mask, grid)
    return Case(Volume(planes.astype(np.float32), grid), None, lesions, "a", "a/1", "A", "x")
