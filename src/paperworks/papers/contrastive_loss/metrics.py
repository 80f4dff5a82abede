"""Uniformity, tolerance, alignment and the separation of positives from the nearest negatives, in bounded memory."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from paperworks.embedding.rows import as_rows, read_at, read_rows
from paperworks.errors import InputError
from paperworks.parameters import check_seed

EXACT_UP_TO = 20_000
"""All pairs are counted up to so many rows; above, ``max_pairs`` of them are drawn."""
MAX_PAIRS = 50_000_000
CHUNK = 2048


@dataclass(frozen=True)
class Estimate:
    """A figure and its standard error (0 where all pairs were counted).

    Attributes
    ----------
    value, standard_error : the figure, and the error that drawing pairs makes.
    pairs : pairs that were counted.
    """

    value: float
    standard_error: float
    pairs: int


def uniformity(
    x: Any,
    *,
    t: float = 2.0,
    labels: Any = None,
    max_pairs: int = MAX_PAIRS,
    chunk: int = CHUNK,
    normalize: bool = False,
    seed: int = 0,
) -> Estimate:
    """-L_uniformity (Wang and Isola 2020; section 4.1): ``-log mean over pairs x != y of exp(-t ||x - y||^2)``.

    Larger is more uniform; one repeated point has 0.

    Parameters
    ----------
    x : unit rows ``[n, d]``, n at least 2; an array, a memory map, a tensor or the path of a ``.npy`` file.
    t : width of the kernel.
    labels : ``[n]``; only pairs of rows with different labels are counted.
    max_pairs : pairs drawn where there are more than ``EXACT_UP_TO`` rows.
    chunk : rows at a time; the result does not depend on it.
    normalize : divide rows by their norm, instead of refusing norms that are not 1.
    seed : of the pairs drawn.
    """
    check_seed("seed", seed)
    rows = _rows(x, 2)
    if not (math.isfinite(t) and t > 0):
        raise InputError("t", t, "a finite number above 0")
    codes = None if labels is None else _codes(labels, rows.shape[0])
    if codes is not None and codes.max() == 0:
        raise InputError("labels", "one class only", "two classes or more")
    if rows.shape[0] > EXACT_UP_TO:
        return _drawn(rows, t, codes, max_pairs, normalize, seed)
    total, pairs = 0.0, 0
    for start in range(0, rows.shape[0], chunk):
        left = _unit(rows, slice(start, start + chunk), normalize)
        for other in range(start, rows.shape[0], chunk):
            right = left if other == start else _unit(rows, slice(other, other + chunk), normalize)
            kernel = np.exp((2 * t) * np.minimum(left @ right.T - 1, 0), dtype=np.float64)
            if codes is not None:
                apart = codes[start : start + chunk, None] != codes[None, other : other + chunk]
                kernel *= apart
                counted = int(apart.sum())
            else:
                counted = kernel.size
            if other == start:
                if codes is None:
                    np.fill_diagonal(kernel, 0)
                    counted -= len(left)
                total, pairs = total + kernel.sum() / 2, pairs + counted // 2
            else:
                total, pairs = total + kernel.sum(), pairs + counted
    return Estimate(float(-math.log(total / pairs)) + 0.0, 0.0, pairs)


def _drawn(rows: Any, t: float, codes: np.ndarray | None, max_pairs: int, normalize: bool, seed: int) -> Estimate:
    rng = np.random.default_rng(seed)
    sums, pairs = [], []
    side = CHUNK
    count = max(2, math.ceil(max_pairs / side**2))
    for _ in range(count):
        left, right = (np.sort(rng.choice(rows.shape[0], side, replace=False)) for _ in range(2))
        a, b = _unit(rows, left, normalize), _unit(rows, right, normalize)
        kernel = np.exp((2 * t) * np.minimum(a @ b.T - 1, 0), dtype=np.float64)
        kept = left[:, None] != right[None]
        if codes is not None:
            kept &= codes[left][:, None] != codes[right][None]
        sums.append(float(kernel[kept].sum()))
        pairs.append(int(kept.sum()))
    if not sum(pairs):
        raise InputError("labels", f"no pair of different classes among {count * side**2:,}", "a larger max_pairs")
    # a ratio, since blocks of a rare class have few pairs, or none
    mean = sum(sums) / sum(pairs)
    off = np.array(sums) - mean * np.array(pairs)
    error = math.sqrt(float((off**2).sum()) * count / (count - 1)) / sum(sums)
    return Estimate(float(-math.log(mean)), error, sum(pairs))


def uniform_law(dimensions: int, t: float = 2.0) -> float:
    """-L_uniformity of the uniform law on the unit sphere: ``2t - log 0F1(; D/2; t^2)``."""
    from scipy.special import hyp0f1

    if dimensions < 1:
        raise InputError("dimensions", dimensions, "1 or more")
    return 2 * t - math.log(float(hyp0f1(dimensions / 2, t * t)))


def tolerance(x: Any, labels: Any, *, literal: bool = False, normalize: bool = False) -> float:
    """The mean similarity of two different rows of the same class (section 4.1).

    Parameters
    ----------
    x : unit rows ``[n, d]``.
    labels : ``[n]``.
    literal : the printed formula, a mean over all pairs of the similarity times whether the classes are equal; the
        paper's own figures are conditional means.
    normalize : divide rows by their norm.
    """
    rows = _rows(x, 2)
    codes = _codes(labels, rows.shape[0])
    sums = np.zeros((codes.max() + 1, rows.shape[1]))
    own = np.zeros(len(sums))
    for start in range(0, rows.shape[0], CHUNK):
        block = _unit(rows, slice(start, start + CHUNK), normalize).astype(np.float64)
        part = codes[start : start + len(block)]
        np.add.at(sums, part, block)
        np.add.at(own, part, np.einsum("ij,ij->i", block, block))
    sizes = np.bincount(codes)
    pairs = float((sizes * (sizes - 1)).sum())
    if not pairs:
        raise InputError("labels", "no two rows of one class", "a class with two rows or more")
    total = float((np.einsum("ij,ij->i", sums, sums) - own).sum())
    return total / (rows.shape[0] * (rows.shape[0] - 1)) if literal else total / pairs


def alignment(x: Any, y: Any, *, power: float = 2.0, normalize: bool = False) -> float:
    """The mean of ``||x_i - y_i||^power`` over positive pairs (Wang and Isola 2020): unit rows ``[n, d]`` each."""
    first, second = _rows(x, 1), _rows(y, 1, "y")
    if first.shape != second.shape:
        raise InputError("y", f"shape {second.shape}", f"{first.shape}, as x")
    total = 0.0
    for start in range(0, first.shape[0], CHUNK):
        part = slice(start, start + CHUNK)
        gap = _unit(first, part, normalize).astype(np.float64) - _unit(second, part, normalize, "y")
        total += float((np.sqrt(np.einsum("ij,ij->i", gap, gap)) ** power).sum())
    return total / first.shape[0]


@dataclass(frozen=True)
class SeparationCurve:
    """Mean similarity of positives, and of the 1st, 2nd, ... nearest negative (figure 8)."""

    positive: float
    negatives: np.ndarray

    @property
    def gap(self) -> float:
        """The positive's similarity less that of the nearest negative."""
        return self.positive - float(self.negatives[0])


def separation_curve(
    anchors: Any, positives: Any, negatives: Any = None, *, top: int = 10, normalize: bool = False
) -> SeparationCurve:
    """The mean similarity of an anchor to its positive and to its nearest negatives.

    Parameters
    ----------
    anchors, positives : unit rows ``[n, d]``.
    negatives : unit rows ``[m, d]``; None takes the positives of the other anchors.
    top : nearest negatives.
    """
    from paperworks.embedding import NearestNeighbors

    first, second = _rows(anchors, 2, "anchors"), _rows(positives, 2, "positives")
    if first.shape != second.shape:
        raise InputError("positives", f"shape {second.shape}", f"{first.shape}, as anchors")
    a, p = (_unit(r, slice(0, r.shape[0]), normalize) for r in (first, second))
    rest = p if negatives is None else _unit(_rows(negatives, 1, "negatives"), slice(None), normalize)
    top = min(top, len(rest) - (negatives is None))
    if top < 1:
        raise InputError("top", top, "1 or more, with a negative for each anchor")
    wanted = min(top + (negatives is None), len(rest))
    distances, positions = NearestNeighbors(wanted, metric="inner_product").fit(rest).kneighbors(a)
    near = -distances
    if negatives is None:  # the anchor's own positive is no negative
        own = positions == np.arange(len(a))[:, None]
        near[own] = -np.inf
        near = -np.sort(-near, axis=1)
    positive = float(np.einsum("ij,ij->i", a, p, dtype=np.float64).mean())
    return SeparationCurve(positive, near[:, :top].mean(axis=0))


def _rows(x: Any, least: int, name: str = "x") -> Any:
    rows = as_rows(x, name)
    if rows.shape[0] < least:
        raise InputError(name, f"{rows.shape[0]} rows", f"{least} or more")
    return rows


def _unit(rows: Any, which: Any, normalize: bool, name: str = "x") -> np.ndarray:
    block = read_rows(rows, which, name) if isinstance(which, slice) else read_at(rows, which, name)
    norms = np.sqrt(np.einsum("ij,ij->i", block, block, dtype=np.float64))
    if normalize:
        if not norms.all():
            raise InputError(name, "a row of zeros", "rows with a direction")
        return (block / norms[:, None]).astype(np.float32)
    off = np.abs(norms - 1)
    if off.max() > 1e-2:
        raise InputError(name, f"a row of norm {norms[off.argmax()]:.4g}", "rows of norm 1, or normalize=True")
    return block


def _codes(labels: Any, count: int) -> np.ndarray:
    found = np.asarray(labels.detach().cpu() if hasattr(labels, "detach") else labels)
    if found.shape != (count,):
        raise InputError("labels", f"shape {found.shape}", f"({count},), one for each row")
    return np.unique(found, return_inverse=True)[1].reshape(-1)
