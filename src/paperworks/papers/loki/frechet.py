"""The rule of Loki: the label of least Frechet variance, weighted by what a classifier gives the labels it knows.

    S(v) = sum over observed l of p_l d(v, l)^2          [B, K] x [K, N] -> [B, N]
    prediction = argmin over all labels v of S(v)

``FrechetMean`` prepares a label space and the observed labels once. Where the space has a shape, no
N x K matrix is made:

| space | variances of all labels | prediction alone |
| --- | --- | --- |
| tree | one pass up, one down, O(N) a row | on the tree of the observed labels, O(K log) a row |
| embedding | one product with the weighted mean | nearest label to the weighted mean |
| grid | one and two-axis moments, O(N) a row | the same |
| others | rows of squared distances for observed labels, in blocks | the same |
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np

from paperworks.errors import InputError
from paperworks.papers.loki.graphs import TreeSpace
from paperworks.papers.loki.spaces import TOLERANCE, EmbeddingSpace, GridSpace, LabelSpace

Path = Literal["auto", "dense", "tree", "embedding", "grid", "blocks"]
Tie = Literal["first", "nearest-observed", "random"]
PATHS: tuple[str, ...] = ("auto", "dense", "tree", "embedding", "grid", "blocks")
TIES: tuple[str, ...] = ("first", "nearest-observed", "random")

DENSE_BYTES = 256 * 2**20
"""Up to this size the rows of squared distances are kept; larger ones are made anew, block by block, in every call."""

BLOCK_VALUES = 2**24
"""Values of a block of rows or variances."""


def as_weights(weights: Any, n_observed: int, field: str = "probabilities") -> np.ndarray:
    """Check the weights of the observed labels; float64 ``[B, K]``.

    A positive factor per row does not change a prediction, so outputs of one-vs-rest classifiers need no scaling.
    Raises InputError for another shape, NaN, infinities, negative values and rows of zeros. Warns where rows do not
    sum to 1, since logits are often passed by mistake.
    """
    try:
        given = np.asarray(weights, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(field, "values that are not numbers", "an array of numbers [B, K]") from None
    given = given[None] if given.ndim == 1 else given
    if given.ndim != 2 or given.shape[1] != n_observed:
        raise InputError(field, f"an array of shape {np.shape(weights)}", f"[rows, {n_observed}], a column per class")
    if not np.isfinite(given).all():
        row = int(np.flatnonzero(~np.isfinite(given).all(axis=1))[0])
        raise InputError(field, f"NaN or infinite values in row {row}", "finite numbers of at least 0")
    if (given < 0).any():
        row = int(np.flatnonzero((given < 0).any(axis=1))[0])
        raise InputError(
            field,
            f"{given[row].min():g} in row {row}",
            "probabilities of at least 0; if these are logits, take their softmax first",
        )
    total = given.sum(axis=1)
    if (total == 0).any():
        raise InputError(field, f"only zeros in row {int(np.argmin(total))}", "a class with a probability above 0")
    if len(total) and np.abs(total - 1).max() > 1e-2:
        warnings.warn(
            f"{field}: rows sum to {total.min():.4g} up to {total.max():.4g}. They are used as weights, as for "
            "one-vs-rest classifiers. If they are logits, take their softmax first.",
            UserWarning,
            stacklevel=3,
        )
    return given


class FrechetMean:
    """Weighted Frechet means over a label space, of weights on its observed labels.

    Parameters
    ----------
    space : the label space Y, N labels.
    observed : indices of the K observed labels, one per column of the weights. Repeated labels add their weights.
    path : how it is computed; ``auto`` takes the fast exact path of the space. All give the same predictions.
    """

    def __init__(self, space: LabelSpace, observed: Sequence[int] | np.ndarray, path: Path = "auto") -> None:
        self.space = space
        self.observed = np.asarray(observed, dtype=np.int64)
        if self.observed.ndim != 1 or not len(self.observed):
            raise InputError("observed", "no labels", "at least one observed label")
        if self.observed.min() < 0 or self.observed.max() >= len(space):
            wrong = self.observed[(self.observed < 0) | (self.observed >= len(space))]
            raise InputError("observed", int(wrong[0]), f"indices from 0 to {len(space) - 1}")
        if path not in PATHS:
            raise InputError("path", repr(path), f"one of {', '.join(PATHS)}")
        own = space.kind if space.kind in ("tree", "embedding", "grid") else "dense"
        if path not in ("auto", "dense", "blocks", own):
            raise InputError("path", repr(path), f"auto, dense, blocks or {own}, for a space of kind {space.kind}")
        chosen = own if path == "auto" else path
        if path == "auto" and chosen == "dense" and 8 * len(self.observed) * len(space) > DENSE_BYTES:
            chosen = "blocks"
        self.path: str = chosen
        among = np.unique(self.observed)
        self._scale = max(
            float(space.distances(among[at : at + 64], among).max()) ** 2 for at in range(0, len(among), 64)
        )
        self._rows = space.squared(self.observed) if chosen == "dense" else None
        self._small: tuple[np.ndarray, ...] | None = None
        if isinstance(space, TreeSpace) and chosen == "tree" and space.whole:
            self._small = _small_tree(space, self.observed)

    def variances(self, weights: Any) -> np.ndarray:
        """Frechet variance of every label, float64 ``[B, N]``."""
        return self._variances(as_weights(weights, len(self.observed)))

    def predict(self, weights: Any, *, tie: Tie = "first", rng: np.random.Generator | None = None) -> np.ndarray:
        """The label of least variance for each row, int64 ``[B]``.

        Labels whose variances differ by less than 1e-9 of their scale are tied: ``first`` takes the lowest index,
        ``nearest-observed`` the one nearest to the observed label of most weight, ``random`` (with ``rng``) any.
        """
        if tie not in TIES:
            raise InputError("tie", repr(tie), f"one of {', '.join(TIES)}; or use minimisers() for all of them")
        if tie == "random" and rng is None:
            raise InputError("rng", "nothing", "a numpy generator with tie='random'")
        given = as_weights(weights, len(self.observed))
        out = np.empty(len(given), dtype=np.int64)
        for at, minimal in enumerate(self._minimal(given)):
            if len(minimal) == 1 or tie == "first":
                out[at] = minimal[0]
            elif tie == "random":
                assert rng is not None
                out[at] = rng.choice(minimal)
            else:
                heaviest = self.observed[int(np.argmax(given[at]))]
                out[at] = minimal[int(np.argmin(self.space.distances([heaviest], minimal)[0]))]
        return out

    def minimisers(self, weights: Any) -> list[np.ndarray]:
        """All labels of least variance for each row, sorted."""
        return list(self._minimal(as_weights(weights, len(self.observed))))

    def expected_cost(self, weights: Any, power: float) -> np.ndarray:
        """The label of least expected ``d ** power`` per row; power 1 is the decision of minimum expected cost."""
        given = as_weights(weights, len(self.observed))
        if power == 2:
            return self.predict(given)
        total = np.zeros((len(given), len(self.space)))
        for k, row in self._distance_blocks():
            total += given[:, k] @ row**power
        return np.argmin(total, axis=1)

    def _distance_blocks(self) -> Iterator[tuple[slice, np.ndarray]]:
        step = max(1, BLOCK_VALUES // len(self.space))
        for at in range(0, len(self.observed), step):
            k = slice(at, at + step)
            yield k, self.space.distances(self.observed[k])

    def _minimal(self, weights: np.ndarray) -> Iterator[np.ndarray]:
        tolerance = TOLERANCE * self._scale * weights.sum(axis=1)
        if self._small is not None:
            yield from self._minimal_on_tree(weights, tolerance)
            return
        step = max(1, BLOCK_VALUES // len(self.space))
        for at in range(0, len(weights), step):
            found = self._variances(weights[at : at + step])
            least = found.min(axis=1) + tolerance[at : at + step]
            for row, bound in zip(found, least, strict=True):
                yield np.flatnonzero(row <= bound)

    def _minimal_on_tree(self, weights: np.ndarray, tolerance: np.ndarray) -> Iterator[np.ndarray]:
        from paperworks.papers.loki import kernels

        assert self._small is not None
        assert isinstance(self.space, TreeSpace)
        best = np.empty((len(weights), 2), dtype=np.int64)
        value = np.empty((len(weights), 2))
        search: Any = kernels.argmin_on_paths
        search(*self._small, np.ascontiguousarray(weights.T), best, value)
        tied = value[:, 1] <= value[:, 0] + tolerance
        label = self.space.label_of_node
        for pair, both in zip(best, tied, strict=True):
            yield np.sort(label[pair]) if both else label[pair[:1]]

    def _variances(self, weights: np.ndarray) -> np.ndarray:
        if self.path == "tree":
            return self._by_rerooting(weights)
        if self.path == "embedding":
            return self._by_mean(weights)
        if self.path == "grid":
            return self._by_axes(weights)
        if self._rows is not None:
            return weights @ self._rows
        out = np.zeros((len(weights), len(self.space)))
        for k, rows in self._distance_blocks():
            np.multiply(rows, rows, out=rows)
            out += weights[:, k] @ rows
        return out

    def _by_rerooting(self, weights: np.ndarray) -> np.ndarray:
        from paperworks.papers.loki import kernels

        space = self.space
        assert isinstance(space, TreeSpace)
        out = np.empty((space.n_nodes, len(weights)))
        nodes = space.node[self.observed]
        kernels.reroot(space.parent, space.length, nodes, np.ascontiguousarray(weights.T), 8, out)
        return np.ascontiguousarray(out[space.node].T)

    def _by_mean(self, weights: np.ndarray) -> np.ndarray:
        """sum_l p_l ||v - l||^2 = P ||v - m||^2 + sum_l p_l ||l - m||^2 with P = sum p and m = sum p l / P."""
        space = self.space
        assert isinstance(space, EmbeddingSpace)
        centre = space.points[self.observed].mean(axis=0)  # differences lose less where the norms are small
        points, own = space.points - centre, space.points[self.observed] - centre
        total = weights.sum(axis=1, keepdims=True)
        mean = weights @ own / total
        norms = np.einsum("ij,ij->i", points, points)
        spread = weights @ np.einsum("ij,ij->i", own, own)[:, None]
        return total * (norms[None] - 2 * mean @ points.T) + spread

    def _by_axes(self, weights: np.ndarray) -> np.ndarray:
        """(sum_a |x_a|)^2 = sum_a x_a^2 + 2 sum_{a<b} |x_a| |x_b|: sums over one axis and over two axes at a time."""
        space = self.space
        assert isinstance(space, GridSpace)
        shape, place = space.shape, space.coordinates[self.observed]
        out = np.zeros((len(weights), *shape))
        for a, size in enumerate(shape):
            steps = np.abs(np.arange(size)[:, None] - place[None, :, a]).astype(np.float64)  # [size, K]
            out += (weights @ (steps**2).T).reshape(-1, *(size if axis == a else 1 for axis in range(len(shape))))
            for b in range(a + 1, len(shape)):
                mass = np.zeros((len(weights), size, shape[b]))
                where: Any = (slice(None), place[:, a], place[:, b])
                np.add.at(mass, where, weights)
                crossed = _absolute(_absolute(mass, 1), 2)
                kept = tuple(shape[axis] if axis in (a, b) else 1 for axis in range(len(shape)))
                out += 2 * crossed.reshape(-1, *kept)
        return out.reshape(len(weights), -1)


def loki_predict(
    probabilities: Any,
    space: LabelSpace,
    observed: Sequence[int] | np.ndarray,
    *,
    tie: Tie = "first",
    path: Path = "auto",
    rng: np.random.Generator | None = None,
) -> Any:
    """Predict a label of the whole space from the probabilities of the observed ones.

    Parameters
    ----------
    probabilities : float ``[B, K]``, numpy or torch, at least 0; column k belongs to label ``observed[k]``.
    space : the label space with N labels.
    observed : indices int ``[K]`` of the observed labels (``space.index`` turns names into indices).

    Returns
    -------
    int64 ``[B]``: indices of labels; a tensor on the same device for a tensor.
    """
    tensor = type(probabilities).__module__.partition(".")[0] == "torch"
    values = probabilities.detach().double().cpu().numpy() if tensor else probabilities
    found = FrechetMean(space, observed, path).predict(values, tie=tie, rng=rng)
    if tensor:
        import torch

        return torch.from_numpy(found).to(probabilities.device)
    return found


def keep_top(weights: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray]:
    """The ``top`` largest weights of each row, the others 0, and the share of mass that was left out, ``[B]``.

    Leaving out a share q changes no variance by more than q times the squared diameter (of weights that sum to 1).
    """
    if top < 1:
        raise InputError("top", top, "at least 1")
    weights = as_weights(weights, weights.shape[1])
    if top >= weights.shape[1]:
        return weights, np.zeros(len(weights))
    kept = np.zeros_like(weights)
    columns = np.argpartition(weights, -top, axis=1)[:, -top:]
    np.put_along_axis(kept, columns, np.take_along_axis(weights, columns, axis=1), axis=1)
    return kept, 1 - kept.sum(axis=1) / weights.sum(axis=1)


def _absolute(mass: np.ndarray, axis: int) -> np.ndarray:
    """sum_j |i - j| mass_j along an axis, by cumulative sums."""
    moved = np.moveaxis(mass, axis, -1)
    positions = np.arange(moved.shape[-1])
    zeroth, first = np.cumsum(moved, axis=-1), np.cumsum(moved * positions, axis=-1)
    below = positions * zeroth - first
    above = (first[..., -1:] - first) - positions * (zeroth[..., -1:] - zeroth)
    return np.moveaxis(below + above, -1, axis)


def _small_tree(space: TreeSpace, observed: np.ndarray) -> tuple[np.ndarray, ...]:
    from paperworks.papers.loki import kernels

    inside = space.steiner(observed)
    nodes = space.node[observed]
    key = np.zeros(space.n_nodes, dtype=bool)
    key[nodes] = True
    top = int(np.flatnonzero(inside)[0])
    below = np.flatnonzero(inside)[1:]
    key |= np.bincount(space.parent[below], minlength=space.n_nodes) > 1
    key[top] = True
    parts = kernels.compress(space.parent, space.depth, key, inside)
    number = np.cumsum(key) - 1
    return (*parts, number[nodes])
