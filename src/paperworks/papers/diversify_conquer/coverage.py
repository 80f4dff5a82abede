"""How well a choice covers its pool: distances to the nearest chosen row, clusters hit, near duplicates."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from paperworks.embedding.rows import as_rows, read_at, read_rows, unit_rows
from paperworks.errors import InputError
from paperworks.parameters import check_seed

SAMPLE = 5000
"""Rows that distances are measured from, where there are more."""


def nearest_distances(X: Any, chosen: np.ndarray, *, sample: int = SAMPLE, random_state: int = 0) -> np.ndarray:
    """Squared Euclidean distance of rows (a random sample of them) to the nearest chosen row: float64 [m]."""
    check_seed("random_state", random_state)
    rows = as_rows(X, "embeddings")
    which = np.arange(rows.shape[0])
    if sample < len(which):
        which = np.sort(np.random.default_rng(random_state).choice(len(which), sample, replace=False))
    points = read_rows(rows, which, "embeddings").astype(np.float64)
    squares = np.einsum("ij,ij->i", points, points)
    nearest = np.full(len(points), np.inf)
    for start in range(0, len(chosen), 1024):
        part = read_at(rows, np.asarray(chosen[start : start + 1024]), "embeddings").astype(np.float64)
        found = squares[:, None] - 2 * points @ part.T + np.einsum("ij,ij->i", part, part)
        np.minimum(nearest, found.min(axis=1), out=nearest)
    # a chosen row is at distance 0 from itself, whatever rounding says
    nearest[np.isin(which, chosen)] = 0.0
    return np.maximum(nearest, 0)


def near_duplicates(X: Any, labels: np.ndarray, cosine: float) -> np.ndarray:
    """Rows whose cosine to an earlier kept row of the same cluster is ``cosine`` or more: bool [n] (as in SemDeDup).

    Raises InputError, with its row, for a vector of zeros.
    """
    rows = as_rows(X, "embeddings")
    drop = np.zeros(rows.shape[0], bool)
    order = np.argsort(labels, kind="stable")
    bounds = np.flatnonzero(np.diff(labels[order], prepend=-1, append=-1))
    for start, end in pairwise(bounds):
        members = order[start:end]
        kept = np.empty((0, rows.shape[1]), np.float32)
        for at in range(0, len(members), 1024):
            part = members[at : at + 1024]
            block = read_rows(rows, part, "embeddings")
            if not (pointed := block.any(axis=1)).all():
                raise InputError("embeddings", f"zeros only in row {part[pointed.argmin()]}", "rows with a direction")
            block = unit_rows(block, 0, "embeddings")
            close = np.zeros(len(part), bool)
            for first in range(0, len(kept), 4096):
                close |= (block @ kept[first : first + 4096].T >= cosine).any(axis=1)
            inside = block @ block.T >= cosine
            for i in range(len(part)):
                if not close[i]:
                    close[i + 1 :] |= inside[i, i + 1 :]
            drop[part[close]] = True
            kept = np.concatenate([kept, block[~close]])
    return drop


def dominating_column(X: Any, *, sample: int = 10_000, random_state: int = 0) -> tuple[int, float]:
    """The column of largest variance, and its share of all variance, on a sample of rows."""
    rows = as_rows(X, "embeddings")
    which = np.arange(rows.shape[0])
    if sample < len(which):
        which = np.sort(np.random.default_rng(random_state).choice(len(which), sample, replace=False))
    variance = read_rows(rows, which, "embeddings").var(axis=0, dtype=np.float64)
    total = float(variance.sum())
    column = int(variance.argmax())
    return column, float(variance[column]) / total if total > 0 else 0.0
