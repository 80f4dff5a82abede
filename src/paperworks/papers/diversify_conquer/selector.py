"""``KMeansSelector``: k-means clusters, a share of the budget for each, and a draw inside each (kMQ and its kin)."""

from __future__ import annotations

import warnings
from typing import Any, Literal

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError

from paperworks.embedding import KMeans
from paperworks.embedding.rows import as_rows, chunk_rows, chunks, unit_rows
from paperworks.errors import InputError
from paperworks.papers.diversify_conquer.allocation import allocate_budget, resolve_budget
from paperworks.papers.diversify_conquer.sampling import (
    SAMPLINGS,
    QualityWeights,
    Sampling,
    as_seed,
    draw_by_weight,
    draw_with_replacement,
    fill_missing,
    log_quality_weights,
    median_keys,
    take_by_cluster,
)
from paperworks.papers.diversify_conquer.silhouette import choose_n_clusters, default_grid
from paperworks.runs import Progress, no_progress


class KMeansSelector(BaseEstimator):
    """Choose samples that cover all k-means clusters, better ones more often (section 2.2).

    Parameters
    ----------
    n_clusters : number of clusters; "silhouette" or "elbow" tries a grid and takes the best.
    sampling : inside a cluster: "quality" (kMQ), "random" (kM-Random), "closest" to the centre (kM-Closest), "median"
        (distance nearest to the cluster's median; kM-Median), or "median-quality" (quality nearest to its median). None
        is "quality" where ``fit`` gets one, otherwise "random".
    budget : a number of samples, or a share (a fraction up to 1.0).
    allocation : "proportional" to cluster sizes, or "equal".
    replace : draw with replacement, as the paper writes for kMQ; ``indices_`` then may repeat.
    quality_temperature : 0 takes the best of each cluster, large values draw at random.
    quality_weights : "softmax" of the quality standardised within the cluster, or "proportional" to it.
    grid : numbers of clusters to try for "silhouette" and "elbow"; by default powers of two that suit the budget.
    kmeans : options of ``paperworks.embedding.KMeans``, such as ``{"n_init": 5, "spherical": True}``.
    random_state : seed, 0 or more; None draws anew each time.
    progress : as ``run.progress``.

    Attributes
    ----------
    indices_ : int64 [budget], ascending positions in the data.
    labels_ : int32 [n], cluster of every row.
    centers_ : float32 [k, d].
    cluster_sizes_ : int64 [k], rows that can be chosen.
    cluster_budgets_ : int64 [k], rows chosen.
    distances_ : float32 [n], Euclidean distance of each row to its centre.
    quality_ : float64 [n] without NaN, or None; ``n_missing_quality_`` counts those that were filled in.
    silhouette_ : of the grid {k: value} where k was chosen by it, else None.
    """

    def __init__(
        self,
        n_clusters: int | Literal["silhouette", "elbow"] = "silhouette",
        sampling: Sampling | None = None,
        budget: int | float = 0.1,
        allocation: Literal["proportional", "equal"] = "proportional",
        replace: bool = False,
        quality_temperature: float = 1.0,
        quality_weights: QualityWeights = "softmax",
        grid: tuple[int, ...] | None = None,
        kmeans: dict[str, Any] | None = None,
        random_state: int | None = 0,
        progress: Progress = no_progress,
    ) -> None:
        self.n_clusters = n_clusters
        self.sampling = sampling
        self.budget = budget
        self.allocation = allocation
        self.replace = replace
        self.quality_temperature = quality_temperature
        self.quality_weights = quality_weights
        self.grid = grid
        self.kmeans = kmeans
        self.random_state = random_state
        self.progress = progress

    def fit(self, X: Any, quality: Any = None, *, eligible: Any = None) -> KMeansSelector:
        """Cluster all rows, and choose.

        Parameters
        ----------
        X : embeddings [n, d]: an array, a memory map, or the path of a ``.npy`` file.
        quality : float [n], larger is better; NaN is filled with the cluster's median. Needed where ``sampling`` says
            quality.
        eligible : bool [n], rows that may be chosen; by default all.

        Raises
        ------
        InputError : an option out of bounds, fewer rows than clusters, NaN in the embeddings, a quality of another
            length, or a budget above the rows that may be chosen.
        """
        self._check(quality)
        rows = as_rows(X, "embeddings")
        self.silhouette_: dict[int, float] | None = None
        options: dict[str, Any] = {"random_state": self.random_state, "progress": self.progress, **(self.kmeans or {})}
        if isinstance(self.n_clusters, str):
            grid = self.grid or default_grid(resolve_budget(self.budget, rows.shape[0]))
            chosen, values = choose_n_clusters(rows, grid, criterion=self.n_clusters, **options)
            self.silhouette_ = values
        else:
            chosen = self.n_clusters
        fitted = KMeans(chosen, **options).fit(rows)
        return self.use_clusters(rows, fitted.labels_, fitted.cluster_centers_, quality, eligible=eligible)

    def use_clusters(
        self, X: Any, labels: np.ndarray, centers: np.ndarray, quality: Any = None, *, eligible: Any = None
    ) -> KMeansSelector:
        """Choose from clusters that are there already: ``labels`` int [n] and ``centers`` [k, d] of rows ``X``."""
        self._check(quality)
        rows = as_rows(X, "embeddings")
        count = rows.shape[0]
        labels = np.asarray(labels)
        if labels.shape != (count,) or (count and not 0 <= labels.min() <= labels.max() < len(centers)):
            raise InputError("labels", f"shape {labels.shape}", f"clusters from 0 to {len(centers) - 1}, one per row")
        self.labels_, self.centers_ = labels.astype(np.int32), np.asarray(centers, np.float32)
        self.eligible_ = np.ones(count, bool) if eligible is None else np.asarray(eligible)
        if self.eligible_.shape != (count,) or self.eligible_.dtype != bool or not self.eligible_.any():
            raise InputError("eligible", f"{self.eligible_.dtype} {self.eligible_.shape}", f"bool [{count}], one true")
        self.cluster_sizes_ = np.bincount(labels[self.eligible_], minlength=len(centers)).astype(np.int64)
        self.quality_, self.n_missing_quality_ = None, 0
        if quality is not None:
            self.quality_, self.n_missing_quality_ = fill_missing(quality, self.labels_, len(centers))
        spherical = bool((self.kmeans or {}).get("spherical", False))
        self.distances_ = distances_to_own_center(rows, self.labels_, self.centers_, spherical)
        self.indices_ = self.select(self.budget)
        self.cluster_budgets_ = np.bincount(self.labels_[self.indices_], minlength=len(centers)).astype(np.int64)
        return self

    def select(self, budget: int | float) -> np.ndarray:
        """Choose for another budget without clustering again: int64, ascending positions."""
        if not hasattr(self, "labels_"):
            raise NotFittedError("KMeansSelector.select before fit")
        count = resolve_budget(budget, int(self.eligible_.sum()))
        if count < int((self.cluster_sizes_ > 0).sum()):
            warnings.warn(
                f"a budget of {count} is below the number of clusters, {len(self.centers_)}: some give nothing. "
                "The method is meant for far fewer clusters than samples chosen.",
                stacklevel=2,
            )
        weights = None if self.allocation == "proportional" else np.ones(len(self.centers_))
        counts = allocate_budget(self.cluster_sizes_, count, weights)
        return self.draw(counts, self.eligible_, np.random.default_rng(self.random_state))

    def draw(self, counts: np.ndarray, eligible: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """``counts[j]`` rows of each cluster among those with ``eligible`` [n]: int64, ascending positions."""
        rows = np.flatnonzero(eligible)
        labels, k = self.labels_[rows], len(self.centers_)
        sampling = self._sampling(self.quality_)
        if sampling == "closest":
            taken = take_by_cluster(-self.distances_[rows].astype(np.float64), labels, counts)
        elif sampling == "median":
            taken = take_by_cluster(median_keys(self.distances_[rows].astype(np.float64), labels, k), labels, counts)
        elif sampling == "median-quality":
            assert self.quality_ is not None
            taken = take_by_cluster(median_keys(self.quality_[rows], labels, k), labels, counts)
        elif sampling == "quality":
            assert self.quality_ is not None
            if self.quality_temperature == 0:
                taken = take_by_cluster(self.quality_[rows], labels, counts, ties=rng.random(len(rows)))
            else:
                logs = log_quality_weights(
                    self.quality_[rows], labels, k, self.quality_temperature, self.quality_weights
                )
                draw = draw_with_replacement if self.replace else draw_by_weight
                taken = draw(logs, labels, counts, rng)
        else:
            draw = draw_with_replacement if self.replace else draw_by_weight
            taken = draw(np.zeros(len(rows)), labels, counts, rng)
        return rows[taken]

    def _sampling(self, quality: Any) -> Sampling:
        return self.sampling or ("random" if quality is None else "quality")

    def _check(self, quality: Any) -> None:
        as_seed(self.random_state)
        sampling = self._sampling(quality)
        if sampling not in SAMPLINGS:
            raise InputError("sampling", repr(self.sampling), f"one of {', '.join(SAMPLINGS)}, or None")
        if quality is None and sampling in ("quality", "median-quality"):
            raise InputError("quality", "nothing", f"one number per row, for sampling {sampling!r}")
        if self.allocation not in ("proportional", "equal"):
            raise InputError("allocation", repr(self.allocation), "proportional or equal")
        if isinstance(self.n_clusters, str) and self.n_clusters not in ("silhouette", "elbow"):
            raise InputError("n_clusters", repr(self.n_clusters), "a whole number, silhouette or elbow")
        if not 0 <= self.quality_temperature < float("inf"):
            raise InputError("quality_temperature", self.quality_temperature, "0 or a positive number")
        if self.replace and (sampling not in ("quality", "random") or self.quality_temperature == 0):
            raise InputError("replace", True, "False, except for draws: sampling quality (temperature above 0), random")


def distances_to_own_center(rows: Any, labels: np.ndarray, centers: np.ndarray, spherical: bool = False) -> np.ndarray:
    """Euclidean distance of each row (of unit rows where ``spherical``) to its own centre: float32 [n]."""
    found = np.empty(rows.shape[0], np.float32)
    for start, block in chunks(rows, chunk_rows(rows.shape[1], 16 * 2**20), "embeddings"):
        if spherical:
            block = unit_rows(block, start, "embeddings")
        difference = block - centers[labels[start : start + len(block)]]
        found[start : start + len(block)] = np.sqrt(np.einsum("ij,ij->i", difference, difference))
    return found
