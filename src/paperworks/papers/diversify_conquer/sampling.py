"""Drawing inside clusters: by quality, at random, nearest to the centre, nearest to the median."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from paperworks.errors import InputError
from paperworks.parameters import check_seed

Sampling = Literal["quality", "random", "closest", "median", "median-quality"]
SAMPLINGS = ("quality", "random", "closest", "median", "median-quality")
QualityWeights = Literal["softmax", "proportional"]


def as_quality(quality: Any, count: int) -> np.ndarray:
    """Quality of ``count`` rows as float64 [count], NaN where it is missing.

    Raises InputError for another shape, for what is no number, for infinity, and where every row is NaN.
    """
    try:
        values = np.array(quality, np.float64)
    except (TypeError, ValueError) as error:
        raise InputError("quality", f"what is no number ({error})", f"one number per row, shape ({count},)") from None
    if values.shape != (count,):
        raise InputError("quality", f"shape {values.shape}", f"one number per row, shape ({count},)")
    if np.isinf(values).any():
        raise InputError("quality", f"infinity at position {int(np.isinf(values).argmax())}", "numbers, NaN")
    if count and np.isnan(values).all():
        raise InputError("quality", "NaN for every sample", "a number for one sample or more")
    return values


def as_seed(random_state: Any) -> int:
    """``random_state`` as a seed; a random one for None. Raises InputError for all but None and whole numbers."""
    if random_state is None:
        return int(np.random.default_rng().integers(2**32))
    return check_seed("random_state", random_state, "or None")


def fill_missing(quality: Any, labels: np.ndarray, n_clusters: int) -> tuple[np.ndarray, int]:
    """Quality with NaN replaced by the cluster's median (of all, where the cluster has none): (float64 [n], how many).

    Raises InputError where no sample has a quality, or one is infinite.
    """
    filled = as_quality(quality, len(labels))
    missing = np.isnan(filled)
    if not missing.any():
        return filled, 0
    overall = float(np.median(filled[~missing]))
    affected = np.unique(labels[missing])
    order = np.argsort(labels, kind="stable")
    bounds = np.searchsorted(labels[order], np.arange(n_clusters + 1))
    for cluster in affected:
        rows = order[bounds[cluster] : bounds[cluster + 1]]
        known = filled[rows][~missing[rows]]
        filled[rows[missing[rows]]] = np.median(known) if len(known) else overall
    return filled, int(missing.sum())


def log_quality_weights(
    quality: np.ndarray, labels: np.ndarray, n_clusters: int, temperature: float, kind: QualityWeights = "softmax"
) -> np.ndarray:
    """Logarithms of the weights that samples are drawn by, up to a constant for each cluster: float64 [n].

    "softmax": quality is standardised within the cluster (mean 0, deviation 1) and divided by ``temperature``, so that
    no unit of quality makes the draw an arg-max or overflows. "proportional": ``q ** (1 / temperature)``, the paper's
    multinomial at temperature 1; quality must not be negative.
    """
    if kind == "proportional":
        if (quality < 0).any():
            raise InputError("quality", f"{quality.min():.4g}", "0 or more, for weights in proportion to it")
        with np.errstate(divide="ignore"):
            return np.log(quality) / temperature
    if kind != "softmax":
        raise InputError("quality_weights", repr(kind), "softmax or proportional")
    counts = np.maximum(np.bincount(labels, minlength=n_clusters), 1)
    mean = np.bincount(labels, quality, minlength=n_clusters) / counts
    centred = quality - mean[labels]
    deviation = np.sqrt(np.bincount(labels, np.square(centred), minlength=n_clusters) / counts)
    # rounding of the mean must not count as a spread
    scale = np.where(deviation > 1e-12 * np.maximum(1.0, np.abs(mean)), deviation, np.inf)
    return centred / scale[labels] / temperature


def take_by_cluster(
    keys: np.ndarray, labels: np.ndarray, counts: np.ndarray, ties: np.ndarray | None = None
) -> np.ndarray:
    """Of each cluster the ``counts[j]`` positions of largest key: int64, ascending. ``ties`` (larger first) decide."""
    order = np.lexsort((-ties, -keys, labels) if ties is not None else (-keys, labels))
    starts = np.searchsorted(labels[order], np.arange(len(counts)))
    rank = np.arange(len(order)) - starts[labels[order]]
    return np.sort(order[rank < counts[labels[order]]])


def draw_by_weight(
    log_weights: np.ndarray, labels: np.ndarray, counts: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Draw ``counts[j]`` samples of each cluster without replacement, one after the other by weight: int64, ascending.

    The samples of largest ``log weight + Gumbel noise`` are such a draw (Efraimidis and Spirakis 2006), for all
    clusters at once.
    """
    noise = rng.gumbel(size=len(log_weights))
    return take_by_cluster(log_weights + noise, labels, counts, ties=noise)


def draw_with_replacement(
    log_weights: np.ndarray, labels: np.ndarray, counts: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Draw ``counts[j]`` samples of each cluster with replacement, as the paper writes: int64, repeats possible."""
    order = np.argsort(labels, kind="stable")
    bounds = np.searchsorted(labels[order], np.arange(len(counts) + 1))
    drawn = []
    for cluster in np.flatnonzero(counts):
        rows = order[bounds[cluster] : bounds[cluster + 1]]
        logs = log_weights[rows]
        top = logs.max()
        p = np.exp(logs - top) if np.isfinite(top) else np.ones(len(rows))
        drawn.append(rng.choice(rows, size=int(counts[cluster]), replace=True, p=p / p.sum()))
    return np.sort(np.concatenate(drawn)) if drawn else np.empty(0, np.int64)


def median_keys(values: np.ndarray, labels: np.ndarray, n_clusters: int) -> np.ndarray:
    """Keys that are largest for the samples whose value is nearest to their cluster's median: float64 [n]."""
    order = np.lexsort((values, labels))
    bounds = np.searchsorted(labels[order], np.arange(n_clusters + 1))
    sizes = np.diff(bounds)
    medians = np.zeros(n_clusters)
    filled = np.flatnonzero(sizes)
    low = order[bounds[filled] + (sizes[filled] - 1) // 2]
    high = order[bounds[filled] + sizes[filled] // 2]
    medians[filled] = (values[low] + values[high]) / 2
    return -np.abs(values - medians[labels])
