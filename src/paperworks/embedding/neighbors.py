"""Nearest neighbours: exact ones for any number of rows in bounded memory, approximate ones through faiss.

The exact search multiplies blocks in float32 and keeps every candidate that rounding leaves in doubt; candidates are
measured again in float64, one pair at a time. The result is that of a full float64 comparison, ties included.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError

from paperworks.embedding.rows import as_rows, chunks, read_at, read_rows, unit_rows
from paperworks.errors import InputError
from paperworks.parameters import check_seed, check_whole
from paperworks.runs import Progress, no_progress

Metric = Literal["euclidean", "cosine", "inner_product"]
QUERY_ROWS = 512
BLOCK_BYTES = 16 * 2**20
PAIRS = 2**20
"""Pairs that are measured in float64 at a time."""


class NearestNeighbors(BaseEstimator):
    """Nearest rows by Euclidean distance, cosine or inner product.

    Parameters
    ----------
    n_neighbors : neighbours of a query.
    metric : "euclidean", "cosine" (distance 1 - cosine) or "inner_product" (distance: minus the product).
    algorithm : "exact", or "approximate": faiss's inverted file, of which ``n_probe`` cells are searched. Distances of
        the neighbours found are exact either way.
    n_probe : cells that the approximate search looks into, of about 4 sqrt(n).
    random_state : seed of the cells.
    progress : called for blocks of queries, as ``run.progress``.
    """

    def __init__(
        self,
        n_neighbors: int = 5,
        *,
        metric: Metric = "euclidean",
        algorithm: Literal["exact", "approximate"] = "exact",
        n_probe: int = 32,
        random_state: int = 0,
        progress: Progress = no_progress,
    ) -> None:
        self.n_neighbors = n_neighbors
        self.metric = metric
        self.algorithm = algorithm
        self.n_probe = n_probe
        self.random_state = random_state
        self.progress = progress

    def fit(self, X: Any, y: Any = None) -> NearestNeighbors:
        """Take the rows to search: numbers [n, d], an array, a memory map or the path of a ``.npy`` file."""
        check_seed("random_state", self.random_state)
        check_whole("n_neighbors", self.n_neighbors, 1)
        check_whole("n_probe", self.n_probe, 1)
        if self.metric not in ("euclidean", "cosine", "inner_product"):
            raise InputError("metric", repr(self.metric), "euclidean, cosine or inner_product")
        if self.algorithm not in ("exact", "approximate"):
            raise InputError("algorithm", repr(self.algorithm), "exact or approximate")
        rows = as_rows(X)
        size = _block_rows(rows)
        total, largest = np.zeros(rows.shape[1]), 0.0
        for start, block in chunks(rows, size):
            if self.metric == "cosine":
                unit_rows(block, start)  # refuses zero rows
            total += block.sum(axis=0, dtype=np.float64)
        # Distances do not change when all rows are moved; around their mean, rounding is least.
        shift = total / rows.shape[0] if self.metric == "euclidean" else np.zeros(rows.shape[1])
        self._shift = shift.astype(np.float32)
        if self.metric != "cosine":
            for _, block in chunks(rows, size, check=False):
                largest = max(largest, float(np.einsum("ij,ij->i", *(2 * [block - self._shift])).max()) ** 0.5)
        self._largest = 1.0 if self.metric == "cosine" else largest
        self._rows = rows
        self.n_samples_fit_, self.n_features_in_ = rows.shape
        self._index: Any = self._cells() if self.algorithm == "approximate" else None
        return self

    def kneighbors(self, X: Any = None, n_neighbors: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """The nearest rows of each query, nearest first.

        Parameters
        ----------
        X : queries [m, d]; None asks for the neighbours of the rows themselves, each without itself.
        n_neighbors : instead of the estimator's.

        Returns
        -------
        (distances float64 [m, k], positions int64 [m, k]). Of equal distances the smaller position is first. Where the
        approximate search finds fewer than k, distances are infinite and positions -1.
        """
        if not hasattr(self, "_rows"):
            raise NotFittedError("NearestNeighbors.kneighbors before fit")
        queries = self._rows if X is None else as_rows(X)
        k = self.n_neighbors if n_neighbors is None else n_neighbors
        most = self.n_samples_fit_ - (X is None)
        if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or not 1 <= k <= most:
            raise InputError("n_neighbors", repr(k), f"a whole number from 1 to {most}, the rows there are")
        if queries.shape[1] != self.n_features_in_:
            raise InputError("X", f"{queries.shape[1]} columns", f"{self.n_features_in_}, as in fit")
        distances = np.empty((queries.shape[0], k))
        positions = np.empty((queries.shape[0], k), np.int64)
        starts = range(0, queries.shape[0], QUERY_ROWS)
        for start in self.progress(starts, "nearest neighbours", len(starts)):
            raw = read_rows(queries, slice(start, start + QUERY_ROWS))
            if self.metric == "cosine":
                unit_rows(raw, start)
            own = np.arange(start, start + len(raw)) if X is None else np.full(len(raw), -1)
            found = self._near(raw, own, k) if self._index is None else self._probably_near(raw, own, k)
            distances[start : start + len(raw)], positions[start : start + len(raw)] = found
        return distances, positions

    def _prepared(self, block: np.ndarray, start: int = 0) -> np.ndarray:
        return unit_rows(block, start) if self.metric == "cosine" else block - self._shift

    def _near(self, raw: np.ndarray, own: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        queries = self._prepared(raw)
        lengths = np.linalg.norm(queries, axis=1)
        # Twice the rounding error of a product of d terms in float32, and of the shifted squares around it.
        terms = queries.shape[1] + 8
        doubt = 4 * terms * np.finfo(np.float32).eps * (lengths + self._largest) ** 2
        far, near = np.full((len(raw), k), np.inf), np.full((len(raw), k), self.n_samples_fit_)
        for start, block in chunks(self._rows, _block_rows(self._rows), check=False):
            others = self._prepared(block, start)
            rough = queries @ others.T
            rough *= -1
            if self.metric == "euclidean":
                rough *= 2
                rough += np.einsum("ij,ij->i", others, others)
                rough += (lengths**2)[:, None].astype(np.float32)
            inside = (own >= start) & (own < start + len(block))
            rough[np.flatnonzero(inside), own[inside] - start] = np.inf
            limit = self._rough(far[:, -1])
            if not np.isfinite(limit).all():  # the first block: its own k-th is a limit
                here = min(k, len(block)) - 1
                limit = np.minimum(limit, np.partition(rough, here, axis=1)[:, here] if here == k - 1 else np.inf)
            bound = np.where(np.isfinite(limit), limit + doubt, np.finfo(np.float32).max)
            query, column = np.nonzero(rough <= bound[:, None].astype(np.float32))
            if len(query):
                exact = self._measure(raw, query, block, column)
                far, near = _merge(far, near, query, column + start, exact)
        return far, near

    def _rough(self, distance: np.ndarray) -> np.ndarray:
        """Distances as the blocks are compared: squared, or minus the product."""
        if self.metric == "euclidean":
            return distance**2
        return distance - 1 if self.metric == "cosine" else distance

    def _measure(self, raw: np.ndarray, query: np.ndarray, block: np.ndarray, column: np.ndarray) -> np.ndarray:
        """Distances in float64 of pairs of rows, each computed alone, so that equal pairs are equal."""
        out = np.empty(len(query))
        step = max(1, PAIRS * 16 // raw.shape[1])
        for at in range(0, len(query), step):
            left = raw[query[at : at + step]].astype(np.float64)
            right = block[column[at : at + step]].astype(np.float64)
            if self.metric == "euclidean":
                left -= right
                out[at : at + step] = np.sqrt(np.einsum("ij,ij->i", left, left))
                continue
            product = np.einsum("ij,ij->i", left, right)
            if self.metric == "cosine":
                product /= np.sqrt(np.einsum("ij,ij->i", left, left) * np.einsum("ij,ij->i", right, right))
                product = 1 - np.clip(product, -1, 1)
                out[at : at + step] = np.round(product, 14)  # parallel rows of different length are equally near
            else:
                out[at : at + step] = -product
        return out

    def _cells(self) -> Any:
        import faiss

        count, width = self._rows.shape
        metric = faiss.METRIC_L2 if self.metric == "euclidean" else faiss.METRIC_INNER_PRODUCT
        cells = max(1, min(int(4 * count**0.5), count // 39))  # faiss asks for 39 rows or more for each cell
        coarse = faiss.IndexFlat(width, metric)
        index = faiss.IndexIVFFlat(coarse, width, cells, metric)
        self._coarse = coarse  # the index does not own it
        index.cp.seed, index.cp.niter = self.random_state + 1, 10
        index.cp.spherical = self.metric == "cosine"
        rng = np.random.default_rng(self.random_state)
        sample = np.sort(rng.choice(count, min(count, 64 * cells), replace=False))
        index.train(self._prepared(read_rows(self._rows, sample)))
        for start, block in chunks(self._rows, _block_rows(self._rows), check=False):
            index.add(self._prepared(block, start))
        index.nprobe = min(self.n_probe, cells)
        return index

    def _probably_near(self, raw: np.ndarray, own: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        found = self._index.search(self._prepared(raw), min(k + int(own[0] >= 0), self.n_samples_fit_))[1]
        query, place = np.nonzero((found >= 0) & (found != own[:, None]))
        far, near = np.full((len(raw), k), np.inf), np.full((len(raw), k), self.n_samples_fit_)
        if len(query):
            columns = found[query, place]
            unique, inverse = np.unique(columns, return_inverse=True)
            exact = self._measure(raw, query, read_at(self._rows, unique), inverse)
            far, near = _merge(far, near, query, columns, exact)
        return far, np.where(np.isfinite(far), near, -1)


def _block_rows(rows: Any) -> int:
    return max(1, min(BLOCK_BYTES // (4 * rows.shape[1]), 16 * 2**20 // QUERY_ROWS))


def _merge(
    far: np.ndarray, near: np.ndarray, query: np.ndarray, position: np.ndarray, distance: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The k best of those known [m, k] and new pairs (query, position, distance), by distance, then position."""
    m, k = far.shape
    all_query = np.concatenate([np.repeat(np.arange(m), k), query])
    all_far = np.concatenate([far.ravel(), distance])
    all_near = np.concatenate([near.ravel(), position])
    order = np.lexsort((all_near, all_far, all_query))
    starts = np.searchsorted(all_query[order], np.arange(m))
    best = order[starts[:, None] + np.arange(k)]
    return all_far[best], all_near[best]
