"""Training shards and writing what comes out: files of each sequence, and their place in the manifest."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, Literal

import numpy as np

from paperworks import classification
from paperworks.classification import take_rows
from paperworks.papers.s3t.arguments import versions
from paperworks.papers.s3t.assignment import derived_seed
from paperworks.papers.s3t.manifest import (
    Manifest,
    Stage,
    System,
    TrainedSequence,
    membership,
    record_key,
    sequence_folder,
)
from paperworks.papers.s3t.sequences import Order
from paperworks.papers.s3t.stages import Job, ShardTraining, Snapshot, content_digest, plain_attention
from paperworks.papers.s3t.store import Folder, stage_digest
from paperworks.training import TrainSettings


def train_shards(
    store: Folder,
    manifest: Manifest,
    job: Job,
    orders: Mapping[int, Sequence[Order]],
    examples: Any,
    codes: np.ndarray | None,
    names: Sequence[str],
    *,
    validation: tuple[Any, Any] | None = None,
) -> Manifest:
    """Train the sequences of some shards, write their files, and return the manifest that names them.

    ``orders`` are the sequences by shard; ``manifest.records`` says which of the records is where. Raises InputError
    where a training changes what stages share.
    """
    row_of = {manifest.key(name): row for row, name in enumerate(names)}
    sequences, digests = list(manifest.sequences), list(manifest.slice_digests)
    jobs = [(shard, order) for shard, chosen in orders.items() for order in chosen]
    trained: dict[int, list[TrainedSequence]] = {shard: [] for shard in orders}
    training: ShardTraining | None = None
    frozen = job.adapted.frozen()
    keys: list[list[str]] = []
    for shard, order in job.progress(jobs, "sequences", len(jobs)):
        if training is None or training.shard != shard:
            keys = [manifest.members(shard, c) for c in range(job.n_slices)]
            rows = np.array(sorted(row_of[key] for slice_ in keys for key in slice_))
            place = {row_of[key]: c for c, slice_ in enumerate(keys) for key in slice_}
            training = ShardTraining(
                job,
                take_rows(examples, rows),
                None if codes is None else codes[rows],
                np.array([place[row] for row in rows]),
                shard=shard,
                generation=manifest.generations[shard],
            )
            digests[shard] = tuple(content_digest(examples, codes, [row_of[key] for key in slice_]) for slice_ in keys)
        scores: list[float | None] = []
        found = training.sequence(order, after=partial(_note_score, scores, job, validation))
        job.adapted.check_frozen(frozen)
        heads, stages = [], []
        for number, snapshot in enumerate(found, 1):
            adapters, head = _parts(snapshot)
            heads.append(head)
            stages.append(
                Stage(
                    digest=stage_digest(adapters, head),
                    trained_on={str(c): membership(keys[c]) for c in order[:number]},
                    records=sum(len(keys[c]) for c in order[:number]),
                    validation=scores[number - 1],
                )
            )
        sequence = TrainedSequence(order=order, stages=tuple(stages))
        folder = store.path / sequence_folder(manifest, shard, order)
        folder.mkdir(parents=True, exist_ok=True)
        every = {name: value for snapshot in found for name, value in _parts(snapshot)[0].items()}
        store.write_sequence(folder, manifest, sequence, every, heads)
        trained[shard].append(sequence)
    for shard, made in trained.items():
        sequences[shard] = tuple(made)
    return manifest.model_copy(update={"sequences": tuple(sequences), "slice_digests": tuple(digests)})


def first_manifest(
    system: System,
    places: np.ndarray,
    names: Sequence[str],
    *,
    seed: int,
    task: Literal["classification", "language"],
    classes: Sequence[str],
    base: dict[str, Any],
    adapter: dict[str, Any],
    settings: TrainSettings,
    extra: Mapping[str, Any],
) -> Manifest:
    """The manifest of a system that is not yet trained: where every record is."""
    salt, nothing = f"{derived_seed(seed, 'salt'):016x}", ((),) * system.n_shards
    return Manifest(
        created_time=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=versions(),
        seed=seed,
        salt=salt,
        task=task,
        classes=tuple(classes),
        base=base,
        adapter=adapter,
        training=json.loads(json.dumps(settings.what_decides_the_weights())),
        extra=dict(extra),
        system=system,
        records={record_key(salt, n): (int(s), int(c)) for n, (s, c) in zip(names, places, strict=True)},
        dead=nothing,
        slice_digests=nothing,
        sequences=nothing,
        generations=(0,) * system.n_shards,
    )


def describe_rows(
    places: np.ndarray, codes: np.ndarray | None, classes: Sequence[str], n_shards: int, n_slices: int, batch_size: int
) -> list[str]:
    """What is wrong with slices that are very small, or that lack a class."""
    notes = []
    sizes = np.zeros((n_shards, n_slices), dtype=np.int64)
    np.add.at(sizes, (places[:, 0], places[:, 1]), 1)
    if sizes.min() < batch_size:
        notes.append(f"the smallest slice has {sizes.min()} records, fewer than a batch of {batch_size}")
    if codes is not None:
        present = np.zeros((n_shards, n_slices, len(classes)), dtype=bool)
        present[places[:, 0], places[:, 1], codes] = True
        lacking = ~present
        if lacking.any():
            shard, slice_, code = np.argwhere(lacking)[0]
            notes.append(
                f"{int(lacking.any(2).sum())} of {n_shards * n_slices} slices lack a class; shard {shard}, slice "
                f"{slice_} has no {classes[code]!r}"
            )
    return notes


def _parts(snapshot: Snapshot) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Adapters and head of a stage."""
    arrays = {name: value.numpy() for name, value in snapshot.items()}
    adapters = {name: value for name, value in arrays.items() if ".lora_" in name}
    return adapters, {name: value for name, value in arrays.items() if ".lora_" not in name}


def _note_score(scores: list[float | None], job: Job, validation: tuple[Any, Any] | None, stage: int) -> None:
    scores.append(_score(job, validation))


def _score(job: Job, validation: tuple[Any, Any] | None) -> float | None:
    if validation is None:
        return None
    with plain_attention():
        predicted = classification.predict(job.adapted.model, validation[0], device=job.settings.device)
    return float((predicted == np.asarray(validation[1])).mean())
