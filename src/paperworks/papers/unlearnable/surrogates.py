"""Surrogate classifiers: trained on the current data, read at the layer in front of their head, with gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from paperworks.classification import fit, last_linear_layer
from paperworks.errors import InputError
from paperworks.inputs.transforms import Transform
from paperworks.nn import MLP, SmallCNN, evaluation_mode
from paperworks.runs import Progress, no_progress
from paperworks.training import TrainSettings, model_logits

MakeModel = Callable[[int], torch.nn.Module]
"""From a seed to a fresh classifier."""

CONVOLUTIONS_FROM = 256
"""Pixels from which on images get a residual convolutional network, not a perceptron."""


@dataclass(frozen=True)
class SurrogateTraining:
    """How a classifier is trained on images: SGD with momentum, cosine to 0, shuffled, no augmentation.

    Attributes
    ----------
    epochs, batch_size, learning_rate, momentum, weight_decay : of the training; the defaults are the released code's.
    augment : applied to every batch; the released code has none.
    """

    epochs: int = 30
    batch_size: int = 128
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    augment: Transform | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise InputError(name, getattr(self, name), "1 or more")

    def settings(self, rows: int, seed: int, device: str, epochs: int | None = None) -> TrainSettings:
        """The options of the training loop for so many rows."""
        size = min(self.batch_size, rows)
        return TrainSettings(
            steps=(self.epochs if epochs is None else epochs) * -(-rows // size),
            batch_size=size,
            optimizer="sgd",
            learning_rate=self.learning_rate,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            clip_norm=0.0,
            schedule="cosine",
            device=device,
            seed=seed % 2**32,
        )

    def train(
        self,
        model: torch.nn.Module,
        images: Any,
        labels: np.ndarray,
        seed: int,
        device: str = "auto",
        epochs: int | None = None,
        progress: Progress = no_progress,
    ) -> torch.nn.Module:
        """Train a model in place on images ``[n, ...]`` and class codes ``[n]``; returns it."""
        settings = self.settings(len(labels), seed, device, epochs)
        inputs = {"inputs": torch.as_tensor(images)}
        fit(model, inputs, labels, settings=settings, augment=self.augment, progress=progress)
        return model


def default_surrogate(shape: tuple[int, ...], classes: int) -> MakeModel:
    """Fresh classifiers for samples of a shape: a residual convolutional network for images ``[c, h, w]`` of 256 pixels
    or more, else a perceptron with hidden layers of 128 and 64."""

    def make(seed: int) -> torch.nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            if len(shape) == 3 and shape[1] * shape[2] >= CONVOLUTIONS_FROM:
                return SmallCNN(channels=shape[0], widths=(64, 128, 256, 512), blocks=2, outputs=classes)
            return MLP(inputs=int(np.prod(shape)), hidden=(128, 64), outputs=classes)

    return make


def penultimate(model: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Input of the model's last linear layer for a batch, ``[n, d]``, with its graph.

    Raises InputError for a model whose last linear layer does not see one row per sample.
    """
    name = last_linear_layer(model)
    seen: list[torch.Tensor] = []
    handle = model.get_submodule(name).register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    try:
        model_logits(model, {"inputs": images})
    finally:
        handle.remove()
    if not seen or len(seen[-1]) != len(images):
        raise InputError("surrogate", f"the layer {name}", "a last linear layer that sees one row per sample")
    return seen[-1].flatten(1)


def embed(model: torch.nn.Module, images: torch.Tensor, batch_size: int = 512) -> torch.Tensor:
    """Features of all images in evaluation mode, without a graph, ``[n, d]``."""
    with evaluation_mode(model), torch.no_grad():
        return torch.cat([penultimate(model, part) for part in images.split(batch_size)])


def pixel_gradient(
    model: torch.nn.Module, images: torch.Tensor, features_gradient: torch.Tensor, batch_size: int = 512
) -> torch.Tensor:
    """Gradient with respect to the images of a function whose gradient with respect to their features is given.

    Features are computed again, batch by batch, with a graph: memory is that of one batch.
    """
    found = torch.empty_like(images)
    with evaluation_mode(model):
        for start in range(0, len(images), batch_size):
            part = slice(start, start + batch_size)
            leaf = images[part].detach().clone().requires_grad_(True)
            (found[part],) = torch.autograd.grad(penultimate(model, leaf), leaf, features_gradient[part])
    return found
