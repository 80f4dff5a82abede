"""From a budget of compute and storage to shards, slices and sequences."""

from __future__ import annotations

import math
from dataclasses import dataclass

from paperworks.errors import InputError
from paperworks.papers.s3t.sequences import Order, cyclic_sequences
from paperworks.papers.s3t.theory import deletion_rate, deletion_rate_std


@dataclass(frozen=True)
class Plan:
    """Shards, slices and sequences with what they cost and bring.

    Attributes
    ----------
    n_shards, n_slices, budget, layers_per_slice : m, L, B, n_b.
    hours : of training all of it once, on the device whose seconds per record were given.
    storage : bytes of adapters and heads.
    requests, requests_std : requests until a retraining is due (Lemma 1): mean and standard deviation.
    sisa_requests : the same with one sequence per shard.
    passes : records read in training, relative to one epoch-for-epoch fine-tuning on all records.
    """

    n_shards: int
    n_slices: int
    budget: int
    layers_per_slice: int
    hours: float
    storage: int
    requests: float
    requests_std: float
    sisa_requests: float
    passes: float


def plan(
    *,
    records: int,
    layers: int,
    budget_gpu_hours: float | None = None,
    storage: float | None = None,
    seconds_per_record: float = 0.01,
    epochs: float = 1.0,
    adapter_bytes: float = 1e6,
    head_bytes: float = 0.0,
    layers_per_slice: int | None = None,
    max_shards: int = 16,
    max_slices: int = 12,
    records_per_slice: int = 32,
    keep: int = 1,
) -> list[Plan]:
    """The plans with the most requests before a retraining that fit the budget, best first.

    Cost of training: ``N E (L+1)/2 B`` records are read, fewer where sequences share their beginning; storage is
    ``m B`` adapters with L heads each. More than L sequences per shard bring no further request, and are left out.

    Parameters
    ----------
    records : N.
    layers : blocks of the network T; ``L n_b <= T``.
    budget_gpu_hours, storage : what may be spent; bytes. At least one of them.
    seconds_per_record : time of one training step divided by its records.
    epochs : passes over the data in every stage.
    adapter_bytes, head_bytes : of an adapter of all layers, and of a head.
    layers_per_slice : n_b; default as many as fit.
    max_shards : every request is answered by as many forward passes as there are shards.
    records_per_slice : the fewest that a slice may have; small slices make weak models.
    keep : how many plans.

    Raises
    ------
    InputError : no budget, or one that the smallest system exceeds.
    """
    if budget_gpu_hours is None and storage is None:
        raise InputError("budget_gpu_hours", "nothing, and no storage", "at least one of them")
    for name, value in (
        ("records", records),
        ("layers", layers),
        ("seconds_per_record", seconds_per_record),
        ("epochs", epochs),
        ("keep", keep),
    ):
        if not value > 0:
            raise InputError(name, value, "more than 0")
    for name, limit in (("budget_gpu_hours", budget_gpu_hours), ("storage", storage)):
        if limit is not None and not limit > 0:
            raise InputError(name, limit, "more than 0")
    if layers_per_slice is not None and not 1 <= layers_per_slice <= layers:
        raise InputError("layers_per_slice", layers_per_slice, f"1 to {layers}")
    found = []
    for slices in range(1, min(max_slices, layers // (layers_per_slice or 1)) + 1):
        for shards in range(1, max_shards + 1):
            if records // (shards * slices) < records_per_slice:
                break
            for sequences in range(1, slices + 1):
                passes = _passes(cyclic_sequences(slices, sequences))
                hours = records * epochs * passes * seconds_per_record / 3600
                room = math.ceil(shards * sequences * (adapter_bytes + slices * head_bytes))
                found.append(
                    Plan(
                        shards,
                        slices,
                        sequences,
                        layers_per_slice or layers // slices,
                        hours,
                        room,
                        deletion_rate(shards, slices, sequences),
                        deletion_rate_std(shards, slices, sequences),
                        deletion_rate(shards, slices, 1),
                        passes,
                    )
                )
    if not found:
        most = records // records_per_slice
        raise InputError("records", records, f"at least {records_per_slice} a slice (here {most} slices)")
    fitting = [
        p
        for p in found
        if (budget_gpu_hours is None or p.hours <= budget_gpu_hours) and (storage is None or p.storage <= storage)
    ]
    if not fitting:
        least = min(found, key=lambda p: (p.hours, p.storage))
        if budget_gpu_hours is not None and least.hours > budget_gpu_hours:
            raise InputError("budget_gpu_hours", budget_gpu_hours, f"{least.hours:.3g} hours or more")
        raise InputError("storage", storage, f"{min(p.storage for p in found)} bytes or more")
    fitting.sort(key=lambda p: (-p.requests, p.hours, p.storage, p.n_shards))
    return fitting[:keep]


def prefixes(orders: list[Order]) -> list[Order]:
    """Every beginning of the sequences once: the stages that have to be trained, shorter ones first."""
    found = {order[:length] for order in orders for length in range(1, len(order) + 1)}
    return sorted(
        found, key=lambda prefix: (len(prefix), [orders.index(o) for o in orders if o[: len(prefix)] == prefix])
    )


def _passes(orders: list[Order]) -> float:
    """Records read by all stages of a shard, relative to its records; a stage that sequences share counts once."""
    slices = len(orders[0])
    return sum(len(prefix) for prefix in {o[:n] for o in orders for n in range(1, slices + 1)}) / slices
