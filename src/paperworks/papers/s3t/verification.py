"""Walking a folder to see that no served tensor was trained on a deleted record, and that nobody changed it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from paperworks.errors import InputError
from paperworks.papers.s3t.manifest import (
    ADAPTER,
    ADAPTER_CONFIG,
    Manifest,
    TrainedSequence,
    UnknownRecordError,
    membership,
    sequence_folder,
    stage_file,
)
from paperworks.papers.s3t.store import Folder, about_tensors, read_tensors, stage_digest

RecordState = Literal["deleted", "served", "not served"]


@dataclass(frozen=True)
class Verification:
    """What ``verify`` found.

    Attributes
    ----------
    problems : what is not as fit, delete and retrain left it, in words; empty where all is right.
    erasing : files on the disk that the manifest does not name: a deletion was stopped after its decision, a retraining
        was stopped, or they were put there. They are not served, and the next process that opens the folder for
        writing erases them.
    records : state of each id that was asked for: "deleted", no tensor that was trained on it is left in the manifest;
        "served", its slice is in a live stage; "not served", its slice is in none, though it was not deleted itself.
    receipts : the number of the receipt of each deleted id.
    stages : live stages whose tensors were compared with their digests.
    deletions : receipts in the log: the state is that after so many deletions.
    format : of the manifest; 0 where it could not be read. Up to 2, an edit of its ``created_time`` is not found.
    """

    problems: tuple[str, ...]
    erasing: tuple[str, ...]
    records: dict[str, RecordState]
    receipts: dict[str, int]
    stages: int
    deletions: int
    format: int = 0

    @property
    def ok(self) -> bool:
        return not self.problems


def verify_folder(folder: Folder, ids: Sequence[str] | None = None) -> Verification:
    """Check a folder against its manifest; nothing is changed.

    The manifest's own digest, the chain of receipts, every sequence's depth against the slices that are dead, every
    stage's records against those of its slices, every tensor against its digest, and files that nothing names.

    Raises ``UnknownRecordError`` for ids that were never trained on.
    """
    try:
        manifest = folder.read()
    except InputError as error:
        return Verification((str(error),), (), {}, {}, 0, 0)
    erasing = folder.stray(manifest)
    try:
        manifest = manifest.model_copy(update={"records": dict(manifest.records.items())})
        problems = [*_log_problems(manifest), *_depth_problems(manifest)]
    except InputError as error:
        return Verification((str(error),), (), {}, {}, 0, manifest.journal.head.receipts)
    ids = list(dict.fromkeys(ids or ()))
    unknown = [record for record in ids if manifest.key(record) not in manifest.records]
    if unknown:
        raise UnknownRecordError(unknown)
    stages = 0
    for shard, sequences in enumerate(manifest.sequences):
        for sequence in sequences:
            if not sequence.depth:
                continue
            where = sequence_folder(manifest, shard, sequence.order)
            try:
                problems += _stage_problems(folder, manifest, shard, sequence)
                if not folder.is_cut(manifest, shard, sequence):
                    erasing.append(where)
            except InputError as error:
                problems.append(str(error))
            stages += sequence.depth
    served = {
        (shard, slice_)
        for shard, sequences in enumerate(manifest.sequences)
        for sequence in sequences
        for slice_ in sequence.order[: sequence.depth]
    }
    states: dict[str, RecordState] = {}
    receipts = {}
    for record in ids:
        key = manifest.key(record)
        if key in manifest.deleted:
            states[record], receipts[record] = "deleted", manifest.deleted[key]
        else:
            states[record] = "served" if manifest.records[key] in served else "not served"
    return Verification(
        tuple(problems), tuple(erasing), states, receipts, stages, len(manifest.log), manifest.stored_format
    )


def _log_problems(manifest: Manifest) -> list[str]:
    problems, previous = [], ""
    for number, receipt in enumerate(manifest.log, 1):
        if receipt.number != number or receipt.previous != previous or receipt.sealed().digest != receipt.digest:
            problems.append(f"receipt {number} is not the one that was written")
        previous = receipt.digest
    head = manifest.journal.head
    if (len(manifest.log), previous, len(manifest.deleted)) != (head.receipts, head.last, manifest.requests):
        problems.append("the manifest counts other deletions than the receipts")
    return problems


def _depth_problems(manifest: Manifest) -> list[str]:
    """No live stage may have been trained on a slice that was hit, or on a record that was deleted."""
    problems = []
    hit = [set(slices) for slices in manifest.dead]
    for key, number in manifest.deleted.items():
        shard, slice_ = manifest.records.get(key, (-1, -1))
        if slice_ >= 0 and slice_ not in hit[shard]:
            problems.append(f"shard {shard}, slice {slice_}: alive after deletion {number}")
    for shard, sequences in enumerate(manifest.sequences):
        for sequence in sequences:
            bad = hit[shard] & set(sequence.order[: sequence.depth])
            if bad:
                name = "-".join(map(str, sequence.order))
                problems.append(f"shard {shard}, sequence {name}: serves dead slice {min(bad)}")
    return problems


def _stage_problems(folder: Folder, manifest: Manifest, shard: int, sequence: TrainedSequence) -> list[str]:
    where = sequence_folder(manifest, shard, sequence.order)
    stored = read_tensors(folder.path / where / ADAPTER)
    alive: dict[int, list[str]] = {}
    for key, (s, c) in manifest.records.items():
        if s == shard:
            alive.setdefault(c, []).append(key)
    problems = []
    head: dict[str, np.ndarray] = {}
    for number, stage in enumerate(sequence.stages, 1):
        expected = {str(c): membership(alive.get(c, ())) for c in sequence.order[:number]}
        path = folder.path / where / stage_file(number)
        about = about_tensors(path)
        if stage.trained_on != expected or json.loads(about.get("trained_on", "null")) != expected:
            problems.append(f"{where}, stage {number}: the records of its slices are not those that it was trained on")
        head = read_tensors(path)
        own = {name: stored[name] for name in manifest.system.stage_tensors(number) if name in stored}
        if stage_digest(own, head) != stage.digest:
            problems.append(f"{where}, stage {number}: its tensors are not those that were trained")
    served = {name: value for name, value in stored.items() if ".lora_" not in name}
    same = served.keys() == head.keys() and all(np.array_equal(served[name], head[name]) for name in head)
    if folder.is_cut(manifest, shard, sequence):
        if not same:
            problems.append(f"{where}: its adapter has another head than its last live stage")
        config = json.loads((folder.path / where / ADAPTER_CONFIG).read_text(encoding="utf-8"))
        if config != folder.adapter_config(manifest, sequence):
            problems.append(f"{where}: {ADAPTER_CONFIG} is not the one that was written")
    return problems
