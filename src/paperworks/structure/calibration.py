"""Calibration one layer at a time: the tokens, what each layer is called with, where the stream waits, its statistics.

The hidden states of the calibration set stay in memory up to a budget, and in a file beyond it; the model is never run
as a whole.
"""

from __future__ import annotations

import inspect
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

from paperworks.errors import InputError
from paperworks.structure.families import Family
from paperworks.structure.layers_sliced import part

CHUNK_BYTES = 8 * 2**20
"""Activations are taken to float64 in pieces of about this size, where that is all they are needed for."""


class TokenBatches:
    """Token ids int64 [n, T] with an attention mask [n, T] (1: a token, 0: padding), taken ``batch_size`` at a time.

    ``mask`` is None when nothing is padded. ``count`` is the number of tokens that are not padding.
    """

    def __init__(self, calibration: Any, attention_mask: Any = None, batch_size: int = 8) -> None:
        ids, mask = _ids_and_mask(calibration, attention_mask)
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise InputError("batch_size", batch_size, "a whole number of sequences, at least 1")
        if ids.ndim != 2 or ids.dtype != torch.int64 or ids.numel() == 0:
            raise InputError("calibration", f"{ids.dtype} {tuple(ids.shape)}", "token ids int64 [n, T] with n, T >= 1")
        if mask is not None:
            if mask.shape != ids.shape:
                raise InputError("attention_mask", f"shape {tuple(mask.shape)}", f"that of the ids, {tuple(ids.shape)}")
            if not bool(((mask == 0) | (mask == 1)).all()):
                raise InputError("attention_mask", "values other than 0 and 1", "1 for a token, 0 for padding")
            mask = mask.to(torch.int64)
            empty = (mask.sum(1) == 0).nonzero().flatten().tolist()
            if empty:
                raise InputError("attention_mask", f"rows of padding only: {empty[:5]}", "a token in every row")
            if bool(mask.all()):
                mask = None
        self.ids = ids.cpu().contiguous()
        self.mask = None if mask is None else mask.cpu().contiguous()
        self.batch_size = batch_size
        self.count = int(ids.numel() if mask is None else mask.sum())

    def __len__(self) -> int:
        return -(-len(self.ids) // self.batch_size)

    def rows(self, index: int) -> slice:
        """Which rows batch ``index`` holds."""
        return slice(index * self.batch_size, min((index + 1) * self.batch_size, len(self.ids)))

    def check(self, config: Any, family: Family) -> None:
        """Raise InputError for ids or lengths that the model has no embedding for."""
        low, high = int(self.ids.min()), int(self.ids.max())
        if low < 0 or high >= config.vocab_size:
            raise InputError("calibration", f"token id {low if low < 0 else high}", f"0 to {config.vocab_size - 1}")
        if family.learned_positions and self.ids.shape[1] > config.max_position_embeddings:
            raise InputError(
                "calibration", f"length {self.ids.shape[1]}", f"at most {config.max_position_embeddings} positions"
            )


def _ids_and_mask(calibration: Any, mask: Any) -> tuple[torch.Tensor, torch.Tensor | None]:
    if isinstance(calibration, Mapping):
        given = calibration
        calibration, mask = given.get("input_ids"), given.get("attention_mask") if mask is None else mask
    elif hasattr(calibration, "input_ids"):
        given_mask = getattr(calibration, "attention_mask", None)
        calibration, mask = calibration.input_ids, given_mask if mask is None else mask
    if calibration is None:
        raise InputError("calibration", "no input_ids", "token ids int64 [n, T], or a mapping with input_ids")
    return torch.as_tensor(calibration), None if mask is None else torch.as_tensor(mask)


class _Reached(Exception):
    """The layers were reached with what they need; what follows them is not run."""


class _Recorder(nn.Module):
    """Stands in for a layer: keeps what it is called with and passes the stream on."""

    def __init__(self, forward: Any, calls: list[dict[str, Any]], last: bool) -> None:
        super().__init__()
        self._signature = inspect.signature(forward)
        variadic = [p.name for p in self._signature.parameters.values() if p.kind is p.VAR_KEYWORD]
        self._variadic = variadic[0] if variadic else ""
        self._calls = calls
        self._last = last

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        bound = self._signature.bind(None, *args, **kwargs).arguments
        bound.pop("self", None)
        extra = bound.pop(self._variadic, {})
        self._calls.append({**bound, **extra})
        if self._last:
            raise _Reached
        return bound["hidden_states"]


class LayerContexts:
    """The sums of the embeddings, and the arguments (masks, rotary tables, ...) that each layer is called with.

    Both come from the model's own forward with recorders in place of its layers, so every family and every layer gets
    its own kind of mask. ``embed`` needs the embeddings; ``context`` only the position tables.
    """

    def __init__(self, model: PreTrainedModel, family: Family, tokens: TokenBatches) -> None:
        self._model = model
        self._family = family
        self._tokens = tokens
        self._unpadded: dict[int, list[dict[str, Any]]] = {}

    def embed(self, index: int) -> torch.Tensor:
        """The sum of the embeddings of batch ``index``: [b, T, D], before any norm."""
        family, model = self._family, self._model
        norm = part(model, family.embedding_norm) if family.embedding_norm else None
        if norm is not None:
            model.set_submodule(family.embedding_norm, nn.Identity())
        try:
            calls = self._calls(index, {"input_ids": self._tokens.ids[self._tokens.rows(index)]}, stop_at=0)
        finally:
            if norm is not None:
                model.set_submodule(family.embedding_norm, norm)
        return calls[0]["hidden_states"]

    def context(self, layer: int, index: int, like: torch.Tensor) -> dict[str, Any]:
        """Keyword arguments of layer ``layer`` for batch ``index``, on the device and in the type of ``like``."""
        rows = self._tokens.rows(index)
        size = rows.stop - rows.start
        calls = self._unpadded.get(size) if self._tokens.mask is None else None
        if calls is None:
            width = part(self._model, self._family.embeddings[0]).embedding_dim
            nothing = torch.zeros(size, self._tokens.ids.shape[1], width, dtype=like.dtype)
            calls = self._calls(index, {"inputs_embeds": nothing})
            for call in calls:
                call.pop("hidden_states")
            if self._tokens.mask is None:
                self._unpadded[size] = calls
        return {
            name: _moved(value, like)
            for name, value in calls[layer].items()
            if value is not None or name == "attention_mask"
        }

    def _calls(self, index: int, inputs: dict[str, torch.Tensor], stop_at: int | None = None) -> list[dict[str, Any]]:
        family, model = self._family, self._model
        layers = part(model, family.layers)
        calls: list[dict[str, Any]] = []
        last = len(layers) - 1 if stop_at is None else stop_at
        recorders = nn.ModuleList(_Recorder(type(x).forward, calls, i == last) for i, x in enumerate(layers))
        device = part(model, family.embeddings[-1]).weight.device
        device = torch.device("cpu") if device.type == "meta" else device
        given: dict[str, Any] = {name: value.to(device) for name, value in inputs.items()}
        if self._tokens.mask is not None:
            mask = self._tokens.mask[self._tokens.rows(index)].to(device)
            given["attention_mask"] = mask
            # padding on the left: positions count tokens, not columns
            given["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0)
        model.set_submodule(family.layers, recorders)
        try:
            model.base_model(**given, use_cache=False, output_hidden_states=False, output_attentions=False)
        except _Reached:
            pass
        finally:
            model.set_submodule(family.layers, layers)
        return calls


def _moved(value: Any, like: torch.Tensor) -> Any:
    if isinstance(value, torch.Tensor):
        return value.to(like.device, like.dtype if value.is_floating_point() else value.dtype)
    if isinstance(value, tuple):
        return tuple(_moved(item, like) for item in value)
    return value


class ActivationStore:
    """The stream of all calibration batches, [n, T, D], in memory up to ``budget`` bytes and in a file beyond.

    The file has no name and goes with the process, however that ends, unless ``durable`` names a folder: then two
    files there take turns, so that the stream in front of the current layer survives until the layer is done.
    """

    def __init__(
        self,
        tokens: TokenBatches,
        width: int,
        dtype: torch.dtype,
        budget: int,
        spill_dir: Path | None = None,
        durable: Path | None = None,
    ) -> None:
        self._tokens = tokens
        self._shape = (tokens.ids.shape[1], width)
        self._dtype = dtype
        self._numpy = np.dtype("float64" if dtype == torch.float64 else "float32")
        self._batches: list[torch.Tensor | None] = [None] * len(tokens)
        self._files: list[IO[bytes]] = []
        size = len(tokens.ids) * self._shape[0] * width * self._numpy.itemsize
        self.spilled_bytes = 0
        if durable is None and size <= budget:
            return
        copies = 1 if durable is None else 2
        folder = Path(durable or spill_dir or tempfile.gettempdir())
        existing = sum(f.stat().st_size for f in folder.glob("stream-*.bin")) if durable else 0
        free = shutil.disk_usage(folder).free + existing
        if size * copies > free:
            field = "checkpoint_dir" if durable else "spill_dir"
            room = f"room for {size * copies:,} bytes of activations"
            raise InputError(field, f"{free:,} bytes free in {folder}", room)
        for copy in range(copies):
            if durable is None:
                out: IO[bytes] = tempfile.TemporaryFile(dir=folder, prefix="activations-")  # noqa: SIM115
            else:
                path = durable / f"stream-{copy}.bin"
                out = path.open("r+b" if path.exists() else "w+b")
            out.truncate(size)
            self._files.append(out)
        self.spilled_bytes = size * copies
        self.live = 0
        self._reading = self._writing = 0

    @property
    def on_disk(self) -> bool:
        """Whether the stream is kept in a file."""
        return bool(self._files)

    def start_layer(self, live: int | None = None) -> None:
        """The next block reads the stream that is live; where there are two files, it writes to the other one."""
        if self._files:
            self.live = self.live if live is None else live
            self._reading = self.live
            self._writing = (self.live + 1) % len(self._files)

    def finish_block(self) -> None:
        """The next block reads what this one wrote."""
        if self._files:
            self._reading = self._writing

    def finish_layer(self) -> int:
        """What was written is the live stream now. Returns its number."""
        if not self._files:
            return 0
        self.live = self._writing
        return self.live

    def read(self, index: int) -> torch.Tensor:
        """Batch ``index``: [b, T, D] on the CPU, not to be changed in place."""
        if not self._files:
            batch = self._batches[index]
            assert batch is not None, "a batch is read before it is written"
            return batch
        return torch.from_numpy(np.array(self._map(self._reading, index, "r")))

    def write(self, index: int, batch: torch.Tensor) -> None:
        """Keep a batch, with zeros where there is padding."""
        batch = batch.detach().to("cpu", self._dtype)
        if self._tokens.mask is not None:
            batch = batch.masked_fill(self._tokens.mask[self._tokens.rows(index)][..., None] == 0, 0)
        if not self._files:
            self._batches[index] = batch
        else:
            mapped = self._map(self._writing, index, "r+")
            mapped[:] = batch.numpy()

    def _map(self, file: int, index: int, mode: Any) -> np.memmap:
        # mapped for one batch only: pages of a long mapping would count as resident memory
        rows = self._tokens.rows(index)
        shape = (rows.stop - rows.start, *self._shape)
        offset = rows.start * self._shape[0] * self._shape[1] * self._numpy.itemsize
        return np.memmap(self._files[file], self._numpy, mode, offset, shape)

    def close(self) -> None:
        """Let go of memory and files."""
        self._batches = []
        for file in self._files:
            file.close()
        self._files = []


class SecondMoment:
    """C = sum of x x^T over the tokens of the stream, uncentred, [D, D]; in float64 unless told otherwise."""

    def __init__(self, width: int, device: torch.device, dtype: torch.dtype = torch.float64) -> None:
        self.matrix = torch.zeros(width, width, dtype=dtype, device=device)
        self.count = 0

    def update(self, batch: torch.Tensor, mask: torch.Tensor | None) -> None:
        """Add a batch [b, T, D]; tokens whose mask is 0 are left out."""
        rows = batch.reshape(-1, batch.shape[-1]) if mask is None else batch[mask.to(batch.device).bool()]
        rows = rows.to(self.matrix)
        self.matrix.addmm_(rows.T, rows)
        self.count += len(rows)

    def check(self, name: str) -> None:
        """Raise InputError if the signal was not finite."""
        if not bool(torch.isfinite(self.matrix).all()):
            raise InputError(f"activations at {name}", "NaN or infinite values", "finite activations: a wider dtype?")


class ChannelMoments:
    """Mean and spread of every channel of a signal over the tokens, in float64.

    ``mean`` [C], and ``squares`` [C], the sum of the squared distances from it. Batches are joined by the update of
    Chan, Golub and LeVeque, which does not cancel where a channel lies far from 0 beside its spread.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean = torch.zeros(0, dtype=torch.float64)
        self.squares = torch.zeros(0, dtype=torch.float64)

    def update(self, rows: torch.Tensor) -> None:
        """Add tokens: rows [n, C]. They are taken to float64 a few at a time."""
        step = max(1, CHUNK_BYTES // (8 * rows.shape[-1]))
        for start in range(0, len(rows), step):
            piece = rows[start : start + step].double()
            mean = piece.mean(0)
            squares = (piece - mean).square_().sum(0)
            if not self.count:
                self.count, self.mean, self.squares = len(piece), mean, squares
                continue
            total, away = self.count + len(piece), mean - self.mean
            self.squares = self.squares + squares + away.square() * (self.count * len(piece) / total)
            self.mean = self.mean + away * (len(piece) / total)
            self.count = total

    @property
    def variance(self) -> torch.Tensor:
        """Mean squared distance from the mean, [C]."""
        return self.squares / self.count

    @property
    def power(self) -> torch.Tensor:
        """Mean square, [C]."""
        return self.mean.square() + self.variance
