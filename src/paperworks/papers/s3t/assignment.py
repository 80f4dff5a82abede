"""Which record is in which shard and slice, and the orders in which each shard's slices are trained."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from paperworks.errors import InputError
from paperworks.papers.s3t.sequences import (
    Order,
    bms_sequences,
    conditional_sequences,
    cyclic_sequences,
    random_sequences,
    sorted_cyclic_sequences,
)

Selection = Literal["auto", "cyclic", "matching", "conditional", "sorted", "random"]


def derived_seed(seed: int, *parts: object) -> int:
    """A seed below 2^62 that depends on all parts: one per shard, generation and prefix of slices."""
    digest = hashlib.sha256(repr((seed, *parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 2


def assign(
    count: int,
    n_shards: int,
    n_slices: int,
    *,
    owners: Sequence[object] | None = None,
    risk: ArrayLike | None = None,
    seed: int = 0,
) -> np.ndarray:
    """Shard and slice of every record, int64 ``[n, 2]``, at random and near to equal in size.

    It depends on the number of records, and on nothing that a record says; only on the owners and risks where given.

    Parameters
    ----------
    count : n records.
    owners : of every record; those of one owner share a slice.
    risk : how likely the deletion of every record is, relative to the others: in a shard the likely ones share slices.
    """
    if count < n_shards * n_slices:
        raise InputError("records", count, f"at least one for each of {n_shards} x {n_slices} slices")
    if owners is not None and len(owners) != count:
        raise InputError("owners", f"{len(owners)} owners", f"{count}, one per record")
    groups: dict[object, list[int]] = {}
    for row in range(count):
        groups.setdefault(row if owners is None else owners[row], []).append(row)
    if len(groups) < n_shards * n_slices:
        raise InputError("owners", f"{len(groups)} owners", f"at least one for each of {n_shards} x {n_slices} slices")
    keys = list(groups)
    order = [keys[i] for i in np.random.default_rng(derived_seed(seed, "assignment")).permutation(len(keys))]
    if risk is None:
        places = [(s, c) for c in range(n_slices) for s in range(n_shards)]
        return _spread(groups, order, places, count)
    weights = np.asarray(risk, dtype=np.float64)
    if weights.shape != (count,) or not np.isfinite(weights).all() or (weights < 0).any() or weights.sum() == 0:
        raise InputError("risk", f"shape {weights.shape}", f"{count} finite numbers of 0 or more, not all 0")
    mean = {key: weights[rows].mean() for key, rows in groups.items()}
    found = _spread(groups, order, [(s, 0) for s in range(n_shards)], count, least=n_slices)
    for shard in range(n_shards):
        own = sorted((key for key in order if found[groups[key][0], 0] == shard), key=lambda key: mean[key])
        total, done, slice_ = sum(len(groups[key]) for key in own), 0, 0
        for number, key in enumerate(own):  # slices of equal sizes, none of them empty
            wanted = min(n_slices - 1, done * n_slices // total, slice_ + 1)
            slice_ = max(slice_, wanted, n_slices - (len(own) - number)) if number else 0
            found[groups[key], 1] = slice_
            done += len(groups[key])
    return found


def slice_prior(places: np.ndarray, n_shards: int, n_slices: int, risk: ArrayLike) -> np.ndarray:
    """Probability that the next request is for a slice, ``[m, L]``: the sum of its records' risks."""
    found = np.zeros((n_shards, n_slices))
    np.add.at(found, (places[:, 0], places[:, 1]), np.asarray(risk, dtype=np.float64))
    return found / found.sum()


def choose_sequences(
    n_slices: int, budget: int, prior: np.ndarray | None, selection: Selection, t: int, rng: np.random.Generator
) -> list[Order]:
    """The sequences of one shard. "auto" is matching with a prior ``[L]``, and cyclic rotation without."""
    if selection == "auto":
        selection = "cyclic" if prior is None else "matching"
    p = np.full(n_slices, 1 / n_slices) if prior is None or prior.sum() == 0 else prior / prior.sum()
    if selection == "cyclic":
        return cyclic_sequences(n_slices, budget)
    if selection == "matching":
        return bms_sequences(p, budget, t, rng)
    if selection == "conditional":
        return conditional_sequences(p, budget, rng)
    if selection == "sorted":
        return sorted_cyclic_sequences(p, budget)
    if selection == "random":
        return random_sequences(n_slices, budget, rng)
    raise InputError("selection", repr(selection), "auto, cyclic, matching, conditional, sorted or random")


def shard_sequences(
    n_shards: int, n_slices: int, budget: int, prior: np.ndarray | None, selection: Selection, t: int, seed: int
) -> dict[int, list[Order]]:
    """The sequences of all shards, from their rows of the prior ``[m, L]``."""
    rng = np.random.default_rng(derived_seed(seed, "sequences"))
    rows = [None] * n_shards if prior is None else list(prior)
    return {s: choose_sequences(n_slices, budget, row, selection, t, rng) for s, row in enumerate(rows)}


def _spread(
    groups: dict[object, list[int]],
    order: list[object],
    places: list[tuple[int, int]],
    count: int,
    *,
    least: int = 1,
) -> np.ndarray:
    """Every group to the smallest place so far, once each place has ``least`` groups."""
    totals = [0] * len(places)
    found = np.empty((count, 2), dtype=np.int64)
    first = least * len(places)
    for number, key in enumerate(order[:first]):
        found[groups[key]] = places[number % len(places)]
        totals[number % len(places)] += len(groups[key])
    sizes = [(total, i) for i, total in enumerate(totals)]
    heapq.heapify(sizes)
    for key in order[first:]:
        size, i = heapq.heappop(sizes)
        found[groups[key]] = places[i]
        heapq.heappush(sizes, (size + len(groups[key]), i))
    return found
