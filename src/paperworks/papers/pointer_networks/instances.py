"""Sets of instances: padded arrays of inputs and of pointer targets, as training and testing want them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from paperworks.errors import InputError

PAD = -100
"""The target code of a position that is not a target."""

STOP = 0
"""The target code that ends an output; positions of the input are 1 .. n."""


@dataclass(frozen=True)
class Instances:
    """N inputs and, where they are known, their solutions.

    Attributes
    ----------
    points : float64 [N, nmax, d]; rows from ``lengths`` on are 0.
    lengths : int64 [N].
    targets : int64 [N, mmax], pointers 1 .. n, then 0, then -100; None without solutions.
    """

    points: NDArray[np.float64]
    lengths: NDArray[np.int64]
    targets: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, index: int) -> tuple[NDArray[np.float64], list[int]]:
        """Elements [n, d] and 0-based solution (empty without one) of one instance."""
        return self.points[index, : self.lengths[index]], self.solution(index)

    def __iter__(self) -> Iterator[tuple[NDArray[np.float64], list[int]]]:
        return (self[i] for i in range(len(self)))

    def solution(self, index: int) -> list[int]:
        """The 0-based solution of one instance."""
        if self.targets is None:
            return []
        row = self.targets[index]
        return (row[row > 0] - 1).tolist()

    def inputs(self) -> list[NDArray[np.float64]]:
        """The elements [n, d] of every instance."""
        return [self.points[i, :n] for i, n in enumerate(self.lengths)]

    def solutions(self) -> list[list[int]]:
        """The 0-based solutions of all instances."""
        return [self.solution(i) for i in range(len(self))]

    def take(self, rows: ArrayLike) -> Instances:
        """The instances of some rows."""
        chosen = np.asarray(rows)
        targets = None if self.targets is None else self.targets[chosen]
        return Instances(self.points[chosen], self.lengths[chosen], targets)

    def columns(self) -> dict[str, torch.Tensor]:
        """Tensors for the training loop: points float32, lengths and targets int64."""
        if self.targets is None:
            raise InputError("targets", "none", "a solution per instance to train on")
        return {
            "points": torch.from_numpy(self.points.astype(np.float32)),
            "lengths": torch.from_numpy(self.lengths),
            "targets": torch.from_numpy(self.targets),
        }

    @classmethod
    def from_lists(
        cls, points: Sequence[ArrayLike], targets: Sequence[Sequence[int]] | None = None, *, field: str = "instances"
    ) -> Instances:
        """Pad inputs of any sizes.

        Parameters
        ----------
        points : one array [n, d] of finite numbers per instance; n may differ, d may not.
        targets : 0-based indices into each instance, without the stop.

        Raises InputError naming the instance (counted from 1).
        """
        if len(points) == 0:
            raise InputError(field, "no instances", "at least one")
        arrays = [as_elements(p, f"{field}, instance {i}") for i, p in enumerate(points, 1)]
        width = arrays[0].shape[1]
        for number, array in enumerate(arrays, 1):
            if array.shape[1] != width:
                raise InputError(
                    f"{field}, instance {number}", f"{array.shape[1]} features", f"{width}, as in instance 1"
                )
        lengths = np.array([len(a) for a in arrays], dtype=np.int64)
        padded = np.zeros((len(arrays), int(lengths.max()), width))
        for row, array in enumerate(arrays):
            padded[row, : len(array)] = array
        return cls(padded, lengths, None if targets is None else _codes(targets, lengths, field))


def _codes(targets: Sequence[Sequence[int]], lengths: NDArray[np.int64], field: str) -> NDArray[np.int64]:
    if len(targets) != len(lengths):
        raise InputError(field, f"{len(targets)} targets for {len(lengths)} inputs", "one target per input")
    codes = np.full((len(targets), max(map(len, targets)) + 1), PAD, dtype=np.int64)
    for row, target in enumerate(targets):
        for index in target:
            if int(index) != index or not 0 <= index < lengths[row]:
                raise InputError(
                    f"{field}, instance {row + 1}",
                    f"target index {index}",
                    f"whole numbers from 0 to {lengths[row] - 1}",
                )
        codes[row, : len(target)] = np.asarray(target, dtype=np.int64) + 1
        codes[row, len(target)] = STOP
    return codes


def as_elements(points: ArrayLike, field: str = "points") -> NDArray[np.float64]:
    """One instance as float64 [n, d], n and d of at least 1. Raises InputError for text, gaps, NaN and infinity."""
    try:
        array = np.asarray(points, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(field, f"what is no table of numbers ({error})", "numbers [n, d]") from None
    if array.ndim != 2 or 0 in array.shape:
        raise InputError(field, f"an array of shape {array.shape}", "[n, d], one row per element")
    bad = np.flatnonzero(~np.isfinite(array).all(axis=1))
    if len(bad):
        raise InputError(field, f"NaN or infinity in row {bad[0] + 1}", "finite numbers")
    return array


def concatenate(parts: Sequence[Instances]) -> Instances:
    """All instances of several sets, in order. Either all sets have targets, or none."""
    width = max(p.points.shape[1] for p in parts)
    points = [np.pad(p.points, ((0, 0), (0, width - p.points.shape[1]), (0, 0))) for p in parts]
    targets = None
    if parts[0].targets is not None:
        steps = max(p.targets.shape[1] for p in parts if p.targets is not None)
        targets = np.concatenate(
            [
                np.pad(p.targets, ((0, 0), (0, steps - p.targets.shape[1])), constant_values=PAD)
                for p in parts
                if p.targets is not None
            ]
        )
    return Instances(np.concatenate(points), np.concatenate([p.lengths for p in parts]), targets)
