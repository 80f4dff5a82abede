"""Which class to label next, whole plans of classes to label, and random observed sets.

``next_class`` takes the label farthest from what can be reached already. On an unweighted tree the locus grows by
exactly that distance, so that no other choice is better; from a diameter pair on, the plan is optimal for every number
of classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from paperworks.errors import InputError
from paperworks.papers.loki.graphs import TreeSpace
from paperworks.papers.loki.loci import locus, observed_classes
from paperworks.papers.loki.spaces import LabelSpace

Gain = Literal["distance", "lp", "pairwise"]


def next_class(
    space: LabelSpace,
    observed: Sequence[int] | np.ndarray,
    *,
    k: int = 1,
    gain: Gain = "distance",
    costs: np.ndarray | None = None,
) -> np.ndarray:
    """The next ``k`` labels to observe, int64 in order; fewer if everything is reached before.

    Parameters
    ----------
    gain : ``distance`` of a label from the locus; or the number of labels that it adds to the locus, counted exactly
        (``lp``) or by pairs (``pairwise``).
    costs : price of each label, float ``[N]`` above 0; the gain per price is maximised.
    """
    if k < 1:
        raise InputError("k", k, "at least 1")
    if gain not in ("distance", "lp", "pairwise"):
        raise InputError("gain", repr(gain), "one of distance, lp, pairwise")
    prices = np.ones(len(space)) if costs is None else np.asarray(costs, dtype=np.float64)
    if prices.shape != (len(space),) or not (np.isfinite(prices).all() and (prices > 0).all()):
        raise InputError("costs", f"an array of shape {prices.shape}", f"{len(space)} prices above 0")
    known = observed_classes(space, observed).tolist()
    chosen: list[int] = []
    for _ in range(k):
        reached = locus(space, known, method="pairwise" if gain == "pairwise" else "auto")
        free = np.setdiff1d(np.arange(len(space)), reached)
        if not len(free):
            break
        if gain == "distance":
            gains = distance_to(space, reached)[free]
        else:
            method: Literal["auto", "pairwise"] = "pairwise" if gain == "pairwise" else "auto"
            gains = np.array([len(locus(space, [*known, y], method=method)) - len(reached) for y in free.tolist()])
        best = int(free[int(np.argmax(gains / prices[free]))])
        chosen.append(best)
        known.append(best)
    return np.array(chosen, dtype=np.int64)


def plan(space: LabelSpace, k: int) -> np.ndarray:
    """``k`` labels to observe, in order, starting from a pair at the diameter.

    Each next one is the farthest from what can be reached, which is optimal on unweighted trees; once everything can be
    reached, the farthest from the labels chosen before.
    """
    if not 1 <= k <= len(space):
        raise InputError("k", k, f"from 1 to {len(space)} labels")
    start = list(dict.fromkeys(space.farthest_pair()))[:k]
    if len(start) == k:
        return np.array(start, dtype=np.int64)
    chosen = [*start, *next_class(space, start, k=k - len(start)).tolist()]
    while len(chosen) < k:
        chosen.append(int(np.argmax(distance_to(space, np.array(chosen)))))
    return np.array(chosen, dtype=np.int64)


def distance_to(space: LabelSpace, labels: np.ndarray) -> np.ndarray:
    """Distance of every label from the nearest of ``labels``, float64 ``[N]``."""
    if isinstance(space, TreeSpace):
        from paperworks.papers.loki import kernels

        found = np.full(space.n_nodes, np.inf)
        found[space.node[labels]] = 0
        kernels.nearest_marked(space.parent, space.length, found)
        return found[space.node]
    best = np.full(len(space), np.inf)
    for at in range(0, len(labels), 256):
        np.minimum(best, space.distances(labels[at : at + 256]).min(axis=0), out=best)
    return best


def centre(space: LabelSpace) -> int:
    """The unweighted Frechet mean of all labels (the lowest index of ties)."""
    total = np.zeros(len(space))
    for at in range(0, len(space), 256):
        total += space.squared(np.arange(at, min(at + 256, len(space)))).sum(axis=0)
    return int(np.argmin(total))


def random_observed(
    space: LabelSpace, size: int, rng: np.random.Generator, *, theta: float = 0.0, around: int | None = None
) -> np.ndarray:
    """``size`` different labels drawn with probability in proportion to ``exp(-theta d(., around))``.

    ``theta`` 0 is uniform; larger values crowd the labels around ``around`` (by default the centre of the space).
    """
    if not 1 <= size <= len(space):
        raise InputError("size", size, f"from 1 to {len(space)} labels")
    if theta == 0:
        return rng.choice(len(space), size, replace=False)
    distance = space.distances([centre(space) if around is None else around])[0]
    # exponential keys: the order of drawing without replacement by these weights, also where they underflow
    keys = -theta * distance + rng.gumbel(size=len(space))
    return np.argsort(-keys, kind="stable")[:size]
