"""Nearest vectors by cosine: all of them while they are few, an inverted file of vectors in eight bits beyond.

The inverted file (k-means cells, of which the nearest are searched) has about 4 sqrt(n) cells, so that the time of a
search grows with sqrt(n); vectors are added and removed without building it again. Eight bits are a step of a 255th of
the range that a coordinate has: cosines are right to about 0.001.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

EXACT_BELOW = 10_000
PROBES = 96
CELLS_PER_ROOT = 4
POINTS_PER_CELL = 48
TRAINING_ROUNDS = 8


class VectorIndex:
    """Unit vectors with ids.

    Parameters
    ----------
    ids : int64 [n].
    vectors : float32 [n, d], unit rows.
    seed : of the k-means that makes the cells.
    """

    def __init__(self, ids: np.ndarray, vectors: np.ndarray, seed: int = 0) -> None:
        import faiss

        count, width = vectors.shape
        if count < EXACT_BELOW:
            self._index: Any = faiss.IndexIDMap2(
                faiss.IndexScalarQuantizer(width, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
            )
        else:
            cells = int(CELLS_PER_ROOT * count**0.5)
            self._coarse = faiss.IndexFlatIP(width)
            index = faiss.IndexIVFScalarQuantizer(
                self._coarse, width, cells, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT, False
            )
            index.cp.seed = (seed + 1) % 2**31
            index.cp.niter = TRAINING_ROUNDS
            index.cp.max_points_per_centroid = POINTS_PER_CELL
            index.cp.spherical = True
            self._index = index
        self._width = width
        if count:
            self._index.train(np.ascontiguousarray(vectors, np.float32))
            self._index.add_with_ids(np.ascontiguousarray(vectors, np.float32), np.asarray(ids, np.int64))

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def replace(self, ids: np.ndarray, vectors: np.ndarray) -> None:
        """Put vectors [n, d] in the place of those of the same ids, or beside the others."""
        self.remove(ids)
        if len(ids):
            self._index.add_with_ids(np.ascontiguousarray(vectors, np.float32), np.asarray(ids, np.int64))

    def remove(self, ids: np.ndarray) -> None:
        """Take vectors out; unknown ids are passed over."""
        if len(ids) and len(self):
            self._index.remove_ids(np.asarray(ids, np.int64))

    def nearest(
        self, query: np.ndarray, limit: int, allowed: Sequence[int] | np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The ids [k] nearest to a unit vector [d] and their cosines [k], best first; only ``allowed`` ids if given."""
        import faiss

        limit = min(limit, len(self))
        if limit < 1:
            return np.empty(0, np.int64), np.empty(0, np.float32)
        selector = None if allowed is None else faiss.IDSelectorBatch(np.asarray(allowed, np.int64))
        inverted = hasattr(self._index, "nlist")
        parameters: Any
        untyped: Any = faiss  # its stubs do not know the keyword arguments that it takes
        if inverted:
            # A restriction leaves fewer vectors per cell: more cells are searched for it.
            probes = PROBES if selector is None else max(PROBES, self._index.nlist // 4)
            parameters = untyped.SearchParametersIVF(sel=selector, nprobe=min(probes, self._index.nlist))
        else:
            parameters = untyped.SearchParameters(sel=selector)
        cosines, ids = self._index.search(np.ascontiguousarray(query[None], np.float32), limit, params=parameters)
        found = ids[0] >= 0
        return ids[0][found], cosines[0][found]

    def save(self, path: Path) -> None:
        """Write faiss's own format (not moved into place: the caller does that)."""
        import faiss

        faiss.write_index(self._index, str(path))

    @classmethod
    def load(cls, path: Path) -> VectorIndex:
        """Read what ``save`` wrote. Raises RuntimeError for a damaged file."""
        import faiss

        loaded = cls.__new__(cls)
        loaded._index = faiss.read_index(str(path))
        loaded._width = loaded._index.d
        return loaded
