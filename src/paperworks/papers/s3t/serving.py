"""Answers of the live shards, put together; exported adapters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike

from paperworks import classification
from paperworks.classification.data import as_examples, batches
from paperworks.errors import InputError
from paperworks.nn import evaluation_mode, resolve_device
from paperworks.nn.loading import first_line
from paperworks.papers.s3t.layers import Adapted
from paperworks.papers.s3t.manifest import ADAPTER, ADAPTER_CONFIG, Manifest, TrainedSequence, sequence_folder
from paperworks.papers.s3t.stages import plain_attention, shard_seed
from paperworks.papers.s3t.store import Folder
from paperworks.runs.files import new_folder
from paperworks.training import model_logits

Aggregation = Literal["mean_probs", "mean_logits", "vote"]


class Server:
    """Puts the stages of a manifest into the network, and asks it. A new one is made after every change."""

    def __init__(self, folder: Folder, manifest: Manifest, adapted: Adapted, device: str = "auto") -> None:
        self.folder, self.manifest, self.adapted, self.device = folder, manifest, adapted, device
        self._loaded: tuple[int, tuple[int, ...], int] | None = None

    def logits(self, shard: int, order: Sequence[int], depth: int, data: Any) -> np.ndarray:
        """Logits of the first stages of a sequence."""
        self._load(shard, tuple(order), depth)
        with plain_attention(), _readable():
            return classification.predict_logits(self.adapted.model, data, device=self.device)

    def probabilities(self, data: Any) -> np.ndarray:
        """Probabilities of the classes by all live shards, float64 ``[n, C]``."""
        self._require("classification")
        examples = as_examples(data)
        found = [self.logits(shard, q.order, q.depth, examples) for shard, q in self._live()]
        return aggregate(np.stack(found), self.manifest.system.aggregation)

    def token_loss(self, data: Any) -> float:
        """Mean loss per token in nats of the averaged distribution."""
        self._require("language")
        examples = as_examples({"input_ids": data} if not hasattr(data, "keys") else data)
        total, count = 0.0, 0
        for batch in batches(examples, 16, resolve_device(self.device)):
            tokens = batch["input_ids"]
            targets = batch.get("labels", tokens)[:, 1:]
            probabilities = self._next_tokens(batch)[:, :-1]
            chosen = probabilities.gather(-1, targets.clamp(min=0)[..., None])[..., 0]
            wanted = targets >= 0
            total -= float(chosen[wanted].log().sum())
            count += int(wanted.sum())
        return total / max(count, 1)

    def generate(self, tokens: ArrayLike, max_new_tokens: int) -> list[int]:
        """Greedy continuation."""
        self._require("language")
        found = [int(token) for token in np.asarray(tokens).ravel()]
        if not found:
            raise InputError("tokens", "none", "at least one token to go on from")
        device = resolve_device(self.device)
        for _ in range(max_new_tokens):
            probabilities = self._next_tokens({"input_ids": torch.tensor([found], device=device)})
            found.append(int(probabilities[0, -1].argmax()))
        return found

    def export(self, shard: int, folder: Path) -> Path:
        """Copy the served prefix of a shard to a new folder."""
        manifest = self.manifest
        if not 0 <= shard < manifest.system.n_shards:
            raise InputError("shard", shard, f"0 to {manifest.system.n_shards - 1}")
        sequence = manifest.serving(shard)
        if sequence is None:
            raise InputError("shard", f"{shard}, which serves nothing", "a live shard, or retrain")
        source = self.folder.path / sequence_folder(manifest, shard, sequence.order)
        with new_folder(folder) as aside:
            for name in (ADAPTER, ADAPTER_CONFIG):
                (aside / name).write_bytes((source / name).read_bytes())
        return folder

    def _require(self, task: str) -> None:
        if self.manifest.task != task:
            raise InputError("task", repr(self.manifest.task), f"{task!r}")

    def _live(self) -> list[tuple[int, TrainedSequence]]:
        found = [(shard, self.manifest.serving(shard)) for shard in range(self.manifest.system.n_shards)]
        live = [(shard, sequence) for shard, sequence in found if sequence is not None]
        if not live:
            raise InputError("folder", "no live sequence in any shard", "a system that is live: retrain is due")
        return live

    def _load(self, shard: int, order: tuple[int, ...], depth: int) -> None:
        if self._loaded == (shard, order, depth):
            return
        sequence = next((q for q in self.manifest.sequences[shard] if q.order == order), None)
        if sequence is None:
            raise InputError("order", order, "a sequence of the shard")
        tensors = self.folder.read_sequence(self.manifest, shard, sequence, depth)
        self.adapted.reset(shard_seed(self.manifest.seed, shard, self.manifest.generations[shard]))
        self.adapted.write({name: torch.from_numpy(value) for name, value in tensors.items()})
        self._loaded = (shard, order, depth)

    def _next_tokens(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Averaged next-token distributions ``[n, T, V]``."""
        total, live = None, self._live()
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        model = self.adapted.model
        for shard, sequence in live:
            self._load(shard, sequence.order, sequence.depth)
            model.to(next(iter(inputs.values())).device)
            with plain_attention(), evaluation_mode(model), torch.inference_mode(), _readable():
                logits = model_logits(model, inputs).float()
                if self.manifest.system.aggregation != "mean_logits":
                    logits = logits.softmax(-1)
            total = logits if total is None else total + logits
        assert total is not None
        mean = total / len(live)
        return mean.softmax(-1) if self.manifest.system.aggregation == "mean_logits" else mean


@contextmanager
def _readable() -> Iterator[None]:
    """Turn an error of the network into one about the records."""
    try:
        yield
    except (RuntimeError, IndexError, TypeError, ValueError) as error:
        if isinstance(error, (InputError, torch.OutOfMemoryError)):
            raise
        found = f"records that the network does not take ({first_line(error)})"
        raise InputError("data", found, "records with the columns of fit") from error


def aggregate(logits: np.ndarray, how: Aggregation) -> np.ndarray:
    """Probabilities float64 ``[n, C]`` from the logits of shards ``[shards, n, C]``.

    "mean_logits" is the softmax of the mean; "mean_probs" the mean of the softmaxes; "vote" the share of shards whose
    largest logit it is.
    """
    from scipy.special import softmax

    values = logits.astype(np.float64)
    if how == "mean_logits":
        return softmax(values.mean(0), axis=-1)
    if how == "mean_probs":
        return softmax(values, axis=-1).mean(0)
    if how == "vote":
        return np.eye(values.shape[-1])[values.argmax(-1)].mean(0)
    raise InputError("aggregation", repr(how), "mean_probs, mean_logits or vote")
