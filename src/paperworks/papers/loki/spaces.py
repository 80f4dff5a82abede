"""Label spaces: a finite set of labels and the distance between any two of them.

    LabelSpace ── TreeSpace        labels are vertices of a weighted tree (all of them, or the leaves only)
               ├─ GraphSpace       labels are vertices of a connected weighted graph; shortest paths
               ├─ MatrixSpace      distances are given as a matrix
               ├─ EmbeddingSpace   labels are points; Euclidean or cosine distance
               └─ GridSpace        labels are points of a grid; L1 distance

A space gives rows of distances on demand. None but ``MatrixSpace`` holds a matrix of all pairs. Everything that needs
squared distances squares what a space gives, and only there (``squared``).
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from paperworks.errors import InputError, nearest

Label = Hashable
TOLERANCE = 1e-9
"""Two Frechet variances are equal when they differ by less than this share of the scale of their row."""


class LabelSpace(ABC):
    """A finite metric space of labels.

    Parameters
    ----------
    labels : N different labels (text or numbers), in the order of all indices.
    metric : whether the distances are a metric. Cost matrices that are none can be used for predictions; what is said
        about loci on trees does not hold for them.
    """

    kind: str = ""

    def __init__(self, labels: Sequence[Label], *, metric: bool = True) -> None:
        self.labels: tuple[Label, ...] = tuple(x.item() if isinstance(x, np.generic) else x for x in labels)
        self.metric = metric
        if not self.labels:
            raise InputError("labels", "no labels", "at least one label")
        self._index: dict[Label, int] = {label: i for i, label in enumerate(self.labels)}
        if len(self._index) < len(self.labels):
            seen: set[Label] = set()
            twice = next(x for x in self.labels if x in seen or seen.add(x))  # type: ignore[func-returns-value]
            raise InputError("labels", f"{twice!r} twice", "labels that all differ")

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} labels)"

    @abstractmethod
    def distances(self, rows: np.ndarray | Sequence[int], cols: np.ndarray | Sequence[int] | None = None) -> np.ndarray:
        """Distances float64 ``[len(rows), len(cols)]`` between labels given by index; all labels without ``cols``."""

    def squared(self, rows: np.ndarray | Sequence[int], cols: np.ndarray | Sequence[int] | None = None) -> np.ndarray:
        """Squared distances, as ``distances``."""
        found = self.distances(rows, cols)
        return np.multiply(found, found, out=found)

    def paired(self, left: np.ndarray, right: np.ndarray, *, block: int = 256) -> np.ndarray:
        """Distance of each pair ``(left[i], right[i])``, float64 ``[n]``, without a matrix of all pairs."""
        left, right = np.asarray(left, dtype=np.int64), np.asarray(right, dtype=np.int64)
        out = np.empty(len(left))
        order = np.argsort(right, kind="stable")
        sources, starts = np.unique(right[order], return_index=True)
        bounds = [*starts.tolist(), len(order)]
        for at in range(0, len(sources), block):
            rows = self.distances(sources[at : at + block])
            for offset in range(len(rows)):
                members = order[bounds[at + offset] : bounds[at + offset + 1]]
                out[members] = rows[offset, left[members]]
        return out

    def index(self, labels: Sequence[Label] | np.ndarray, field: str = "labels") -> np.ndarray:
        """Indices int64 of labels. Raises InputError naming the first one that the space does not have.

        A label is looked up as it is, then as text, then as a whole number, so that ``3``, ``3.0`` and ``"3"`` meet.
        """
        given = labels.tolist() if isinstance(labels, np.ndarray) else list(labels)
        out = np.empty(len(given), dtype=np.int64)
        for at, label in enumerate(given):
            found = self._look_up(label)
            if found is None:
                known = [str(x) for x in self.labels[:2000]]
                few = ", ".join(known[:8]) + (", ..." if len(self) > 8 else "")
                raise InputError(
                    field, f"{label!r}", f"a label of the space{nearest(str(label), known)}; it has {len(self)}: {few}"
                )
            out[at] = found
        return out

    def _look_up(self, label: Any) -> int | None:
        found = self._index.get(label)
        if found is None and not isinstance(label, str):
            if isinstance(label, float) and label.is_integer():
                label = int(label)
            found = self._index.get(label, self._index.get(str(label)))
        elif found is None:
            with_number: Any = None
            try:
                with_number = float(label)
            except ValueError:
                return None
            found = self._index.get(int(with_number) if with_number.is_integer() else with_number)
        return found

    def diameter(self) -> float:
        """The largest distance. Trees, grids and graphs of up to some thousand labels: exact; O(N^2) in general."""
        return max(
            float(self.distances(np.arange(at, min(at + 256, len(self)))).max()) for at in range(0, len(self), 256)
        )

    def farthest_pair(self) -> tuple[int, int]:
        """Two labels whose distance is the diameter; the first such pair in lexical order of indices."""
        best, pair = -1.0, (0, 0)
        for at in range(0, len(self), 256):
            rows = self.distances(np.arange(at, min(at + 256, len(self))))
            here = int(np.argmax(rows))
            if rows.flat[here] > best:
                best = float(rows.flat[here])
                pair = (at + here // len(self), here % len(self))
        return pair

    def check(self, *, samples: int = 2000, seed: int = 0) -> None:
        """Check zero diagonal, symmetry, positive distances and (for a metric) the triangle inequality on a sample.

        Raises InputError naming the labels at fault.
        """
        rng = np.random.default_rng(seed)
        chosen = np.sort(rng.permutation(len(self))[: max(2, round(samples ** (1 / 2)))])
        block = self.distances(chosen, chosen)
        name = [repr(self.labels[i]) for i in chosen]
        scale = float(np.max(block)) if np.isfinite(block).all() else np.inf
        for i, j in itertools.product(range(len(chosen)), repeat=2):
            d = block[i, j]
            if not np.isfinite(d) or d < 0:
                raise InputError("distances", f"{d} between {name[i]} and {name[j]}", "finite numbers of at least 0")
            if i == j and d > TOLERANCE * scale:
                raise InputError("distances", f"{d} between {name[i]} and itself", "0")
            if abs(d - block[j, i]) > TOLERANCE * scale:
                raise InputError(
                    "distances", f"{d} from {name[i]} to {name[j]} and {block[j, i]} back", "a symmetric distance"
                )
            if i != j and self.metric and d == 0:
                raise InputError("distances", f"0 between {name[i]} and {name[j]}", "a positive distance, or one label")
        if not self.metric:
            return
        for middle in range(len(chosen)):
            excess = block - (block[:, [middle]] + block[[middle], :])
            i, j = divmod(int(np.argmax(excess)), len(chosen))
            if excess[i, j] > 1e-6 * scale:
                raise InputError(
                    "distances",
                    f"{block[i, j]:g} from {name[i]} to {name[j]}, and {block[i, middle]:g} + {block[middle, j]:g} "
                    f"by way of {name[middle]}",
                    "the triangle inequality, or metric=False for a cost matrix",
                )


class MatrixSpace(LabelSpace):
    """Distances given as a matrix float64 ``[N, N]``, symmetric, with a zero diagonal."""

    kind = "matrix"

    def __init__(self, matrix: np.ndarray, labels: Sequence[Label] | None = None, *, metric: bool = True) -> None:
        matrix = np.array(matrix, dtype=np.float64)
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
            raise InputError("distances", f"an array of shape {matrix.shape}", "a square matrix [N, N]")
        super().__init__(range(len(matrix)) if labels is None else labels, metric=metric)
        if len(self) != len(matrix):
            raise InputError("labels", f"{len(self)} labels", f"{len(matrix)}, one per row of the matrix")
        self.matrix = matrix
        self.check()

    def distances(self, rows: Any, cols: Any = None) -> np.ndarray:
        """See ``LabelSpace.distances``."""
        rows = np.asarray(rows, dtype=np.int64)
        return self.matrix[rows].copy() if cols is None else self.matrix[np.ix_(rows, np.asarray(cols, dtype=np.int64))]


class ComputedSpace(LabelSpace):
    """Complete graph (all labels at distance 1) or cycle (steps the shorter way round)."""

    def __init__(self, kind: Literal["complete", "cycle"], labels: Sequence[Label]) -> None:
        super().__init__(labels)
        self.kind = kind

    def distances(self, rows: Any, cols: Any = None) -> np.ndarray:
        """See ``LabelSpace.distances``."""
        left = np.asarray(rows, dtype=np.int64)[:, None]
        right = np.arange(len(self))[None] if cols is None else np.asarray(cols, dtype=np.int64)[None]
        if self.kind == "complete":
            return (left != right).astype(np.float64)
        steps = np.abs(left - right)
        return np.minimum(steps, len(self) - steps).astype(np.float64)

    def diameter(self) -> float:
        """See ``LabelSpace.diameter``."""
        return float(len(self) > 1) if self.kind == "complete" else float(len(self) // 2)


class EmbeddingSpace(LabelSpace):
    """Labels as points.

    Parameters
    ----------
    points : float ``[N, m]``.
    distance : ``euclidean``; or ``cosine``, which is the Euclidean distance of the points scaled to length 1, so that
        its square is 2 - 2 cos.
    """

    kind = "embedding"

    def __init__(
        self,
        points: np.ndarray,
        labels: Sequence[Label] | None = None,
        *,
        distance: Literal["euclidean", "cosine"] = "euclidean",
    ) -> None:
        points = np.array(points, dtype=np.float64)
        if points.ndim != 2 or points.size == 0:
            raise InputError("embeddings", f"an array of shape {points.shape}", "one row of numbers per label, [N, m]")
        if not np.isfinite(points).all():
            raise InputError("embeddings", "NaN or infinite values", "finite numbers")
        if distance not in ("euclidean", "cosine"):
            raise InputError("distance", repr(distance), "'euclidean' or 'cosine'")
        if distance == "cosine":
            length = np.linalg.norm(points, axis=1, keepdims=True)
            if (length == 0).any():
                raise InputError(
                    "embeddings", f"a zero vector in row {int(np.argmin(length))}", "vectors with a length"
                )
            points = points / length
        super().__init__(range(len(points)) if labels is None else labels)
        if len(self) != len(points):
            raise InputError("labels", f"{len(self)} labels", f"{len(points)}, one per row of the embeddings")
        self.points, self.distance = points, distance
        self.norms = np.einsum("ij,ij->i", points, points)

    def distances(self, rows: Any, cols: Any = None) -> np.ndarray:
        """See ``LabelSpace.distances``."""
        return np.sqrt(self.squared(rows, cols))

    def squared(self, rows: Any, cols: Any = None) -> np.ndarray:
        """See ``LabelSpace.squared``."""
        rows = np.asarray(rows, dtype=np.int64)
        others = slice(None) if cols is None else np.asarray(cols, dtype=np.int64)
        found = self.norms[rows][:, None] + self.norms[others][None] - 2 * self.points[rows] @ self.points[others].T
        # cancellation leaves about 1e-16 of the norms where the distance is 0
        found[found < 1e-14 * (self.norms[rows][:, None] + self.norms[others][None])] = 0
        return found


class GridSpace(LabelSpace):
    """Points of a grid under the L1 distance; labels are tuples of coordinates in row-major order."""

    kind = "grid"

    def __init__(self, shape: Sequence[int], labels: Sequence[Label] | None = None) -> None:
        self.shape = tuple(int(s) for s in shape)
        if not self.shape or any(s < 1 for s in self.shape):
            raise InputError("shape", tuple(shape), "sizes of at least 1 along every axis")
        super().__init__(list(itertools.product(*map(range, self.shape))) if labels is None else labels)
        if len(self) != int(np.prod(self.shape)):
            raise InputError("labels", f"{len(self)} labels", f"{int(np.prod(self.shape))}, one per point of the grid")
        self.coordinates = np.stack(np.unravel_index(np.arange(len(self)), self.shape), axis=1)

    def distances(self, rows: Any, cols: Any = None) -> np.ndarray:
        """See ``LabelSpace.distances``."""
        left = self.coordinates[np.asarray(rows, dtype=np.int64)]
        right = self.coordinates if cols is None else self.coordinates[np.asarray(cols, dtype=np.int64)]
        out = np.zeros((len(left), len(right)))
        for axis in range(len(self.shape)):
            out += np.abs(left[:, axis, None] - right[None, :, axis])
        return out

    def diameter(self) -> float:
        """See ``LabelSpace.diameter``."""
        return float(sum(s - 1 for s in self.shape))

    def farthest_pair(self) -> tuple[int, int]:
        """See ``LabelSpace.farthest_pair``."""
        return 0, len(self) - 1


def complete(n: int | Sequence[Label]) -> ComputedSpace:
    """Labels that are all equally far apart (distance 1). Loki on it is the argmax."""
    return ComputedSpace("complete", range(n) if isinstance(n, int) else n)


def cycle(n: int | Sequence[Label]) -> ComputedSpace:
    """Labels on a circle, such as months or directions; neighbours have distance 1."""
    return ComputedSpace("cycle", range(n) if isinstance(n, int) else n)


def describe(space: LabelSpace) -> Mapping[str, Any]:
    """What a space is, for reports: its kind, number of labels and diameter."""
    return {"kind": space.kind, "labels": len(space), "diameter": space.diameter()}
