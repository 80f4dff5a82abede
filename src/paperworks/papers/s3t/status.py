"""What a manifest serves, and for how long."""

from __future__ import annotations

from dataclasses import dataclass

from paperworks.papers.s3t.manifest import Manifest
from paperworks.papers.s3t.theory import collector_mean


@dataclass(frozen=True)
class Status:
    """What is served now.

    Attributes
    ----------
    live_shards : shards that answer.
    depth : stages that each shard serves.
    sequences : live sequences of each shard with their depths.
    dead : slices of each shard that deletions have hit.
    deleted, requests : records deleted, and requests served.
    expected_requests : further requests until no shard is live, in expectation (closed form, given what is live now).
    retrain_due : whether no shard is live.
    """

    live_shards: list[int]
    depth: list[int]
    sequences: list[dict[tuple[int, ...], int]]
    dead: list[list[int]]
    deleted: int
    requests: int
    expected_requests: float
    retrain_due: bool


def status_of(manifest: Manifest) -> Status:
    """What a manifest says is served; no network is needed."""
    system = manifest.system
    serving = [manifest.serving(shard) for shard in range(system.n_shards)]
    wanted = []
    for shard, sequences in enumerate(manifest.sequences):
        for first in {sequence.order[0] for sequence in sequences if sequence.depth}:
            uniform = 1 / (system.n_shards * system.n_slices)
            wanted.append(uniform if system.prior is None else system.prior[shard][first])
    return Status(
        live_shards=manifest.live_shards,
        depth=[0 if sequence is None else sequence.depth for sequence in serving],
        sequences=[{q.order: q.depth for q in sequences if q.depth} for sequences in manifest.sequences],
        dead=[list(slices) for slices in manifest.dead],
        deleted=len(manifest.deleted),
        requests=manifest.requests,
        expected_requests=collector_mean(wanted),
        retrain_due=not manifest.live_shards,
    )
