"""Facts of every slice of a scan: its label, its lesions, and the few numbers that simple baselines read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from paperworks.inputs.scans import Case

if TYPE_CHECKING:
    import pandas as pd

QUANTILES = (0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 1.0)
HOT_SUV = 4.0
BODY_SUV = 0.1
_NO_MASK = -1


def slice_features(case: Case) -> pd.DataFrame:
    """A row per slice, from the feet up.

    ``label`` is 1 if any voxel of the mask is in the slice, else 0, and -1 without a mask. ``suv_max`` and
    ``area_mm2`` are of its lesion voxels. ``feature_*``: maximum of the SUV, area above SUV 4 in mm^2, position (0
    feet, 1 head), and quantiles of the SUV of the voxels above 0.1.
    """
    import pandas as pd

    pet, spacing = case.pet.array, case.spacing
    slices = pet.shape[2]
    middle = np.array([(pet.shape[0] - 1) / 2, (pet.shape[1] - 1) / 2])
    places = case.geometry.points(np.c_[np.tile(middle, (slices, 1)), np.arange(slices)])
    columns: dict[str, np.ndarray] = {
        "slice": np.arange(slices),
        "slices": np.full(slices, slices),
        "z_mm": places[:, 2],
        "thickness_mm": np.full(slices, spacing[2]),
    }
    pixel = spacing[0] * spacing[1]
    columns |= _lesions(case, pixel)
    columns["feature_suv_max"] = pet.max((0, 1)).astype(np.float64)
    columns["feature_hot_mm2"] = (pet > HOT_SUV).sum((0, 1)) * pixel
    columns["feature_position"] = np.arange(slices) / max(slices - 1, 1)
    found = np.zeros((slices, len(QUANTILES)))
    for k in range(slices):
        body = pet[:, :, k][pet[:, :, k] > BODY_SUV]
        if body.size:
            found[k] = np.quantile(body, QUANTILES)
    for number, share in enumerate(QUANTILES):
        columns[f"feature_q{share * 1000:.0f}"] = found[:, number]
    return pd.DataFrame(columns)


def _lesions(case: Case, pixel: float) -> dict[str, np.ndarray]:
    from scipy.ndimage import label

    slices = case.pet.array.shape[2]
    if case.mask is None:
        unknown = np.full(slices, np.nan)
        return {
            "label": np.full(slices, _NO_MASK),
            "n_voxels": np.zeros(slices, dtype=np.int64),
            "area_mm2": unknown,
            "suv_max": unknown,
            "components": np.zeros(slices, dtype=np.int64),
            "edge": np.zeros(slices, dtype=bool),
        }
    mask = case.mask.array
    voxels = mask.sum((0, 1))
    positive = voxels > 0
    beside = np.pad(positive, 1)
    return {
        "label": positive.astype(np.int64),
        "n_voxels": voxels,
        "area_mm2": voxels * pixel,
        "suv_max": np.array(
            [case.pet.array[:, :, k][mask[:, :, k]].max() if positive[k] else np.nan for k in range(slices)]
        ),
        "components": np.array([label(mask[:, :, k])[1] if positive[k] else 0 for k in range(slices)]),
        "edge": positive & ~(beside[:-2] & beside[2:]),
    }
