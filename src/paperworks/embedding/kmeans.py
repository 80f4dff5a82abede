"""k-means (Lloyd's algorithm) over rows that may be larger than memory; faiss finds the nearest centres.

A pass reads the rows in chunks, assigns each to its nearest centre with faiss, and adds it to that centre's sum. Memory
beyond a chunk and the centres is a label and a distance for each row.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.exceptions import ConvergenceWarning, NotFittedError

from paperworks.embedding.rows import as_rows, chunk_rows, chunks, read_at, read_rows, unit_rows
from paperworks.errors import InputError
from paperworks.parameters import check_number, check_seed, check_whole
from paperworks.runs import Progress, no_progress

INIT_ROWS_PER_CLUSTER = 30
INIT_ROWS = 10_000
"""k-means++ draws its centres from this many rows, or ``INIT_ROWS_PER_CLUSTER`` for each cluster if that is more."""


class KMeans(ClusterMixin, BaseEstimator):
    """k-means clustering with bounded memory.

    Parameters
    ----------
    n_clusters : number of clusters, at most the number of rows.
    init : "k-means++" (greedy, on a sample of rows where there are many), "random" (distinct rows), or an array
        [n_clusters, d].
    n_init : how often to start; the result of least inertia is kept.
    max_iter : passes over the rows for each start.
    tol : stop when the squared movement of all centres is at most ``tol`` times the mean variance of a column.
    spherical : cluster unit rows by cosine: rows and centres are normalised, which is k-means on the unit sphere.
    max_rows_per_cluster : with more rows than this for each cluster, the centres come from a random sample of so many,
        which is read into memory; all rows then get their labels, and the inertia is of all (faiss: 256). None uses
        all rows in every pass.
    chunk_bytes : memory of the rows that are read at a time.
    random_state : seed.
    progress : called for each pass, as ``run.progress``.

    Attributes
    ----------
    cluster_centers_ : float32 [n_clusters, d].
    labels_ : int32 [n], the nearest centre of each row; of equally near ones, whichever faiss finds first.
    inertia_ : sum over rows of the squared Euclidean distance to the row's centre (of unit rows where ``spherical``).
    n_iter_ : passes of the start that was kept.

    Notes
    -----
    A cluster that loses all its rows is moved to the row that is farthest from its centre, as scikit-learn does. The
    same seed and number of threads give the same result.
    """

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        init: Literal["k-means++", "random"] | np.ndarray = "k-means++",
        n_init: int = 1,
        max_iter: int = 300,
        tol: float = 1e-4,
        spherical: bool = False,
        max_rows_per_cluster: int | None = None,
        chunk_bytes: int = 64 * 2**20,
        random_state: int = 0,
        progress: Progress = no_progress,
    ) -> None:
        self.n_clusters = n_clusters
        self.init = init
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.spherical = spherical
        self.max_rows_per_cluster = max_rows_per_cluster
        self.chunk_bytes = chunk_bytes
        self.random_state = random_state
        self.progress = progress

    def fit(self, X: Any, y: Any = None) -> KMeans:
        """Cluster the rows.

        Parameters
        ----------
        X : numbers [n, d]: an array, a memory map, or the path of a ``.npy`` file. Read as float32, in chunks.
        y : not used.

        Raises
        ------
        InputError : an option out of bounds, NaN, fewer rows than clusters, or zero rows where ``spherical``.
        """
        check_seed("random_state", self.random_state)
        rows = as_rows(X)
        self._check(rows.shape)
        rng = np.random.default_rng(self.random_state)
        everything, most = rows, self.max_rows_per_cluster
        if most is not None and most * self.n_clusters < rows.shape[0]:
            rows = read_rows(rows, np.sort(rng.choice(rows.shape[0], most * self.n_clusters, replace=False)))
        mean, variance = self._moments(rows)
        best: tuple[float, np.ndarray, np.ndarray, int] | None = None
        for _ in range(self.n_init):
            final = self.n_init > 1 or rows is everything  # else the labels of the sample are not needed
            found = self._lloyd(rows, self._start(rows, rng, mean), mean, variance, final)
            if best is None or found[0] < best[0]:
                best = found
        assert best is not None
        self.inertia_, centers, self.labels_, self.n_iter_ = best
        if rows is not everything:
            self.labels_, self.inertia_ = self._label(everything, centers, mean)
        self.cluster_centers_ = (centers + mean).astype(np.float32)
        self.n_features_in_ = rows.shape[1]
        return self

    def predict(self, X: Any) -> np.ndarray:
        """The nearest centre of each row of ``X`` [n, d]: int32 [n]."""
        if not hasattr(self, "cluster_centers_"):
            raise NotFittedError("KMeans.predict before fit")
        rows = as_rows(X)
        if rows.shape[1] != self.n_features_in_:
            raise InputError("X", f"{rows.shape[1]} columns", f"{self.n_features_in_}, as in fit")
        # Distances are computed from the centres' mean: rounding in float32 is relative to the distance from there.
        mean = np.zeros(rows.shape[1]) if self.spherical else self.cluster_centers_.mean(axis=0, dtype=np.float64)
        index = self._index(self.cluster_centers_ - mean)
        labels = np.empty(rows.shape[0], np.int32)
        for start, block in self._chunks(rows, mean, check=True):
            labels[start : start + len(block)] = index.search(block, 1)[1][:, 0]
        return labels

    def _check(self, shape: tuple[int, int]) -> None:
        for name in ("n_clusters", "n_init", "max_iter", "chunk_bytes"):
            check_whole(name, getattr(self, name), 1)
        if self.max_rows_per_cluster is not None:
            check_whole("max_rows_per_cluster", self.max_rows_per_cluster, 1, also="or None")
        check_number("tol", self.tol)
        if isinstance(self.init, str):
            if self.init not in ("k-means++", "random"):
                raise InputError("init", repr(self.init), "k-means++, random or an array of centres")
        elif np.shape(self.init) != (self.n_clusters, shape[1]):
            raise InputError("init", f"shape {np.shape(self.init)}", f"({self.n_clusters}, {shape[1]})")
        if self.n_clusters > shape[0]:
            raise InputError("n_clusters", self.n_clusters, f"at most the number of rows, {shape[0]}")

    def _chunks(self, rows: Any, mean: np.ndarray, check: bool = False) -> Iterator[tuple[int, np.ndarray]]:
        """Chunks as they are clustered; each is overwritten by the next."""
        shift = mean.astype(np.float32)
        size = min(chunk_rows(rows.shape[1], self.chunk_bytes), rows.shape[0])
        memory = np.empty((size, rows.shape[1]), np.float32)
        for start, block in chunks(rows, size, check=check):
            yield start, self._prepared(block, shift, start, memory[: len(block)])

    def _prepared(
        self, block: np.ndarray, shift: np.ndarray, start: int = 0, out: np.ndarray | None = None
    ) -> np.ndarray:
        return unit_rows(block, start) if self.spherical else np.subtract(block, shift, out=out)

    def _moments(self, rows: Any) -> tuple[np.ndarray, float]:
        """The column means that are subtracted (zeros where spherical), and the mean variance of a column."""
        count, width = rows.shape
        total, squares = np.zeros(width), np.zeros(width)
        pivot: np.ndarray | None = None
        for start, block in chunks(rows, chunk_rows(width, self.chunk_bytes)):
            if self.spherical:
                block = unit_rows(block, start)
            if pivot is None:
                pivot = block.mean(axis=0)
            block = block - pivot
            total += block.sum(axis=0, dtype=np.float64)
            squares += np.einsum("ij,ij->j", block, block, dtype=np.float64)
        assert pivot is not None
        variance = float((squares / count - (total / count) ** 2).mean())
        mean = np.zeros(width) if self.spherical else pivot + total / count
        return mean.astype(np.float32).astype(np.float64), max(variance, 0.0)

    def _start(self, rows: Any, rng: np.random.Generator, mean: np.ndarray) -> np.ndarray:
        if not isinstance(self.init, str):
            centers = np.asarray(self.init, np.float64) - mean
            return unit_rows(centers.astype(np.float32), field="init") if self.spherical else centers
        count = rows.shape[0]
        wanted = self.n_clusters
        if self.init == "k-means++":
            wanted = min(count, max(INIT_ROWS, INIT_ROWS_PER_CLUSTER * self.n_clusters))
        drawn = np.sort(rng.choice(count, wanted, replace=False))
        sample = self._prepared(read_rows(rows, drawn), mean.astype(np.float32))
        if self.init == "random":
            return sample
        return sample[_kmeans_plusplus(sample, self.n_clusters, rng)]

    def _lloyd(
        self, rows: Any, centers: np.ndarray, mean: np.ndarray, variance: float, final: bool = True
    ) -> tuple[float, np.ndarray, np.ndarray, int]:
        count = rows.shape[0]
        centers = np.asarray(centers, np.float32).copy()
        labels, before = np.full(count, -1, np.int32), np.empty(count, np.int32)
        distances = np.empty(count, np.float32)
        passes, moved = 0, np.inf
        for _ in self.progress(range(self.max_iter), "k-means passes", self.max_iter):
            labels, before = before, labels
            sums, sizes = self._assign(rows, centers, mean, labels, distances)
            passes += 1
            if np.array_equal(labels, before):
                break
            new = self._centers(rows, centers, mean, sums, sizes, labels, distances)
            moved = float(np.square(new - centers, dtype=np.float64).sum())
            centers = new
            if moved <= self.tol * variance:
                break
        if not final:
            return np.nan, centers, labels, passes
        # Labels and inertia are of the centres that are returned.
        self._assign(rows, centers, mean, labels, distances)
        found = len(np.unique(labels))
        if found < self.n_clusters:
            warnings.warn(
                f"{found} distinct clusters found, fewer than n_clusters = {self.n_clusters}: rows are duplicates",
                ConvergenceWarning,
                stacklevel=3,
            )
        return self._inertia(rows, centers, mean, labels), centers, labels, passes

    def _index(self, centers: np.ndarray) -> Any:
        import faiss

        kind = faiss.IndexFlatIP if self.spherical else faiss.IndexFlatL2
        index = kind(centers.shape[1])
        index.add(np.ascontiguousarray(centers, np.float32))
        return index

    def _assign(
        self, rows: Any, centers: np.ndarray, mean: np.ndarray, labels: np.ndarray, distances: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Fill labels and squared distances; returns each cluster's sum of rows, float64 [k, d], and size [k]."""
        from scipy.sparse import csr_array

        index = self._index(centers)
        sums = np.zeros(centers.shape)
        for start, block in self._chunks(rows, mean):
            end = start + len(block)
            score, nearest = index.search(block, 1)
            labels[start:end] = nearest[:, 0]
            distances[start:end] = 2 - 2 * score[:, 0] if self.spherical else score[:, 0]
            # Rows in the order of their cluster, so that the product adds them up one cluster at a time.
            order = np.argsort(nearest[:, 0], kind="stable").astype(np.int32)
            ends = np.searchsorted(nearest[order, 0], np.arange(len(centers) + 1)).astype(np.int32)
            member = csr_array((np.ones(len(block), np.float32), order, ends), shape=(len(centers), len(block)))
            sums += member @ block
        return sums, np.bincount(labels, minlength=len(centers))

    def _centers(
        self,
        rows: Any,
        centers: np.ndarray,
        mean: np.ndarray,
        sums: np.ndarray,
        sizes: np.ndarray,
        labels: np.ndarray,
        distances: np.ndarray,
    ) -> np.ndarray:
        empty = np.flatnonzero(sizes == 0)
        if len(empty):
            sums, sizes = sums.copy(), sizes.copy()
            far = np.argsort(-distances, kind="stable")[: len(empty)]
            far = far[distances[far] > 0]
            if len(far):
                moved = self._prepared(read_at(rows, far), mean.astype(np.float32)).astype(np.float64)
                for center, row, vector in zip(empty, far, moved, strict=False):
                    donor = labels[row]
                    if sizes[donor] > 1:  # else the row is its centre's only one
                        sums[donor] -= vector
                        sizes[donor] -= 1
                        sums[center], sizes[center] = vector, 1
        filled = sizes > 0
        new = centers.astype(np.float64)
        new[filled] = sums[filled] / sizes[filled, None]
        if self.spherical:
            norms = np.linalg.norm(new, axis=1, keepdims=True)
            new = np.divide(new, norms, out=centers.astype(np.float64), where=norms > 1e-12)
        return new.astype(np.float32)

    def _label(self, rows: Any, centers: np.ndarray, mean: np.ndarray) -> tuple[np.ndarray, float]:
        """Labels of rows that took no part, and the sum of their squared distances."""
        labels, total = np.empty(rows.shape[0], np.int32), 0.0
        index = self._index(centers)
        size = chunk_rows(rows.shape[1], self.chunk_bytes)
        blocks = self.progress(self._chunks(rows, mean, check=True), "assigning rows", -(-rows.shape[0] // size))
        for start, block in blocks:
            nearest = index.search(block, 1)[1][:, 0]
            labels[start : start + len(block)] = nearest
            block -= centers[nearest]
            total += float(np.einsum("ij,ij->", block, block, dtype=np.float64))
        return labels, total

    def _inertia(self, rows: Any, centers: np.ndarray, mean: np.ndarray, labels: np.ndarray) -> float:
        total = 0.0
        for start, block in self._chunks(rows, mean):
            block -= centers[labels[start : start + len(block)]]
            total += float(np.einsum("ij,ij->", block, block, dtype=np.float64))
        return total


def _kmeans_plusplus(rows: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    """Positions of k rows: Arthur and Vassilvitskii 2007, the best of 2 + log k draws at each step."""
    draws = 2 + int(np.log(k))
    norms = np.einsum("ij,ij->i", rows, rows)
    chosen = [int(rng.integers(len(rows)))]

    def distances(which: np.ndarray) -> np.ndarray:
        squared = rows @ rows[which].T
        squared *= -2
        squared += norms[:, None]
        squared += norms[which]
        np.maximum(squared, 0, out=squared)
        squared[which, np.arange(len(which))] = 0  # rounding must not draw a row twice
        return squared

    nearest = distances(np.array(chosen))[:, 0]
    while len(chosen) < k:
        weights = np.cumsum(nearest, dtype=np.float64)
        if weights[-1] <= 0:  # fewer distinct rows than clusters
            rest = np.setdiff1d(np.arange(len(rows)), chosen)
            return np.array([*chosen, *rest[: k - len(chosen)]])
        tried = np.searchsorted(weights, rng.random(draws) * weights[-1], side="right")
        tried = np.minimum(tried, len(rows) - 1)
        candidate = np.minimum(distances(tried), nearest[:, None])
        best = int(candidate.sum(axis=0, dtype=np.float64).argmin())
        chosen.append(int(tried[best]))
        nearest = candidate[:, best]
    return np.array(chosen)
