"""Moments of what layers read, from unlabelled samples: all that scores, fidelity and compensation need.

The contributions A_ci themselves (samples x outputs x inputs maps) are never made. With P the rows that a layer's
kernels see, <A_ci, A_cj> = vec(W_ci)' P_i' P_j vec(W_cj): the Gram matrix E[P'P] serves all outputs at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from paperworks.errors import InputError
from paperworks.nn import evaluation_mode
from paperworks.papers.modhifi.layers import ReadLayer, layer_at
from paperworks.runs import Progress, no_progress

Center = Literal["none", "channel", "map"]
Batches = Sequence[Any]
CHUNK_BYTES = 32 * 2**20
"""Rows are multiplied in pieces of about this size: a 3x3 kernel repeats every pixel nine times."""


@dataclass
class Moments:
    """Sums over samples of what one layer reads.

    Attributes
    ----------
    gram : float64 [groups, d, d], sum over samples and places of p p'.
    total : float64 [groups, L, d], sum over samples of p, place by place; L is 1 where places differ between samples.
    samples, rows : how many samples, and how many samples times places.
    """

    gram: torch.Tensor
    total: torch.Tensor
    samples: int
    rows: int

    def __add__(self, other: Moments) -> Moments:
        total, more = self.total, other.total
        if total.shape != more.shape:
            total, more = total.sum(1, keepdim=True), more.sum(1, keepdim=True)
        return Moments(self.gram + other.gram, total + more, self.samples + other.samples, self.rows + other.rows)

    @property
    def mean(self) -> torch.Tensor:
        """Mean over samples and places, float64 [groups, d]."""
        return self.total.sum(1) / self.rows

    def matrix(self, center: Center = "none") -> torch.Tensor:
        """E over samples of the sum over places of p p', float64 [groups, d, d].

        ``channel`` takes away one mean for each column, over samples and places (what a BatchNorm behind the layer
        does to its output); ``map`` takes away the mean of every place.
        """
        if center == "none":
            return self.gram / self.samples
        if center == "channel":
            mean = self.mean
            return (self.gram - self.rows * mean[:, :, None] * mean[:, None, :]) / self.samples
        if center != "map":
            raise InputError("center", center, "none, channel or map")
        if self.rows != self.samples * self.total.shape[1]:
            raise InputError("center", "map with samples of several sizes", "channel, or samples of one size")
        return self.gram / self.samples - self.total.transpose(1, 2) @ self.total / self.samples**2


class MomentsOf:
    """Forward hooks that add up the moments of layers while the context lasts.

    ``with MomentsOf(model, paths) as seen: model(x); seen.moments()["conv1"]``

    ``set_mask`` takes the attention mask [b, T] of the batches that follow: padding is left out.
    """

    def __init__(self, model: nn.Module, paths: Iterable[str]) -> None:
        self.layers = {path: layer_at(model, path) for path in paths}
        self._found: dict[str, Moments] = {}
        self._mask: torch.Tensor | None = None
        self._handles: list[Any] = []

    def set_mask(self, mask: torch.Tensor | None) -> None:
        """The attention mask of the next batches (0: padding), or None."""
        self._mask = mask

    def __enter__(self) -> MomentsOf:
        for layer in self.layers.values():
            self._handles.append(layer.module.register_forward_pre_hook(self._hook(layer)))
        return self

    def __exit__(self, *_: object) -> None:
        while self._handles:
            self._handles.pop().remove()

    def _hook(self, layer: ReadLayer) -> Any:
        def note(_module: nn.Module, args: tuple[Any, ...]) -> None:
            self._add(layer, unpadded_rows(args[0].detach(), self._mask))

        return note

    def _add(self, layer: ReadLayer, x: torch.Tensor) -> None:
        if not bool(torch.isfinite(x).all()):
            raise InputError("calibration", f"NaN or infinite activations in front of {layer.path}", "finite ones")
        step = max(1, CHUNK_BYTES // max(1, 4 * layer.kernel * (x.numel() // max(1, len(x)))))
        for piece in x.split(step):
            rows = layer.rows(piece if piece.dtype in (torch.float32, torch.float64) else piece.float())
            n, groups, places, d = rows.shape
            flat = rows.transpose(0, 1).reshape(groups, n * places, d)
            made = Moments((flat.mT @ flat).double().cpu(), rows.sum(0, dtype=torch.float64).cpu(), n, n * places)
            self._found[layer.path] = self._found[layer.path] + made if layer.path in self._found else made

    def moments(self) -> dict[str, Moments]:
        """The moments by path. Raises InputError for a layer that no forward reached."""
        missing = [path for path in self.layers if path not in self._found]
        if missing:
            raise InputError("layer", missing[0], "a layer that the model calls, and samples to call it with")
        return dict(self._found)


def unpadded_rows(x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Rows of ``x`` [b, T, d] that a mask [b, T] calls tokens; ``x`` as it is for other shapes or without a mask."""
    if mask is None or x.ndim < 3 or tuple(x.shape[:2]) != tuple(mask.shape):
        return x
    return x[mask.to(x.device).bool()]


def call(model: nn.Module, batch: Any) -> Any:
    """One forward: a mapping by name, anything else as the only argument.

    Raises InputError where the model does not take inputs of this type or shape.
    """
    try:
        return model(**batch) if isinstance(batch, Mapping) else model(batch)
    except InputError:
        raise
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        given = batch if isinstance(batch, Mapping) else {"tensor": batch}
        shapes = ", ".join(f"{name} {tuple(value.shape)} {value.dtype}" for name, value in given.items())
        why = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise InputError("calibration", f"{shapes} ({why})", "inputs that the model takes") from error


def batches_of(calibration: Any, batch_size: int = 64, *, device: str | torch.device = "cpu") -> list[Any]:
    """Calibration samples as a list of batches on a device; labels are left out.

    Parameters
    ----------
    calibration : a tensor [n, ...]; a mapping of tensors with equally many rows (``input_ids``, ``attention_mask``,
        ``pixel_values``); or an iterable of batches of either kind (a DataLoader), or of (batch, labels).

    Raises
    ------
    InputError : no samples, or values that are not finite.
    """
    if batch_size < 1:
        raise InputError("batch_size", batch_size, "1 or more")
    found: list[Any] = []
    parts = [calibration] if isinstance(calibration, (torch.Tensor, Mapping)) else calibration
    for part in parts:
        given = part[0] if isinstance(part, (tuple, list)) else part
        if isinstance(given, Mapping):
            columns = {k: torch.as_tensor(v) for k, v in given.items() if k not in ("labels", "label")}
            count = len(next(iter(columns.values()))) if columns else 0
            for start in range(0, count, batch_size):
                found.append({k: v[start : start + batch_size].to(device) for k, v in columns.items()})
        elif isinstance(given, torch.Tensor):
            found += [piece.to(device) for piece in given.split(batch_size) if len(piece)]
        else:
            raise InputError("calibration", type(given).__name__, "tensors, or mappings of tensors")
    if not found:
        raise InputError("calibration", "no samples", "at least one")
    for batch in found:
        for name, value in batch.items() if isinstance(batch, Mapping) else [("calibration", batch)]:
            if value.is_floating_point() and not bool(torch.isfinite(value).all()):
                raise InputError("calibration", f"{name} with NaN or infinite values", "finite values")
    return found


def count_samples(batches: Batches) -> int:
    """Samples in a list of batches."""
    return sum(len(next(iter(b.values()))) if isinstance(b, Mapping) else len(b) for b in batches)


def split_batches(batches: Batches, share: float = 0.2) -> tuple[list[Any], list[Any]]:
    """The samples in two parts, the second with about ``share`` of each batch (none of a batch with one sample)."""
    first: list[Any] = []
    second: list[Any] = []
    for batch in batches:
        n = count_samples([batch])
        held = min(n - 1, max(1, round(share * n)))
        for part, rows in ((first, slice(0, n - held)), (second, slice(n - held, n))):
            if rows.stop > rows.start:
                part.append({k: v[rows] for k, v in batch.items()} if isinstance(batch, Mapping) else batch[rows])
    return first, second


def collect(
    model: nn.Module,
    batches: Batches,
    paths: Iterable[str],
    *,
    progress: Progress = no_progress,
    what: str = "reading layers",
) -> dict[str, Moments]:
    """Moments of what the layers at ``paths`` read, over all batches, in evaluation mode and without gradients."""
    with MomentsOf(model, paths) as seen, evaluation_mode(model), torch.no_grad():
        for batch in progress(batches, what, len(batches)):
            seen.set_mask(batch.get("attention_mask") if isinstance(batch, Mapping) else None)
            call(model, batch)
    return seen.moments()
