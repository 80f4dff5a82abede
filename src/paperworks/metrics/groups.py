"""Accuracy by group, and of the worst one."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from paperworks.errors import InputError
from paperworks.metrics.intervals import Interval, wilson_interval


@dataclass(frozen=True)
class GroupAccuracy:
    """Accuracy of every group of rows.

    Attributes
    ----------
    by_group : group -> accuracy with Wilson's interval; ``n`` is the group's size.
    overall : accuracy over all rows.
    mean : mean of the groups' accuracies, each group counting the same.
    """

    by_group: dict[Hashable, Interval]
    overall: Interval
    mean: float

    @property
    def worst_group(self) -> Hashable:
        """The group with the lowest accuracy; of several, the first in sorted order."""
        return min(self.by_group, key=lambda group: self.by_group[group].estimate)

    @property
    def worst(self) -> Interval:
        """The accuracy of the worst group. Its interval does not allow for having looked for the worst of several."""
        return self.by_group[self.worst_group]

    @property
    def gap(self) -> float:
        """Highest group accuracy minus lowest."""
        values = [interval.estimate for interval in self.by_group.values()]
        return max(values) - min(values)


def group_accuracy(y_true: ArrayLike, y_pred: ArrayLike, groups: ArrayLike, *, level: float = 0.95) -> GroupAccuracy:
    """Accuracy by group.

    Parameters
    ----------
    y_true, y_pred : labels ``[n]``.
    groups : group of each row ``[n]``, or several attributes ``[n, a]`` whose combinations are the groups (tuples).

    Raises
    ------
    InputError : no rows, or lengths that differ.
    """
    truth, guess, of = np.asarray(y_true), np.asarray(y_pred), np.asarray(groups)
    if truth.ndim != 1 or len(truth) == 0:
        raise InputError("y_true", f"an array of shape {truth.shape}", "labels [n], at least one")
    if guess.shape != truth.shape:
        raise InputError("y_pred", f"shape {guess.shape}", f"{truth.shape}, as y_true has")
    if of.ndim not in (1, 2) or len(of) != len(truth):
        raise InputError("groups", f"shape {of.shape}", f"({len(truth)},) or ({len(truth)}, attributes)")
    right = truth == guess
    names, code = np.unique(of, axis=0, return_inverse=True)
    code = code.reshape(-1)
    found: dict[Hashable, Interval] = {}
    for number, name in enumerate(names):
        rows = code == number
        key = tuple(name.tolist()) if of.ndim == 2 else name.item() if hasattr(name, "item") else name
        found[key] = wilson_interval(int(right[rows].sum()), int(rows.sum()), level=level)
    overall = wilson_interval(int(right.sum()), len(right), level=level)
    return GroupAccuracy(found, overall, float(np.mean([i.estimate for i in found.values()])))


def worst_group_accuracy(y_true: ArrayLike, y_pred: ArrayLike, groups: ArrayLike) -> float:
    """The lowest accuracy of a group. See ``group_accuracy``."""
    return group_accuracy(y_true, y_pred, groups).worst.estimate
