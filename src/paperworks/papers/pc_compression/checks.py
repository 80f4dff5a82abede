"""What a hidden Chow-Liu tree can be asked for, and small facts of its data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from paperworks.errors import InputError
from paperworks.papers.pc_compression.codes import MAX_CATEGORIES
from paperworks.papers.pc_compression.em import Phase

if TYPE_CHECKING:
    from paperworks.papers.pc_compression.hclt import HCLT


def check_options(model: HCLT, phases: Sequence[Phase]) -> None:
    """Raise InputError naming the parameter that is out of bounds."""
    checks = [
        ("n_latents", model.n_latents, model.n_latents >= 1, "1 or more"),
        ("structure_bits", model.structure_bits, 1 <= model.structure_bits <= 8, "1 to 8"),
        ("structure_rows", model.structure_rows, model.structure_rows >= 1, "1 or more"),
        ("pseudocount", model.pseudocount, model.pseudocount >= 0, "0 or more"),
        ("batch_size", model.batch_size, model.batch_size >= 1, "1 or more"),
        ("spread", model.spread, model.spread >= 0, "0 or more"),
        ("validation_fraction", model.validation_fraction, 0 <= model.validation_fraction < 1, "at least 0, below 1"),
        ("patience", model.patience, model.patience >= 1, "1 or more"),
        ("schedule", model.schedule, sum(p.epochs for p in phases) >= 1, "at least one epoch"),
        (
            "schedule",
            model.schedule,
            all(0 <= e < 1 for p in phases for e in (p.start, p.end)),
            "inertias of at least 0 and less than 1",
        ),
    ]
    for name, found, right, expected in checks:
        if not right:
            raise InputError(name, found, expected)


def check_memory(model: HCLT) -> None:
    """Raise InputError for a model that would not fit into memory."""
    weights = model.n_features_in_ * (model.n_categories_ * model.n_latents + model.n_latents**2)
    if weights > 500_000_000:
        raise InputError(
            "X",
            f"{model.n_features_in_} variables of {model.n_categories_} values ({weights:,} weights)",
            f"fewer variables (patches of images), fewer values (at most {MAX_CATEGORIES}) or fewer latent states",
        )


def mask_of(mask: Any, shape: tuple[int, ...]) -> np.ndarray:
    """A mask [D] or [N, D] as bool [N, D]. Raises InputError for another shape."""
    keep = np.asarray(mask, dtype=bool)
    if keep.shape not in (shape, shape[1:]):
        raise InputError("mask", f"shape {keep.shape}", f"{shape[1:]} or {shape}")
    return np.broadcast_to(keep, shape)


def most_frequent(codes: np.ndarray, n_categories: int) -> np.ndarray:
    """The most frequent value of each variable, uint16 [D]."""
    counts = (np.bincount(column, minlength=n_categories + 1) for column in codes.T)
    return np.array([count.argmax() for count in counts], dtype=np.uint16)


def smallest(n_categories: int) -> type:
    """The narrowest type that holds the values."""
    return np.uint8 if n_categories <= 256 else np.uint16
