"""Contrastive pretraining of any encoder, in the common training loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.exceptions import NotFittedError
from torch import nn

from paperworks.errors import InputError
from paperworks.nn import evaluation_mode
from paperworks.papers.contrastive_loss.losses import ContrastiveLoss
from paperworks.runs import Progress, no_progress
from paperworks.training import TrainResult, TrainSettings, train

Inputs = torch.Tensor | np.ndarray | Mapping[str, torch.Tensor | np.ndarray]
SECOND = "second_"


class ContrastiveTrainer:
    """Train an encoder so that two views of an example are near and those of others are not.

    The encoder, and a learned temperature, are trained in place: a second ``fit`` goes on from them, with a new
    projection.

    Parameters
    ----------
    encoder : a module from a batch (a tensor, or keyword arguments such as ``input_ids``) to features ``[B, w]``, or a
        model of transformers, whose hidden states are averaged over tokens.
        Those of a convolutional one are averaged over places.
    loss : the loss; a learned temperature is trained with the encoder.
    settings : of the training loop.
    augment : from a batch to one random view of it; None gives the same batch twice, so that dropout makes the views
        (SimCSE, Gao et al. 2021).
    dimensions : columns of the projection that the loss sees; the encoder's own features are what ``encode`` gives.
    """

    def __init__(
        self,
        encoder: nn.Module,
        loss: ContrastiveLoss,
        settings: TrainSettings,
        *,
        augment: Callable[[Inputs], Inputs] | None = None,
        dimensions: int = 128,
    ) -> None:
        if dimensions < 1:
            raise InputError("dimensions", dimensions, "1 or more")
        self.encoder, self.loss, self.settings = encoder, loss, settings
        self.augment, self.dimensions = augment, dimensions

    def fit(
        self,
        inputs: Inputs,
        second: Inputs | None = None,
        *,
        checkpoint_dir: Path | None = None,
        progress: Progress = no_progress,
    ) -> ContrastiveTrainer:
        """Train on examples, a tensor or array ``[n, ...]`` or a dictionary of such.

        ``second`` are given positives, row by row.

        Attributes set: ``model_`` (encoder and projection), ``result_`` (of the training loop).
        """
        first = _columns(inputs)
        count = len(next(iter(first.values())))
        with torch.no_grad(), evaluation_mode(self.encoder):
            width = _encode(self.encoder, {k: v[:2] for k, v in first.items()}).shape[1]
        # The projection's first weights come from the seed, whatever was drawn before.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.settings.seed)
            self.model_ = _Projected(self.encoder, self.loss, width, self.dimensions)
        data = dict(first)
        if second is not None:
            others = _columns(second)
            if len(next(iter(others.values()))) != count:
                raise InputError("second", f"{len(next(iter(others.values())))} rows", f"{count}, as the first")
            data |= {SECOND + k: v for k, v in others.items()}
        self.result_: TrainResult = train(
            self.model_, data, self.settings, loss=self._loss, checkpoint_dir=checkpoint_dir, progress=progress
        )
        return self

    def encode(self, inputs: Inputs, batch_size: int = 512, *, projected: bool = False) -> np.ndarray:
        """Features of examples, float32 ``[n, w]``; or the unit rows ``[n, dimensions]`` that the loss sees."""
        self._require_fitted()
        columns = _columns(inputs)
        model = self.model_ if projected else self.encoder
        device = next(self.model_.parameters()).device
        parts = []
        with torch.inference_mode(), evaluation_mode(self.model_):
            for start in range(0, len(next(iter(columns.values()))), batch_size):
                batch = {k: v[start : start + batch_size].to(device) for k, v in columns.items()}
                found = model(**batch) if projected else _encode(model, batch)
                parts.append((nn.functional.normalize(found, dim=1) if projected else found).float().cpu())
        return torch.cat(parts).numpy()

    def save_pretrained(self, folder: Path | str) -> None:
        """Save the encoder by its own ``save_pretrained``, else ``model.safetensors``; the projection beside it."""
        from safetensors.torch import save_model

        from paperworks.runs.files import new_folder

        self._require_fitted()
        with new_folder(Path(folder)) as aside:
            if hasattr(self.encoder, "save_pretrained"):
                self.encoder.save_pretrained(aside)  # type: ignore[operator]
            else:
                save_model(self.encoder, str(aside / "model.safetensors"))  # weights that layers share once
            save_model(self.model_.projection, str(aside / "projection.safetensors"))

    def _require_fitted(self) -> None:
        if not hasattr(self, "model_"):
            raise NotFittedError("This ContrastiveTrainer is not fitted yet: call fit first.")

    def _loss(self, model: nn.Module, batch: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        first = {k: v for k, v in batch.items() if not k.startswith(SECOND)}
        second = {k.removeprefix(SECOND): v for k, v in batch.items() if k.startswith(SECOND)} or first
        views = [self._view(first), self._view(second)]
        count = len(next(iter(first.values())))
        # One pass over both views: batch normalisation sees them together.
        features = model(**{k: torch.cat([views[0][k], views[1][k]]) for k in views[0]})
        return self.loss(features[:count], features[count:]) * count, torch.tensor(count, device=features.device)

    def _view(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        if self.augment is None:
            return batch
        view: Any = self.augment(batch["inputs"] if list(batch) == ["inputs"] else batch)
        return _columns(view)


class _Projected(nn.Module):
    """An encoder, a linear projection, and the loss for the sake of its learned temperature."""

    def __init__(self, encoder: nn.Module, loss: nn.Module, width: int, dimensions: int) -> None:
        super().__init__()
        self.encoder, self.loss = encoder, loss
        self.projection = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, dimensions))

    def forward(self, **batch: torch.Tensor) -> torch.Tensor:
        return self.projection(_encode(self.encoder, batch))


def _columns(inputs: Inputs) -> dict[str, torch.Tensor]:
    given = dict(inputs) if isinstance(inputs, Mapping) else {"inputs": inputs}
    columns = {name: _tensor(value) for name, value in given.items()}
    if not columns or len({len(v) for v in columns.values()}) != 1 or not len(next(iter(columns.values()))):
        raise InputError("inputs", {k: tuple(v.shape) for k, v in columns.items()}, "tensors of equally many rows")
    return columns


def _tensor(value: torch.Tensor | np.ndarray) -> torch.Tensor:
    if isinstance(value, torch.Tensor):
        return value
    found = torch.as_tensor(np.ascontiguousarray(value))
    return found.float() if found.dtype == torch.float64 else found


def _encode(encoder: nn.Module, batch: Mapping[str, Any]) -> torch.Tensor:
    output = encoder(batch["inputs"]) if list(batch) == ["inputs"] else encoder(**batch)
    if isinstance(output, torch.Tensor):
        return output
    hidden = output.last_hidden_state
    if hidden.ndim == 4:  # a convolutional network's [B, w, height, width]
        return hidden.mean((2, 3))
    if "attention_mask" not in batch:
        return hidden.mean(1)
    mask = batch["attention_mask"][..., None].to(hidden.dtype)
    return (hidden * mask).sum(1) / mask.sum(1).clamp(min=1)
