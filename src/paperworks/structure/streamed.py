"""Scores of a checkpoint folder whose model never is in memory as a whole: one layer at a time.

Forward statistics need one pass. Taylor scores need two: forward, keeping what every layer reads, then backward from
the last layer to the first, each computed again; the gradients are those of the loss of the whole model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol, Self

import torch
from torch import nn

from paperworks.errors import InputError
from paperworks.runs import Progress, no_progress
from paperworks.structure.activations import ActivationMoments, ReadChannels
from paperworks.structure.allocator import LIBRARY_BYTES, freed_at_once
from paperworks.structure.calibration import CHUNK_BYTES, LayerContexts, StreamStore, TokenBatches
from paperworks.structure.checkpoints import CheckpointReader, FolderWeights
from paperworks.structure.layers_sliced import part
from paperworks.structure.registry import read_config, spec_for
from paperworks.structure.scores import LayerChange, Reduction, Scores, Taylor, TaylorScores, magnitude_scores
from paperworks.structure.units import LAYER_KINDS, Key, Units, units_of
from paperworks.training.losses import Loss, next_token_loss

BUDGET = 2**30
"""Bytes of activations between layers that stay in memory unless told otherwise."""


class Watcher(Protocol):
    """What looks at a layer while it runs."""

    def set_mask(self, mask: torch.Tensor | None) -> None:
        """The attention mask [b, T] of the batches that follow (0: padding)."""


class LayerStream:
    """Runs the calibration set through a checkpoint folder layer by layer.

    ``with LayerStream(folder, ids) as stream: for number in stream.layers(): ...``

    Memory over the start of the process: the weights of one layer in ``dtype``, at most ``activation_budget``, and what
    does not grow with the model's depth or the calibration set: the activations inside a layer of one batch, one matrix
    as it is stored, 24 MB for sums in float64, 40 MB for the libraries (``layer_stream_bytes`` counts them). Of the
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
        self.tokens = TokenBatches(calibration, attention_mask, batch_size)
        self.tokens.check(config, self.family)
        self.weights = FolderWeights(Path(folder))
        self.model = self.weights.model
        own = self.weights.reader.dtype
        self.dtype = torch.promote_types(own, torch.float32) if dtype is None else dtype
        self.budget = activation_budget
        self._spill_dir = None if spill_dir is None else Path(spill_dir)
        self._left = activation_budget
        self._stores: list[StreamStore] = []
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

    def store(self) -> StreamStore:
        """A place for the activations between two layers, inside what is left of the budget or in a file."""
        width = self.model.config.hidden_size
        store = StreamStore(self.tokens, width, self.dtype, self._left, self._spill_dir)
        if not store.on_disk:
            self._left -= self.tokens.ids.numel() * width * torch.empty(0, dtype=self.dtype).element_size()
        self._stores.append(store)
        return store

    def layers(
        self, watchers: Sequence[Watcher] = (), *, keep: Sequence[StreamStore] = (), progress: Progress = no_progress
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
    def _embed(self, store: StreamStore, steps: Iterator[Any]) -> None:
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
        self, layer: Any, number: int, source: StreamStore, target: StreamStore, watchers: Sequence[Watcher], steps: Any
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


def layer_stream_bytes(
    folder: str | Path,
    length: int,
    *,
    sequences: int,
    batch_size: int = 8,
    activation_budget: int = BUDGET,
    dtype: torch.dtype = torch.float32,
    taylor: bool = False,
) -> dict[str, int]:
    """What ``streamed_scores`` (or ``streamed_taylor``) holds at once over the start of the process, by part, in bytes.

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
class StreamedScores:
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


def streamed_scores(
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
) -> StreamedScores:
    """Scores that need forward passes only, from a checkpoint folder, one layer in memory at a time.

    Parameters are those of ``LayerStream``, which says what bounds the memory; ``kinds`` are of ``ffn``, ``kv_group``
    and ``q_head``; ``layer_metrics`` of ``cosine``, ``euclidean`` and ``manhattan``. What is returned, a few float64
    numbers for each channel of the model, is held besides.

    Raises InputError for a folder, tokens or kinds that cannot be used, a full disk, and values that are not finite.
    """
    with (
        LayerStream(
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
        found = StreamedScores(units, tokens=stream.tokens.count)
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


def streamed_taylor(
    folder: str | Path,
    calibration: Any,
    attention_mask: Any = None,
    *,
    kinds: Sequence[str] = ("kv_group", "ffn"),
    modes: Sequence[Taylor] = ("param_first",),
    reduction: Reduction = "sum",
    loss: Loss = next_token_loss,
    batch_size: int = 8,
    activation_budget: int = BUDGET,
    spill_dir: str | Path | None = None,
    dtype: torch.dtype | None = None,
    progress: Progress = no_progress,
) -> dict[Taylor, Scores]:
    """Taylor scores, by mode, of a causal language model in a checkpoint folder, one layer in memory at a time.

    The first pass keeps what every layer reads: (L + 2) * n * T * D numbers, of which whole sets of n * T * D stay in
    memory as long as ``activation_budget`` lasts; the others are in files. The second pass goes from the head to the
    first layer, computes every layer once more and hands the gradient down. Gradients, and so the scores, are those of
    ``TaylorScores`` with the same batches, up to rounding.

    Memory over the start: the budget; one layer's weights, the gradients of one batch and their sum (three times the
    layer's size; four with a second order); the activations of one batch in a layer, with what its gradient needs; the
    head, and three times the logits of one batch. Parameters are otherwise those of ``LayerStream``; ``kinds`` are
    units inside a layer; ``loss(model, batch)`` calls its model once, for the logits.

    Raises InputError as ``streamed_scores`` does, and for an encoder, which has no such loss.
    """
    for kind in kinds:
        if kind not in LAYER_KINDS:
            raise InputError("kinds", kind, f"units inside a layer: {', '.join(LAYER_KINDS)}")
    second = any(mode in ("param_second", "param_mix") for mode in modes)
    with LayerStream(
        folder,
        calibration,
        attention_mask,
        batch_size=batch_size,
        activation_budget=activation_budget,
        spill_dir=spill_dir,
        dtype=dtype,
    ) as stream:
        if not stream.family.head:
            raise InputError("model", stream.family.model_type, "a causal language model, which has a loss")
        gradient = stream.store()
        inputs = [stream.store() for _ in range(stream.layer_count + 1)]
        for _ in stream.layers(keep=inputs, progress=progress):
            pass
        _head_gradient(stream, inputs[-1], gradient, loss)
        found: dict[Taylor, Scores] = {mode: {} for mode in modes}
        order = list(reversed(range(stream.layer_count)))
        for number in progress(order, "gradients", len(order)):
            path = f"{stream.family.layers}.{number}"
            layer = stream.weights.fetch(path, stream.dtype)
            with TaylorScores(stream.model, units_of(stream.model, kinds, [number]), second_order=second) as taylor:
                for index in range(len(stream.tokens)):
                    taylor.add_gradients(_layer_gradient(stream, layer, number, index, inputs, gradient, taylor))
                for mode in modes:
                    found[mode] = taylor.scores(mode, reduction) | found[mode]
            stream.weights.give_back(path)
    return found


def _layer_gradient(
    stream: LayerStream,
    layer: Any,
    number: int,
    index: int,
    inputs: Sequence[StreamStore],
    gradient: StreamStore,
    taylor: TaylorScores,
) -> Sequence[torch.Tensor | None]:
    """The gradients of one batch on a layer's weights; ``gradient`` then holds that on the layer's input."""
    x = inputs[number].read(index).detach().requires_grad_()
    with torch.enable_grad():
        y = stream.output_of(layer, number, index, x)
    *parameters, below = torch.autograd.grad(
        y, [*taylor.parameters, x], gradient.read(index).to(y.dtype), allow_unused=True
    )
    assert below is not None, "a layer adds to its input"
    gradient.write(index, below)
    return parameters


def _head_gradient(stream: LayerStream, last: StreamStore, gradient: StreamStore, loss: Loss) -> None:
    """The gradient of the loss of every batch on what the last layer wrote."""
    family = stream.family
    for path in (family.final_norm, family.head):
        stream.weights.fetch(path, stream.dtype).requires_grad_(False)
    for index in range(len(stream.tokens)):
        x = last.read(index).detach().requires_grad_()
        batch = {"input_ids": stream.tokens.ids[stream.tokens.rows(index)]}
        mask = stream.mask(index)
        with torch.enable_grad():
            end = _End(part(stream.model, family.final_norm), part(stream.model, family.head), x)
            total, count = loss(end, batch if mask is None else {**batch, "attention_mask": mask})
            value = total / count
            if not bool(torch.isfinite(value)):
                raise InputError("calibration", f"a loss of {float(value.detach())}", "a finite loss: a wider dtype?")
            gradient.write(index, torch.autograd.grad(value, x)[0])
    for path in (family.final_norm, family.head):
        stream.weights.give_back(path)


class _End(nn.Module):
    """What is left of a model behind its layers: called as the model, it gives the logits of one known batch."""

    def __init__(self, norm: nn.Module, head: nn.Module, stream: torch.Tensor) -> None:
        super().__init__()
        self.norm, self.head, self.stream = norm, head, stream

    def forward(self, **_: Any) -> Any:
        return SimpleNamespace(logits=self.head(self.norm(self.stream)))
