"""Training shards and writing what comes out: files of each sequence, and their place in the manifest."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from paperworks import classification
from paperworks.classification import take_rows
from paperworks.classification.data import read_rows
from paperworks.errors import InputError
from paperworks.papers.s3t.assignment import assign, derived_seed
from paperworks.papers.s3t.manifest import (
    Manifest,
    Stage,
    TrainedSequence,
    UnknownRecordError,
    membership,
    sequence_folder,
)
from paperworks.papers.s3t.sequences import Order
from paperworks.papers.s3t.stages import Job, ShardTraining, Snapshot, plain_attention
from paperworks.papers.s3t.store import Folder, stage_digest


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

    ``orders`` are the sequences by shard; ``manifest.records`` says which of the records is where.
    """
    row_of = {manifest.key(name): row for row, name in enumerate(names)}
    sequences, digests = list(manifest.sequences), list(manifest.slice_digests)
    jobs = [(shard, order) for shard, chosen in orders.items() for order in chosen]
    trained: dict[int, list[TrainedSequence]] = {shard: [] for shard in orders}
    training: ShardTraining | None = None
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
            digests[shard] = tuple(_content(examples, codes, [row_of[key] for key in slice_]) for slice_ in keys)
        scores: list[float | None] = []
        found = training.sequence(order, after=partial(_note_score, scores, job, validation))
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


def without_deleted(manifest: Manifest, names: Sequence[str], shards: Sequence[int]) -> Manifest:
    """The manifest for shards that are trained again: deleted records are in no slice, the others in new ones.

    Raises InputError where a record that is left is not among ``names``, or one of them was never trained on.
    """
    unknown = [name for name in names if manifest.key(name) not in manifest.records]
    if unknown:
        raise UnknownRecordError(unknown)
    given = {manifest.key(name) for name in names}
    records, generations = dict(manifest.records), list(manifest.generations)
    for shard in shards:
        own = [key for key, (s, _) in manifest.records.items() if s == shard]
        left = [key for key in own if key not in manifest.deleted]
        missing = sum(key not in given for key in left)
        if missing:
            raise InputError("data", f"without {missing} records of shard {shard}", "all that were not deleted")
        generations[shard] += 1
        seed = derived_seed(manifest.seed, shard, generations[shard])
        places = assign(len(left), 1, manifest.system.n_slices, seed=seed)
        records |= dict.fromkeys(own, (shard, -1))
        records |= {key: (shard, int(c)) for key, (_, c) in zip(left, places, strict=True)}
    dead = tuple(() if s in shards else slices for s, slices in enumerate(manifest.dead))
    return manifest.model_copy(update={"records": records, "generations": tuple(generations), "dead": dead})


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


def _content(examples: Any, codes: np.ndarray | None, rows: list[int]) -> str:
    """Digest of what the records of a slice say."""
    found = hashlib.sha256()
    for name, value in sorted(read_rows(examples, rows).items()):
        found.update(name.encode())
        found.update(np.ascontiguousarray(value.numpy()).tobytes())
    if codes is not None:
        found.update(codes[rows].tobytes())
    return found.hexdigest()
