"""Streams of deletion requests against lists of sequences: how long a system lives, and how much it keeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from paperworks.errors import InputError
from paperworks.papers.s3t.sequences import Order, cyclic_sequences
from paperworks.papers.s3t.theory import check_system, system_prior

_BLOCK = 256
"""Requests that are drawn at a time."""


@dataclass(frozen=True)
class Simulation:
    """Simulated streams.

    Attributes
    ----------
    requests : requests until no shard had a live sequence, int64 ``[streams]``: the request that killed it counts.
    depth : blocks that each shard still served after r requests, int64 ``[streams, recorded + 1, m]``.
    """

    requests: np.ndarray
    depth: np.ndarray


def simulate_deletions(
    n_shards: int,
    n_slices: int,
    budget: int,
    *,
    streams: int = 1000,
    prior: ArrayLike | None = None,
    sequences: Sequence[Order] | Sequence[Sequence[Order]] | None = None,
    record: int = 0,
    rng: np.random.Generator | None = None,
) -> Simulation:
    """Cut lists of slices by random requests until every list is empty.

    A request for slice c cuts each list of its shard in front of c; a shard serves its longest list. Requests are
    independent of the models, with replacement; those for a dead slice change nothing and count.

    Parameters
    ----------
    n_shards, n_slices, budget : m, L, B.
    streams : independent repetitions.
    prior : as in ``deletion_rate``.
    sequences : the same for every shard, or a list of them for each; default ``cyclic_sequences(L, B)``.
    record : the first requests for which ``depth`` is kept.
    """
    check_system(n_shards, n_slices, budget)
    if streams < 1 or record < 0:
        raise InputError("streams", streams, "1 or more, and record of 0 or more")
    rng = np.random.default_rng(0) if rng is None else rng
    orders = np.asarray(cyclic_sequences(n_slices, budget) if sequences is None else sequences)
    if orders.ndim == 2:
        orders = np.broadcast_to(orders, (n_shards, *orders.shape))
    if orders.shape != (n_shards, budget, n_slices) or (np.sort(orders) != np.arange(n_slices)).any():
        raise InputError("sequences", f"shape {orders.shape}", f"{budget} orders of {n_slices} slices, for each shard")
    places = np.argsort(orders, axis=2)  # place of every slice in every sequence, [m, B, L]
    probabilities = None if prior is None else system_prior(prior, n_shards, n_slices).ravel()
    if probabilities is not None:
        firsts = np.arange(n_shards)[:, None] * n_slices + orders[:, :, 0]
        if (probabilities[firsts] == 0).any():
            raise InputError("prior", "a first slice of probability 0", "requests that can end the system")
    depth = np.full((streams, n_shards, budget), n_slices, dtype=np.int64)
    died = np.zeros(streams, dtype=np.int64)
    kept = np.zeros((streams, record + 1, n_shards), dtype=np.int64)
    kept[:, 0] = n_slices
    rows, number = np.arange(streams), 0
    while not died.all() or number < record:
        if probabilities is None:
            asked = rng.integers(n_shards * n_slices, size=(_BLOCK, streams))
        else:
            asked = rng.choice(n_shards * n_slices, size=(_BLOCK, streams), p=probabilities)
        for request in asked:
            number += 1
            shard, slice_ = np.divmod(request, n_slices)
            depth[rows, shard] = np.minimum(depth[rows, shard], places[shard, :, slice_])
            if number <= record:
                kept[:, number] = depth.max(2)
            dead = (depth.max((1, 2)) == 0) & (died == 0)
            died[dead] = number
            if died.all() and number >= record:
                break
    return Simulation(died, kept)


def replay(sequences: Sequence[Order], requests: Sequence[int], n_slices: int) -> np.ndarray:
    """Blocks that each sequence of one shard keeps after 0, 1, ... of the requested slices, int64 ``[r + 1, B]``."""
    places = np.argsort(np.asarray(sequences), axis=1)
    depth = np.full((len(requests) + 1, len(sequences)), n_slices, dtype=np.int64)
    for number, slice_ in enumerate(requests, 1):
        depth[number] = np.minimum(depth[number - 1], places[:, slice_])
    return depth
