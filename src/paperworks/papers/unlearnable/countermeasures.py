"""What somebody may do to changed images before, or while, training on them: the counter-measures of the literature.

Functions of images return images; ``AdversarialTraining`` is a way to train. None of them needs the clean images.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from paperworks.errors import InputError
from paperworks.nn import evaluation_mode
from paperworks.papers.unlearnable.surrogates import SurrogateTraining
from paperworks.parameters import check_seed, check_whole
from paperworks.runs import Progress, no_progress
from paperworks.training import Batch, Loss, cross_entropy_loss, model_logits, train


def jpeg(X: Any, quality: int = 10) -> np.ndarray:
    """Images through JPEG and back: grey or colour, float32 ``[n, 1 or 3, h, w]`` in [0, 1].

    ``quality`` is Pillow's, 1 to 95: 10 is the usual counter-measure (Liu et al. 2023).
    """
    from PIL import Image

    check_whole("quality", quality, 1, 95)
    images = _images(X)
    found = np.empty_like(images)
    for row, image in enumerate(images):
        values = np.round(image.transpose(1, 2, 0) * 255).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(values[..., 0] if values.shape[2] == 1 else values).save(buffer, "JPEG", quality=quality)
        back = np.asarray(Image.open(buffer), dtype=np.float32) / 255
        found[row] = back[None] if back.ndim == 2 else back.transpose(2, 0, 1)
    return found


def reduce_bits(X: Any, bits: int = 2) -> np.ndarray:
    """Images with ``2 ** bits`` levels a channel (feature squeezing, Xu et al. 2018); shape and range are kept."""
    check_whole("bits", bits, 1, 8)
    levels = 2**bits - 1
    return (np.round(np.asarray(X, dtype=np.float32) * levels) / levels).astype(np.float32)


def grey(X: Any) -> np.ndarray:
    """Images without colour: every channel is the mean of the channels (Liu et al. 2023)."""
    images = _images(X)
    return np.broadcast_to(images.mean(1, keepdims=True), images.shape).copy()


def orthogonal_projection(
    X: Any, y: Any, *, epochs: int = 20, random_state: int = 0, device: str = "auto"
) -> np.ndarray:
    """Images without the directions by which a linear classifier tells the classes apart (Sandoval-Segura et al. 2023).

    A linear classifier is trained on the images themselves; its weights span what a linear shortcut would use, and the
    images are projected onto the rest. Float32 of the shape of ``X``; values may leave [0, 1].
    """
    check_seed("random_state", random_state)
    images, labels = np.asarray(X, dtype=np.float32), np.asarray(y)
    flat = images.reshape(len(images), -1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(random_state)
        linear = torch.nn.Linear(flat.shape[1], int(labels.max()) + 1)
    training = SurrogateTraining(epochs=epochs, weight_decay=0.0)
    training.train(linear, flat, labels, random_state, device)
    basis, _ = np.linalg.qr(linear.weight.detach().cpu().double().numpy().T)
    rest = flat - (flat @ basis) @ basis.T
    return rest.astype(np.float32).reshape(images.shape)


@dataclass(frozen=True)
class AdversarialTraining(SurrogateTraining):
    """Training on the worst changes within a budget (Madry et al. 2018), made anew for every batch.

    Attributes
    ----------
    eps : largest change of a value; that of the protection, where it is known.
    attack_steps : signed gradient steps of ``2.5 eps / attack_steps`` up the loss.
    """

    eps: float = 8 / 255
    attack_steps: int = 7

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.eps <= 1:
            raise InputError("eps", self.eps, "a number above 0, up to 1")
        check_whole("attack_steps", self.attack_steps, 1)

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
        """Train a model in place; see ``SurrogateTraining.train``."""
        settings = self.settings(len(labels), seed, device, epochs)
        examples = {"inputs": torch.as_tensor(images), "labels": torch.as_tensor(labels)}
        train(model, examples, settings, loss=self._loss(), progress=progress)
        return model

    def _loss(self) -> Loss:
        plain = cross_entropy_loss()

        def loss(model: torch.nn.Module, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
            return plain(model, {**batch, "inputs": self.worst(model, batch["inputs"], batch["labels"])})

        return loss

    def worst(self, model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The images moved up their loss, within the budget and [0, 1]."""
        low, high = (images - self.eps).clamp_min(0), (images + self.eps).clamp_max(1)
        moved = images.detach().clone()
        with evaluation_mode(model), torch.enable_grad():
            for _ in range(self.attack_steps):
                moved.requires_grad_(True)
                value = torch.nn.functional.cross_entropy(model_logits(model, {"inputs": moved}), labels)
                (slope,) = torch.autograd.grad(value, moved)
                step = 2.5 * self.eps / self.attack_steps
                moved = torch.minimum(torch.maximum(moved.detach() + step * slope.sign(), low), high)
        return moved.detach()


def _images(X: Any) -> np.ndarray:
    images = np.asarray(X, dtype=np.float32)
    if images.ndim != 4 or images.shape[1] not in (1, 3) or not images.size:
        raise InputError("X", f"shape {images.shape}", "images [n, 1 or 3, h, w]")
    if not np.isfinite(images).all() or images.min() < 0 or images.max() > 1:
        raise InputError("X", "values outside [0, 1]", "values in [0, 1]")
    return images
