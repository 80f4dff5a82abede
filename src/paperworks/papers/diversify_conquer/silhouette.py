"""The number of clusters before any training: silhouette on a sample, or the elbow of the inertia."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from paperworks.embedding import KMeans
from paperworks.embedding.rows import as_rows, read_rows
from paperworks.errors import InputError
from paperworks.papers.diversify_conquer.sampling import as_seed
from paperworks.runs import Progress, no_progress

SAMPLE = 10_000
"""Rows that a silhouette is computed on: it takes the square of their number."""
MOST_CLUSTERS = 8192
"""The largest number that is tried by default, as in the paper."""


def sampled_silhouette(X: Any, labels: np.ndarray, *, sample: int = SAMPLE, random_state: int | None = 0) -> float:
    """Mean silhouette (Rousseeuw 1987, Euclidean) of a random sample of rows; of all where there are no more.

    Parameters
    ----------
    X : rows [n, d].
    labels : int [n].

    Raises
    ------
    InputError : one cluster only, or as many clusters as rows, in the sample: the silhouette is undefined.
    """
    random_state = as_seed(random_state)
    rows = as_rows(X, "embeddings")
    labels = np.asarray(labels)
    if labels.shape != (rows.shape[0],):
        raise InputError("labels", f"shape {labels.shape}", f"one cluster per row, shape ({rows.shape[0]},)")
    if sample < 2:
        raise InputError("sample", sample, "2 rows or more")
    which = _sampled(rows.shape[0], sample, random_state)
    chosen = labels[which]
    if not _defined(chosen):
        found = f"{len(np.unique(chosen))} clusters among {len(which)} rows"
        raise InputError("labels", found, f"2 to {len(which) - 1} clusters")
    from sklearn.metrics import silhouette_score

    return float(silhouette_score(read_rows(rows, which, "embeddings").astype(np.float64), chosen))


def _sampled(count: int, sample: int, random_state: int) -> np.ndarray:
    if sample >= count:
        return np.arange(count)
    return np.sort(np.random.default_rng(random_state).choice(count, sample, replace=False))


def _defined(labels: np.ndarray) -> bool:
    return 2 <= len(np.unique(labels)) < len(labels)


def default_grid(budget: int) -> tuple[int, ...]:
    """Powers of two to try for so many samples: from 64 to 8192 as in the paper, two samples or more of each cluster.

    Small budgets begin at a sixteenth of them: a handful of clusters often has the best silhouette, and says nothing.
    """
    least, most = min(64, budget // 16), min(MOST_CLUSTERS, budget // 2)
    return tuple(2**p for p in range(1, 14) if least <= 2**p <= most) or (2,)


def choose_n_clusters(
    X: Any,
    grid: Sequence[int],
    *,
    criterion: Literal["silhouette", "elbow"] = "silhouette",
    sample: int = SAMPLE,
    random_state: int | None = 0,
    progress: Progress = no_progress,
    **kmeans: Any,
) -> tuple[int, dict[int, float]]:
    """The number of clusters of largest silhouette, or at the elbow of the inertia.

    Parameters
    ----------
    X : rows [n, d].
    grid : numbers of clusters to try; one alone is taken as it is.
    criterion : "silhouette"; or "elbow", the point of the curve of log inertia over log k that is farthest below the
        line between its ends.
    kmeans : options of ``KMeans``.

    Returns
    -------
    (number of clusters, {number: silhouette or inertia}). Numbers for which all rows fall into one cluster are left
    out; where none is left, such as for rows that are all alike, the answer is 1 cluster, with a warning.
    """
    random_state = as_seed(random_state)
    tried = sorted({int(k) for k in grid})
    rows = as_rows(X, "embeddings")
    if criterion not in ("silhouette", "elbow"):
        raise InputError("criterion", repr(criterion), "silhouette or elbow")
    if not tried or tried[0] < 2 or tried[-1] >= rows.shape[0]:
        if len(tried) == 1 and 1 <= tried[0] <= rows.shape[0]:
            return tried[0], {}
        raise InputError("grid", ", ".join(map(str, tried)) or "nothing", f"numbers from 2 to {rows.shape[0] - 1}")
    values: dict[int, float] = {}
    for k in progress(tried, "numbers of clusters", len(tried)):
        fitted = KMeans(k, random_state=random_state, **kmeans).fit(rows)
        labels = fitted.labels_
        if criterion == "elbow":
            if len(np.unique(labels)) > 1:
                values[k] = fitted.inertia_
        elif _defined(labels[_sampled(len(labels), sample, random_state)]):
            values[k] = sampled_silhouette(rows, labels, sample=sample, random_state=random_state)
    if not values:
        warnings.warn("the rows do not fall into 2 clusters or more: 1 cluster is taken", stacklevel=2)
        return 1, {}
    if criterion == "silhouette":
        return max(values, key=lambda k: values[k]), values
    return _elbow(list(values), np.array(list(values.values()))), values


def _elbow(tried: list[int], inertia: np.ndarray) -> int:
    x, y = np.log(tried), np.log(np.maximum(inertia, 1e-300))
    if len(tried) < 3 or x[-1] == x[0]:
        return tried[-1]
    line = y[0] + (y[-1] - y[0]) * (x - x[0]) / (x[-1] - x[0])
    return tried[int((line - y).argmax())]
