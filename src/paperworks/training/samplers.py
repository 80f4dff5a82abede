"""The order in which rows are read: shuffled, weighted, a subset of each epoch, grouped. All functions of the seed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from paperworks.errors import InputError

Order = NDArray[np.int64]


class Sampler(Protocol):
    """The rows of each epoch, in order. Both methods are functions of their arguments only."""

    def size(self, epoch: int, rows: int, per_step: int) -> int:
        """How many rows an epoch reads, of a set of ``rows``."""

    def order(self, epoch: int, rows: int, per_step: int, seed: int) -> Order:
        """The rows of an epoch, int64 [size]."""


@dataclass(frozen=True)
class Shuffled:
    """All rows, shuffled anew in each epoch."""

    def size(self, epoch: int, rows: int, per_step: int) -> int:
        return rows

    def order(self, epoch: int, rows: int, per_step: int, seed: int) -> Order:
        return np.random.default_rng([seed, epoch]).permutation(rows)


@dataclass(frozen=True)
class Weighted:
    """Rows drawn with replacement, each with a probability proportional to its weight.

    Attributes
    ----------
    weights : numbers [n], 0 or more; or a function from the epoch's number to such an array, so that probabilities (and
        with weights of 0, the subset) change from epoch to epoch. It must give the same array for the same epoch.
    draws : rows of an epoch; None is n.
    """

    weights: ArrayLike | Callable[[int], ArrayLike]
    draws: int | None = None

    def __post_init__(self) -> None:
        if self.draws is not None and self.draws < 1:
            raise InputError("draws", self.draws, "1 or more")

    def size(self, epoch: int, rows: int, per_step: int) -> int:
        return rows if self.draws is None else self.draws

    def order(self, epoch: int, rows: int, per_step: int, seed: int) -> Order:
        found = self.weights(epoch) if callable(self.weights) else self.weights
        weights = np.asarray(found, dtype=np.float64)
        if weights.shape != (rows,):
            raise InputError("weights", f"shape {weights.shape}", f"[{rows}], one weight per row")
        if not np.isfinite(weights).all() or (weights < 0).any() or weights.sum() == 0:
            raise InputError("weights", "negative, infinite or no positive numbers", "finite numbers of 0 or more")
        rng = np.random.default_rng([seed, epoch])
        return rng.choice(rows, self.size(epoch, rows, per_step), p=weights / weights.sum())


@dataclass(frozen=True)
class Subset:
    """Some of the rows, each once in an epoch, shuffled; which, may change from epoch to epoch.

    ``rows_of(epoch)`` returns row numbers, at least one, and always the same for the same epoch.
    """

    rows_of: Callable[[int], ArrayLike]

    def size(self, epoch: int, rows: int, per_step: int) -> int:
        return len(np.asarray(self.rows_of(epoch)))

    def order(self, epoch: int, rows: int, per_step: int, seed: int) -> Order:
        chosen = np.asarray(self.rows_of(epoch))
        whole = np.issubdtype(chosen.dtype, np.integer) and chosen.ndim == 1
        if not whole or not len(chosen) or chosen.min() < 0 or chosen.max() >= rows:
            raise InputError("rows_of", f"rows of epoch {epoch} that are none", f"row numbers from 0 to {rows - 1}")
        return np.random.default_rng([seed, epoch]).permutation(chosen).astype(np.int64)


class Grouped:
    """Steps whose rows are all of one group, such as one length, so that nothing has to be padded.

    Which rows share a step is drawn anew in every epoch. What does not fill a step waits for another epoch. A group
    that is smaller than one step is read several times to fill one.

    Parameters
    ----------
    groups : the group of each row, integers [n].
    """

    def __init__(self, groups: ArrayLike) -> None:
        groups = np.asarray(groups)
        self.by_group = [np.flatnonzero(groups == group) for group in np.unique(groups)]

    def size(self, epoch: int, rows: int, per_step: int) -> int:
        return per_step * sum(max(len(group) // per_step, 1) for group in self.by_group)

    def order(self, epoch: int, rows: int, per_step: int, seed: int) -> Order:
        if sum(map(len, self.by_group)) != rows:
            raise InputError("groups", f"groups of {sum(map(len, self.by_group))} rows", f"those of all {rows} rows")
        rng = np.random.default_rng([seed, epoch])
        steps = []
        for group in self.by_group:
            order = np.resize(rng.permutation(group), max(len(group), per_step))
            steps += [order[i : i + per_step] for i in range(0, len(order) - per_step + 1, per_step)]
        shuffled = np.random.default_rng([seed, epoch]).permutation(len(steps))
        return np.concatenate([steps[i] for i in shuffled])


class RowOrder:
    """The rows of every step: epochs in the order of a sampler, one after the other without gaps.

    They are a function of the seed and of the step's number only.
    """

    def __init__(self, n: int, per_step: int, seed: int, sampler: Sampler | None = None) -> None:
        self.n, self.per_step, self.seed = n, per_step, seed
        self.sampler: Sampler = Shuffled() if sampler is None else sampler
        self._starts = [0]  # where each epoch begins, counted in rows
        self._epoch, self._order = -1, np.arange(0)

    def _start(self, epoch: int) -> int:
        while len(self._starts) <= epoch:
            size = self.sampler.size(len(self._starts) - 1, self.n, self.per_step)
            if size < 1:
                raise InputError("sampler", f"an epoch of {size} rows", "at least one row")
            self._starts.append(self._starts[-1] + size)
        return self._starts[epoch]

    def rows(self, step: int) -> list[tuple[int, int]]:
        """(epoch, row) of every example of a step, counted from 0."""
        found = []
        epoch = max(self._epoch, 0)
        for position in range(step * self.per_step, (step + 1) * self.per_step):
            while position < self._start(epoch):
                epoch -= 1
            while position >= self._start(epoch + 1):
                epoch += 1
            if epoch != self._epoch:
                self._epoch, self._order = epoch, self.sampler.order(epoch, self.n, self.per_step, self.seed)
            found.append((epoch, int(self._order[position - self._start(epoch)])))
        return found

    def steps(self, epochs: float) -> int:
        """Steps of so many epochs, a fraction allowed; at least 1."""
        whole = math.floor(epochs)
        rest = (epochs - whole) * (self._start(whole + 1) - self._start(whole)) if epochs > whole else 0.0
        return max(1, math.ceil((self._start(whole) + rest) / self.per_step))
