"""Slice-wise training (Algorithm 3): the stages of all sequences of a shard, each beginning trained once."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from paperworks import classification
from paperworks.classification import take_rows
from paperworks.classification.data import read_rows
from paperworks.papers.s3t.assignment import derived_seed
from paperworks.papers.s3t.bases import tensor_bytes
from paperworks.papers.s3t.blocks import BlockOrder, block_layers
from paperworks.papers.s3t.layers import Adapted
from paperworks.papers.s3t.sequences import Order
from paperworks.papers.s3t.store import about_tensors, read_tensors, write_tensors
from paperworks.runs import Progress, no_progress
from paperworks.runs.files import remove
from paperworks.training import TrainSettings, next_token_loss, train

Snapshot = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Job:
    """What the stages of all shards have in common.

    Attributes
    ----------
    adapted : the network.
    task : "classification" or "language".
    settings : of every stage; optimiser and schedule start afresh in each.
    seed : with shard, generation and prefix it decides a stage: its data's order, its dropout.
    checkpoint_dir : where finished stages and the checkpoints of the current one are kept.
    """

    adapted: Adapted
    task: str
    n_slices: int
    per_slice: int
    order: BlockOrder
    settings: TrainSettings
    seed: int
    checkpoint_dir: Path | None = None
    progress: Progress = no_progress


def shard_seed(seed: int, shard: int, generation: int) -> int:
    """Seed of the adapters and the head that every sequence of a shard starts from."""
    return derived_seed(seed, shard, generation, "start")


class ShardTraining:
    """The stages of one shard.

    Parameters
    ----------
    data : records of the shard ``[n]``, and ``labels`` class codes or None.
    slices : slice of each record ``[n]``.
    """

    def __init__(
        self, job: Job, data: Any, labels: np.ndarray | None, slices: np.ndarray, *, shard: int = 0, generation: int = 0
    ) -> None:
        self.job, self.data, self.labels, self.slices = job, data, labels, slices
        self.shard, self.generation = shard, generation
        self.done: dict[Order, Snapshot] = {}

    def sequence(
        self, order: Sequence[int], depth: int | None = None, *, after: Callable[[int], None] = lambda stage: None
    ) -> list[Snapshot]:
        """Train the stages of a sequence that no other one has trained; the adapters and the head of each stage.

        ``after`` is called at the end of every stage, with the network as it is then.
        """
        job, order = self.job, tuple(order)
        job.adapted.reset(shard_seed(job.seed, self.shard, self.generation))
        found = []
        for stage in range(1, (len(order) if depth is None else depth) + 1):
            prefix = order[:stage]
            if prefix not in self.done:
                self.done[prefix] = self._stage(prefix)
            else:
                job.adapted.write(self.done[prefix])
            found.append(self.done[prefix])
            after(stage)
        return found

    def _stage(self, prefix: Order) -> Snapshot:
        job, stage = self.job, len(prefix)
        layers = block_layers(job.adapted.depth, job.n_slices, job.per_slice, stage, job.order)
        kept = None if job.checkpoint_dir is None else self._kept(job.checkpoint_dir, prefix)
        if kept is not None and kept.file.exists():
            found = {key: torch.from_numpy(value) for key, value in read_tensors(kept.file).items()}
            job.adapted.write(found)
            return found
        rows = np.flatnonzero(np.isin(self.slices, prefix))  # cumulative: all slices so far
        examples = take_rows(self.data, rows)
        if stage == 1:
            job.adapted.fit_statistics(examples)
        job.adapted.train_only(layers)
        settings = replace(job.settings, seed=derived_seed(job.seed, self.shard, self.generation, prefix))
        fit_examples(
            job.adapted.model,
            examples,
            None if self.labels is None else self.labels[rows],
            job.task,
            settings,
            checkpoint_dir=None if kept is None else kept.checkpoints,
            progress=job.progress,
        )
        found = job.adapted.read(layers, head=True)
        if kept is not None:
            arrays = {key: value.numpy() for key, value in found.items()}
            write_tensors(kept.file, arrays, {"identity": kept.identity})
            shutil.rmtree(kept.checkpoints.parent, ignore_errors=True)  # the optimiser's moments have seen the records
        return found

    def _kept(self, folder: Path, prefix: Order) -> _Kept:
        """Where a stage is kept. What is there of another training, of a record that is gone perhaps, is removed."""
        name, identity = f"{self.shard}-{self.generation}-{'-'.join(map(str, prefix))}", self._identity(prefix)
        found = _Kept(folder / f"{name}.safetensors", folder / name / identity[:16], identity)
        if found.file.exists() and about_tensors(found.file).get("identity") != identity:
            remove(found.file)
        for other in found.checkpoints.parent.iterdir() if found.checkpoints.parent.is_dir() else ():
            if other != found.checkpoints:
                remove(other)
        return found

    def _identity(self, prefix: Order) -> str:
        """Digest of all that decides a stage's weights: options, seeds, the base, and what the records say."""
        job, rows = self.job, np.flatnonzero(np.isin(self.slices, prefix))
        options = [
            json.loads(json.dumps(job.settings.what_decides_the_weights())),
            [job.task, job.n_slices, job.per_slice, job.order, job.seed, self.shard, self.generation, list(prefix)],
            [repr(job.adapted.lora), job.adapted.layers, job.adapted.head, job.adapted.digest],
            [self.slices[rows].tolist(), content_digest(self.data, self.labels, rows)],
        ]
        return hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class _Kept:
    """A finished stage, the checkpoints of one that is not, and the digest of what decides it."""

    file: Path
    checkpoints: Path
    identity: str


def content_digest(examples: Any, labels: np.ndarray | None, rows: Sequence[int] | np.ndarray) -> str:
    """SHA-256 of what some records say."""
    found = hashlib.sha256()
    for name, value in sorted(read_rows(examples, rows).items()):
        found.update(name.encode())
        found.update(tensor_bytes(value))
    if labels is not None:
        found.update(labels[rows].tobytes())
    return found.hexdigest()


def fit_examples(
    model: torch.nn.Module,
    examples: Any,
    labels: np.ndarray | None,
    task: str,
    settings: TrainSettings,
    *,
    checkpoint_dir: Path | None = None,
    progress: Progress = no_progress,
) -> None:
    """Train what requires gradients: a classifier on labels, or a language model on its tokens."""
    count = classification.data.count_rows(examples)
    settings = replace(settings, batch_size=min(settings.batch_size, count))
    with plain_attention():
        if task == "language":
            train(model, examples, settings, loss=next_token_loss, checkpoint_dir=checkpoint_dir, progress=progress)
        else:
            classification.fit(
                model, examples, labels, settings=settings, checkpoint_dir=checkpoint_dir, progress=progress
            )


@contextmanager
def plain_attention() -> Iterator[None]:
    """Without the fused encoder layer of PyTorch, which reads weights past their adapters."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
