"""Which labels can be predicted at all (the locus of the observed labels), and which observed sets reach every label.

The locus of observed labels is the set of labels that minimise the Frechet variance for some weights. Membership of a
label y is a linear program, exact for every finite space:

    maximise t   subject to   sum_l w_l (d(y, l)^2 - d(z, l)^2) + t <= 0  for all z != y,   w >= 0,  sum w = 1

t >= 0: y is a minimiser for some w (weak membership; ties count). t > 0: y is the only minimiser for some w (strict).
On a tree the locus is the set of vertices on the paths between observed labels, all of them strict, and the leaves are
the only minimum locus cover.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np

from paperworks.errors import InputError
from paperworks.papers.loki.graphs import TreeSpace
from paperworks.papers.loki.spaces import LabelSpace
from paperworks.runs import Progress, no_progress

Method = Literal["auto", "lp", "tree", "pairwise"]
LP_TOLERANCE = 1e-7
"""The margin t counts as 0 below this share of the largest squared distance: the accuracy of the solver."""

MANY = 2000
"""Above this number of labels, one linear program a label takes minutes."""


def locus(
    space: LabelSpace,
    observed: Sequence[int] | np.ndarray,
    *,
    method: Method = "auto",
    strict: bool = False,
    progress: Progress = no_progress,
) -> np.ndarray:
    """The labels that Loki can output for some probabilities, sorted int64.

    Parameters
    ----------
    observed : indices of the observed labels.
    method : ``tree``, for trees whose nodes are all labels; ``lp``, exact for every space; ``pairwise``, the union of
        the loci of pairs: a lower bound, and exact where loci decompose into pairs. ``auto`` is tree or lp.
    strict : count a label only if it is the only minimiser for some weights.
    """
    known = observed_classes(space, observed)
    on_tree = isinstance(space, TreeSpace) and space.whole
    if method == "auto":
        method = "tree" if on_tree else "lp"
    if method == "tree":
        if not isinstance(space, TreeSpace) or not space.whole:
            raise InputError(
                "method", "'tree'", "lp or pairwise, since not all nodes of this space are labels of a tree"
            )
        return np.sort(space.label_of_node[np.flatnonzero(space.steiner(known))])
    if method == "pairwise":
        return _pairwise(space, known, strict)
    if method != "lp":
        raise InputError("method", repr(method), "one of auto, lp, tree, pairwise")
    if len(space) > MANY:
        warnings.warn(
            f"{len(space)} linear programs of {len(space) - 1} rows each: this takes long; membership() tests single "
            "labels, and method='pairwise' is a lower bound",
            UserWarning,
            stacklevel=2,
        )
    return np.array([y for y in progress(range(len(space)), "locus") if membership(space, known, y) >= int(strict)])


def membership(space: LabelSpace, observed: Sequence[int] | np.ndarray, label: int) -> int:
    """1 if ``label`` is the only minimiser for some weights (strict), 0 if only with ties, -1 if for none. By LP."""
    margin, scale = margin_of(space, observed, label)
    return 1 if margin > LP_TOLERANCE * scale else 0 if margin >= -LP_TOLERANCE * scale else -1


def margin_of(space: LabelSpace, observed: Sequence[int] | np.ndarray, label: int) -> tuple[float, float]:
    """The largest margin t of the linear program for a label, and the scale (largest squared distance)."""
    from scipy.optimize import linprog

    known = np.unique(observed_classes(space, observed))
    squared = space.squared(known)  # [K, N]
    scale = float(squared.max()) or 1.0
    others = np.delete(np.arange(len(space)), label)
    if not len(others):
        return scale, scale
    k = len(known)
    # scaled, so that the solver's absolute tolerances are relative ones
    rows = (squared[:, [label]] - squared[:, others]).T / scale
    solved = linprog(
        c=[*np.zeros(k), -1.0],
        A_ub=np.column_stack([rows, np.ones(len(others))]),
        b_ub=np.zeros(len(others)),
        A_eq=[[*np.ones(k), 0.0]],
        b_eq=[1.0],
        bounds=[(0, None)] * k + [(None, None)],
        method="highs",
    )
    if solved.status != 0:
        raise InputError("distances", f"a linear program that was not solved ({solved.message})", "a finite metric")
    return -float(solved.fun) * scale, scale


def is_locus_cover(
    space: LabelSpace, observed: Sequence[int] | np.ndarray, *, identifying: bool = False, method: Method = "auto"
) -> bool:
    """Whether every label is in the locus; with ``identifying``, as the only minimiser for some weights."""
    return len(locus(space, observed, method=method, strict=identifying)) == len(space)


def minimum_cover(space: LabelSpace, *, identifying: bool = False, exact: bool | None = None) -> np.ndarray:
    """A smallest set of observed labels whose locus is the whole space, sorted int64.

    On a tree (all nodes are labels): the leaves, which is exact at any size. Elsewhere labels that the locus of all
    others lacks belong to every cover; further ones are found by trying all sets in order of size (``exact``; the
    default up to 16 labels), or greedily with a pass that takes out what is not needed (an upper bound).
    """
    if isinstance(space, TreeSpace) and space.whole:
        leaves = space.leaves()
        return leaves if len(space) > 1 else np.array([0])
    everything = np.arange(len(space))
    least = int(identifying)
    needed = (
        [y for y in everything.tolist() if membership(space, np.delete(everything, y), y) < least]
        if (len(space) > 1)
        else [0]
    )
    if exact is None:
        exact = len(space) <= 16
    free = [y for y in everything.tolist() if y not in needed]
    if exact:
        for size in range(len(free) + 1):
            for extra in itertools.combinations(free, size):
                chosen = sorted([*needed, *extra])
                if chosen and is_locus_cover(space, chosen, identifying=identifying):
                    return np.array(chosen)
    chosen = sorted(needed) or list(space.farthest_pair())
    while len(reached := locus(space, chosen, strict=identifying)) < len(space):
        missing = np.setdiff1d(everything, reached)
        gap = space.distances(missing, chosen).min(axis=1)
        chosen = sorted([*chosen, int(missing[int(np.argmax(gap))])])
    for label in [y for y in chosen if y not in needed]:
        fewer = [y for y in chosen if y != label]
        if fewer and is_locus_cover(space, fewer, identifying=identifying):
            chosen = fewer
    return np.array(chosen)


def observed_classes(space: LabelSpace, observed: Iterable[int] | np.ndarray) -> np.ndarray:
    known = np.asarray(list(observed) if not isinstance(observed, np.ndarray) else observed, dtype=np.int64)
    if not len(known):
        raise InputError("observed", "no labels", "at least one observed label")
    if known.min() < 0 or known.max() >= len(space):
        wrong = known[(known < 0) | (known >= len(space))]
        raise InputError("observed", int(wrong[0]), f"indices from 0 to {len(space) - 1}")
    return known


def _pairwise(space: LabelSpace, observed: np.ndarray, strict: bool) -> np.ndarray:
    known = np.unique(observed)
    squared = space.squared(known)
    inside = np.zeros(len(space), dtype=bool)
    inside[known] = True
    for a, b in itertools.combinations(range(len(known)), 2):
        inside[_between(squared[a], squared[b], strict)] = True
    return np.flatnonzero(inside)


def _between(x: np.ndarray, y: np.ndarray, strict: bool) -> np.ndarray:
    """Indices that minimise w x + (1 - w) y for some w in [0, 1]: the lower left convex hull of the points (x, y)."""
    scale = max(float(x.max()), float(y.max())) or 1.0
    order = np.lexsort((y, x))
    frontier: list[int] = []
    lowest = np.inf
    for i in order.tolist():  # points that no other beats in both coordinates, from left to right
        tied = frontier and x[i] == x[frontier[-1]] and y[i] == y[frontier[-1]]
        if y[i] < lowest or tied:
            lowest = min(lowest, float(y[i]))
            frontier.append(i)
    hull: list[int] = []
    bound = -LP_TOLERANCE * scale**2
    for i in frontier:
        while len(hull) >= 2:
            p, q = hull[-2], hull[-1]
            turn = (x[q] - x[p]) * (y[i] - y[p]) - (y[q] - y[p]) * (x[i] - x[p])
            if turn > (-bound if strict else bound):
                break
            hull.pop()
        hull.append(i)
    if strict:
        points, count = np.unique(np.column_stack([x, y]), axis=0, return_counts=True)
        shared = {tuple(p) for p, c in zip(points.tolist(), count.tolist(), strict=True) if c > 1}
        return np.array([i for i in hull if (float(x[i]), float(y[i])) not in shared], dtype=np.int64)
    return np.array(hull, dtype=np.int64)
