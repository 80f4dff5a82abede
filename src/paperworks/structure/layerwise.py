"""Scores of a checkpoint folder whose model never is in memory as a whole: one layer at a time.

Forward statistics need one pass. Taylor scores need two (``layerwise_gradients``): forward, keeping what every layer
reads, then backward from the last layer to the first, each computed again; the gradients are those of the loss of the
whole model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self

import torch
from torch import nn

from paperworks.errors import InputError
from paperworks.runs import Progress, no_progress
from paperworks.structure.activations import ActivationMoments, ReadChannels
from paperworks.structure.allocator import LIBRARY_BYTES, freed_at_once
from paperworks.structure.calibration import CHUNK_BYTES, ActivationStore, LayerContexts, TokenBatches
from paperworks.structure.checkpoints import CheckpointReader, FolderWeights
from paperworks.structure.layers_sliced import part
from paperworks.structure.registry import read_config, spec_for
from paperworks.structure.scores import LayerChange, Scores, magnitude_scores
from paperworks.structure.units import Key, Units, units_of

BUDGET = 2**30
"""Bytes of activations between layers that stay in memory unless told otherwise."""


class Watcher(Protocol):
    """What looks at a layer while it runs."""

    def set_mask(self, mask: torch.Tensor | None) -> None:
        """The attention mask [b, T] of the batches that follow (0: padding)."""


class LayerwiseRunner:
    """Runs the calibration set through a checkpoint folder layer by layer.

    ``with LayerwiseRunner(folder, ids) as stream: for number in stream.layers(): ...``

    Memory over the start of the process: the weights of one layer in ``dtype``, at most ``activation_budget``, and what
    does not grow with the model's depth or the calibration set: the activations inside a layer of one batch, one matrix
    as it is stored, 24 MB for sums in float64, 40 MB for the libraries (``layerwise_memory_bytes`` counts them). Of the
    token embeddings only the rows of one batch are read. The C library gives blocks back at once meanwhile
    (``freed_at_once``).

    ``model`` is the model on the meta device whose layers come and go: watchers put their hooks there.

    Parameters
    ----------
    folder : a stock checkpoint of transformers in safetensors. Its files are never changed.
    calibration, attention_mask : int64 [n, T]; see ``TokenBatches``. With a mask, positions count tokens, not columns.
    batch_size : sequences that a layer computes together.
    activation_budget : bytes. The activations between two layers, n * T * D numbers, stay in memory if they take no
        more; otherwise they are in a file in ``spill_dir`` (None: the system's temporary folder), which has no name and
        goes with the process, and of which one batch is mapped at a time.
    dtype : in which layers are computed; None: the checkpoint's own, but float32 at least.
    """

    def __init__(
        self,
        folder: str | Path,
        calibration: Any,
        attention_mask: Any = None,
        *,
        batch_size: int = 8,
        activation_budget: int = BUDGET,
        spill_dir: str | Path | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if isinstance(activation_budget, bool) or not isinstance(activation_budget, int) or activation_budget < 0:
            raise InputError("activation_budget", activation_budget, "bytes, a whole number of at least 0")
        config = read_config(Path(folder))
        self.family = spec_for(config)
        if self.family.experts is not None:
            expected = "a family without experts, or the model in memory: checkpoints hold experts one by one"
            raise InputError("folder", self.family.model_type, expected)
        self.tokens = TokenBatches(calibration, attention_mask, batch_size)
        self.tokens.check(config, self.family)
        self.weights = FolderWeights(Path(folder))
        self.model = self.weights.model
        own = self.weights.reader.dtype
        self.dtype = torch.promote_types(own, torch.float32) if dtype is None else dtype
        self.budget = activation_budget
        self._spill_dir = None if spill_dir is None else Path(spill_dir)
        self._left = activation_budget
        self._stores: list[ActivationStore] = []
        self._open = ExitStack()
        self._contexts = LayerContexts(self.model, self.family, self.tokens)
        self.layer_count = len(part(self.model, self.family.layers))

    def __enter__(self) -> Self:
        self._open.enter_context(freed_at_once())
        return self

    def __exit__(self, *_: object) -> None:
        for store in self._stores:
            store.close()
        self._open.close()

    @property
    def spilled_bytes(self) -> int:
        """Bytes of activations that are in files."""
        return sum(store.spilled_bytes for store in self._stores)

    def store(self) -> ActivationStore:
        """A place for the activations between two layers, inside what is left of the budget or in a file."""
        width = self.model.config.hidden_size
        store = ActivationStore(self.tokens, width, self.dtype, self._left, self._spill_dir)
        if not store.on_disk:
            self._left -= self.tokens.ids.numel() * width * torch.empty(0, dtype=self.dtype).element_size()
        self._stores.append(store)
        return store

    def layers(
        self,
        watchers: Sequence[Watcher] = (),
        *,
        keep: Sequence[ActivationStore] = (),
        progress: Progress = no_progress,
    ) -> Iterator[int]:
        """The number of each layer, after all batches have gone through it and while its weights are still there.

        ``keep``: one store more than there are layers; layer l then reads from store l and writes to the next.
        """
        stores = list(keep) or [self.store()] * (self.layer_count + 1)
        total = len(self.tokens) * (self.layer_count + 1)
        steps = iter(progress(range(total), "layers", total))
        self._embed(stores[0], steps)
        for number in range(self.layer_count):
            path = f"{self.family.layers}.{number}"
            layer = self.weights.fetch(path, self.dtype)
            self._run(layer, number, stores[number], stores[number + 1], watchers, steps)
            yield number
            self.weights.give_back(path)
        for _ in steps:
            pass

    def mask(self, index: int) -> torch.Tensor | None:
        """The attention mask of batch ``index``, or None."""
        return None if self.tokens.mask is None else self.tokens.mask[self.tokens.rows(index)]

    def output_of(self, layer: Any, number: int, index: int, x: torch.Tensor) -> torch.Tensor:
        """What layer ``number`` makes of its input [b, T, D] of batch ``index``."""
        y = layer(x, **self._contexts.context(number, index, x))
        return y[0] if isinstance(y, tuple) else y

    @torch.no_grad()
    def _embed(self, store: ActivationStore, steps: Iterator[Any]) -> None:
        family, model = self.family, self.model
        table = part(model, family.embeddings[0])
        for path in family.embeddings[1:]:
            self.weights.fetch(path, self.dtype)  # position tables stay: layers ask for masks through them
        norm = self.weights.fetch(family.embedding_norm, self.dtype) if family.embedding_norm else None
        model.set_submodule(
            family.embeddings[0], _RowsOnly(self.weights.reader, family.embeddings[0], table, self.dtype)
        )
        try:
            for index in range(len(self.tokens)):
                x = self._contexts.embed(index)
                store.write(index, x if norm is None else norm(x))
                next(steps, None)
        finally:
            model.set_submodule(family.embeddings[0], table)

    @torch.no_grad()
    def _run(
        self,
        layer: Any,
        number: int,
        source: ActivationStore,
        target: ActivationStore,
        watchers: Sequence[Watcher],
        steps: Any,
    ) -> None:
        for index in range(len(self.tokens)):
            for watcher in watchers:
                watcher.set_mask(self.mask(index))
            target.write(index, self.output_of(layer, number, index, source.read(index)))
            next(steps, None)


class _RowsOnly(nn.Module):
    """An embedding that reads the rows it is asked for from the checkpoint."""

    def __init__(self, reader: CheckpointReader, path: str, table: Any, dtype: torch.dtype) -> None:
        super().__init__()
        self._reader, self._name, self._dtype = reader, f"{path}.weight", dtype
        self._table = [table]  # not a submodule
        self.embedding_dim, self.weight = table.embedding_dim, table.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        rows, places = ids.unique(return_inverse=True)
        table, whole, padding = self._table[0], self._table[0].weight, self._table[0].padding_idx
        table.weight, table.padding_idx = nn.Parameter(self._reader.read_rows(self._name, rows, self._dtype)), None
        try:
            return table(places)  # some classes do more than look up: Gemma's scales
        finally:
            table.weight, table.padding_idx = whole, padding


def layerwise_memory_bytes(
    folder: str | Path,
    length: int,
    *,
    sequences: int,
    batch_size: int = 8,
    activation_budget: int = BUDGET,
    dtype: torch.dtype = torch.float32,
    taylor: bool = False,
) -> dict[str, int]:
    """Bytes that ``layerwise_scores`` (or ``layerwise_taylor``) holds at once over the start of the process, by part.

    ``weights``: one layer in ``dtype`` (``taylor``: three times, with the gradients of a batch and their sum);
    ``stored``: its largest matrix as it is stored; ``activations``: of one batch, 8 times the stream's width and 4
    times the feed-forward's for each token (``taylor``: 24 and 7 times, with what the backward pass needs); ``sums``:
    pieces in float64; ``libraries``: what is loaded when it is first used; ``budget``: as much of the activations
    between layers as fits ``activation_budget`` in whole sets of ``sequences``. With ``taylor``, where the head takes
    more than a layer, ``weights`` are the head's, and ``activations`` five times the logits of a batch.
    """
    weights = FolderWeights(Path(folder))
    model, family = weights.model, spec_for(weights.model.config)
    layer, width = part(model, family.layers)[0], model.config.hidden_size
    itemsize, stored = torch.empty(0, dtype=dtype).element_size(), weights.reader.dtype.itemsize
    numbers = [p.numel() for p in layer.parameters()]
    down = part(layer, family.feed_forward.outputs[0])
    ffn = down.nx if hasattr(down, "nf") else down.in_features
    rows = batch_size * length * itemsize
    stream = sequences * length * width * itemsize
    sets = min(activation_budget // stream, len(part(model, family.layers)) + 2 if taylor else 1)
    at_layer = {
        "weights": sum(numbers) * itemsize * (3 if taylor else 1),
        "stored": max(numbers) * stored,
        "activations": rows * (24 * width + 7 * ffn if taylor else 8 * width + 4 * ffn),
    }
    if taylor and family.head:
        head = part(model, family.head).weight.numel()
        vocabulary = head // width
        at_head = {"weights": head * itemsize, "stored": head * stored, "activations": 5 * rows * vocabulary}
        at_layer = max(at_layer, at_head, key=lambda parts: sum(parts.values()))
    return {**at_layer, "sums": 3 * CHUNK_BYTES, "libraries": LIBRARY_BYTES, "budget": sets * stream}


@dataclass
class LayerwiseScores:
    """Forward statistics of a checkpoint folder.

    Attributes
    ----------
    units : of the model, layer by layer.
    channels : of every unit set with one reader (``ffn``, ``kv_group``, ``q_head``): means, variances, norms.
    activation, magnitude, wanda : scores of all units, as ``activation_scores``, ``magnitude_scores`` and
        ``ReadChannels.wanda`` give them.
    fluctuation : ``ReadChannels.standardised``, FLAP's scores.
    layer_change : by metric, float64 [layers], as ``LayerChange.importance`` gives it.
    tokens : that were counted, without padding.
    spilled_bytes : of activations in files.
    """

    units: Units
    channels: dict[Key, ReadChannels] = field(default_factory=dict)
    activation: Scores = field(default_factory=dict)
    magnitude: Scores = field(default_factory=dict)
    wanda: Scores = field(default_factory=dict)
    fluctuation: Scores = field(default_factory=dict)
    layer_change: dict[str, torch.Tensor] = field(default_factory=dict)
    tokens: int = 0
    spilled_bytes: int = 0


def layerwise_scores(
    folder: str | Path,
    calibration: Any,
    attention_mask: Any = None,
    *,
    kinds: Sequence[str] = ("kv_group", "ffn"),
    layer_metrics: Sequence[Any] = ("cosine",),
    batch_size: int = 8,
    activation_budget: int = BUDGET,
    spill_dir: str | Path | None = None,
    dtype: torch.dtype | None = None,
    progress: Progress = no_progress,
) -> LayerwiseScores:
    """Scores that need forward passes only, from a checkpoint folder, one layer in memory at a time.

    Parameters are those of ``LayerwiseRunner``, which says what bounds the memory; ``kinds`` are of ``ffn``,
    ``kv_group`` and ``q_head``; ``layer_metrics`` of ``cosine``, ``euclidean`` and ``manhattan``. What is returned, a
    few float64 numbers for each channel of the model, is held besides.

    Raises InputError for a folder, tokens or kinds that cannot be used, a full disk, and values that are not finite.
    """
    with (
        LayerwiseRunner(
            folder,
            calibration,
            attention_mask,
            batch_size=batch_size,
            activation_budget=activation_budget,
            spill_dir=spill_dir,
            dtype=dtype,
        ) as stream,
        ExitStack() as stack,
    ):
        units = units_of(stream.model, kinds)
        found = LayerwiseScores(units, tokens=stream.tokens.count)
        moments = stack.enter_context(ActivationMoments(stream.model, units))
        changes = {metric: stack.enter_context(LayerChange(stream.model, metric)) for metric in layer_metrics}
        for number in stream.layers([moments, *changes.values()], progress=progress):
            channels = moments.channels(number)
            found.channels |= channels
            found.magnitude |= magnitude_scores(stream.model, Units(units[key] for key in channels))
        for key, read in found.channels.items():
            found.activation[key] = read.index.reduce(read.mean.square() + read.variance)
            found.wanda[key], found.fluctuation[key] = read.wanda, read.standardised
        found.layer_change = {metric: change.importance() for metric, change in changes.items()}
        found.spilled_bytes = stream.spilled_bytes
    return found
