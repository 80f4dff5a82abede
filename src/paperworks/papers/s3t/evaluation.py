"""Quality as requests arrive, from the stages that were trained, without deleting anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from paperworks import classification
from paperworks.papers.s3t.layers import Adapted, Lora
from paperworks.papers.s3t.sequences import Order
from paperworks.papers.s3t.serving import Aggregation, aggregate
from paperworks.papers.s3t.stages import fit_examples, plain_attention
from paperworks.papers.s3t.system import S3T
from paperworks.runs import Progress, no_progress
from paperworks.training import TrainSettings

StageLogits = Mapping[tuple[int, Order, int], np.ndarray]


@dataclass(frozen=True)
class Decline:
    """Accuracy after 0, 1, ... requests, by stream: float64 ``[streams, requests + 1]``; a dead system scores chance.

    ``lives`` are the requests until no shard was live, int64 ``[streams]``; one more than were simulated where it
    lived on.
    """

    accuracy: np.ndarray
    lives: np.ndarray


def stage_logits(
    system: S3T, data: Any, *, progress: Progress = no_progress
) -> dict[tuple[int, Order, int], np.ndarray]:
    """Logits of every live stage of every sequence, by (shard, order, depth); beginnings that are shared once."""
    manifest = system.manifest
    found: dict[tuple[int, Order, int], np.ndarray] = {}
    shared: dict[tuple[int, Order], np.ndarray] = {}
    jobs = [
        (shard, sequence.order, depth)
        for shard, sequences in enumerate(manifest.sequences)
        for sequence in sequences
        for depth in range(1, sequence.depth + 1)
    ]
    for shard, order, depth in progress(jobs, "measuring stages", len(jobs)):
        prefix = (shard, order[:depth])
        if prefix not in shared:
            shared[prefix] = system.stage_logits(shard, order, depth, data)
        found[shard, order, depth] = shared[prefix]
    return found


def decline(
    logits: StageLogits,
    labels: np.ndarray,
    orders: Mapping[int, list[Order]],
    requests: np.ndarray,
    aggregation: Aggregation = "mean_probs",
) -> Decline:
    """Accuracy under streams of requests.

    Parameters
    ----------
    logits : of the stages, see ``stage_logits``.
    orders : the sequences of each shard that may serve; the first one alone is SISA.
    requests : (shard, slice) of every request, int64 ``[streams, requests, 2]``.
    """
    streams, length = requests.shape[:2]
    chance = 1 / next(iter(logits.values())).shape[1]
    known: dict[tuple[Any, ...], float] = {}
    accuracy = np.empty((streams, length + 1))
    lives = np.full(streams, length + 1, dtype=np.int64)
    for stream in range(streams):
        depth = {(shard, order): len(order) for shard, chosen in orders.items() for order in chosen}
        for number in range(length + 1):
            if number:
                shard, slice_ = (int(v) for v in requests[stream, number - 1])
                for order in orders[shard]:
                    depth[shard, order] = min(depth[shard, order], order.index(slice_))
            serving = []
            for shard, chosen in orders.items():
                best = max(chosen, key=lambda order: depth[shard, order])
                if depth[shard, best]:
                    serving.append((shard, best, depth[shard, best]))
            if not serving:
                lives[stream] = min(lives[stream], number)
                accuracy[stream, number] = chance
                continue
            state = tuple(serving)
            if state not in known:
                answers = aggregate(np.stack([logits[one] for one in state]), aggregation)
                known[state] = float((answers.argmax(1) == labels).mean())
            accuracy[stream, number] = known[state]
    return Decline(accuracy, lives)


def uniform_requests(
    n_shards: int, n_slices: int, streams: int, length: int, rng: np.random.Generator, prior: np.ndarray | None = None
) -> np.ndarray:
    """Streams of (shard, slice), int64 ``[streams, length, 2]``; with a prior ``[m, L]`` drawn from it."""
    total = n_shards * n_slices
    drawn = rng.choice(total, size=(streams, length), p=None if prior is None else prior.ravel())
    return np.stack(np.divmod(drawn, n_slices), axis=-1)


def full_fine_tuning(
    module: torch.nn.Module,
    lora: Lora,
    examples: Any,
    codes: np.ndarray | None,
    settings: TrainSettings,
    *,
    task: str = "classification",
    head: list[str] | None = None,
    seed: int = 0,
    checkpoint_dir: Path | None = None,
    progress: Progress = no_progress,
) -> Adapted:
    """One ordinary fine-tuning: adapters of all layers and the head, on all records at once."""
    adapted = Adapted(module, lora, head=head)
    adapted.reset(seed)
    adapted.fit_statistics(examples)
    adapted.train_only(range(adapted.depth))
    fit_examples(
        adapted.model,
        examples,
        codes,
        task,
        replace(settings, seed=seed),
        checkpoint_dir=checkpoint_dir,
        progress=progress,
    )
    return adapted


def accuracy_of(adapted: Adapted, data: Any, labels: np.ndarray, device: str) -> tuple[int, int]:
    """Right answers, and answers."""
    with plain_attention():
        predicted = classification.predict(adapted.model, data, device=device)
    return int((predicted == labels).sum()), len(labels)


def token_loss(adapted: Adapted, data: Any, device: str) -> float:
    """Mean loss per token of a language model, in nats."""
    from paperworks.classification.data import as_examples, batches
    from paperworks.nn import evaluation_mode, resolve_device
    from paperworks.training import next_token_loss

    total, count, model, place = 0.0, 0.0, adapted.model, resolve_device(device)
    model.to(place)
    with plain_attention(), evaluation_mode(model), torch.inference_mode():
        for batch in batches(as_examples(data), 16, place):
            loss, targets = next_token_loss(model, batch)
            total, count = total + float(loss), count + float(targets)
    return total / max(count, 1)
