"""A task whose answer needs two places of an image: two digits side by side, and their sum as the label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from paperworks.classification import predict
from paperworks.inputs.images import read_images
from paperworks.papers.sret.classifier import decay_groups
from paperworks.papers.sret.configuration import SReTConfig
from paperworks.papers.sret.modeling import SReTForImageClassification
from paperworks.parameters import check_seed
from paperworks.runs import Progress, no_progress
from paperworks.training import Generated, TrainSettings, cross_entropy_loss, make_optimizer, train

SUMS = 19
"""Sums of two digits: 0 to 18."""
TRAIN = 1_297
"""Digits that training pairs are drawn from; test pairs come from the other 500."""

PAIRS: dict[str, Any] = {
    "image_size": (8, 16),
    "num_channels": 1,
    "base_dims": (8, 8),
    "heads": (2, 4),
    "depth": (2, 2),
    "recursive_num": (1, 1),
    "groups1": (1, 1),
    "groups2": (1, 1),
    "mlp_ratio": 2.0,
    "stem_strides": (1, 1),
    "drop_path_rate": 0.0,
    "num_labels": SUMS,
}
"""One distinct block a stage, applied twice, widths 16 and 32: 20,643 parameters, without slices."""


@dataclass(frozen=True)
class PairSettings:
    """How the networks of the task are trained. The specification's: 1,500 steps of 64."""

    steps: int = 1_500
    batch_size: int = 64
    learning_rate: float = 3e-3
    test_pairs: int = 2_000


def digit_parts(seed: int) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Pixels float32 ``[n, 1, 8, 8]`` and labels of the training and of the test digits of a seed."""
    check_seed("seed", seed)
    images = read_images("digits")
    order = np.random.default_rng([seed, 11]).permutation(len(images))
    pixels, labels = images.array(), images.require_labels()
    first, rest = order[:TRAIN], order[TRAIN:]
    return (pixels[first], labels[first]), (pixels[rest], labels[rest])


def draw_pairs(
    pixels: np.ndarray, labels: np.ndarray, count: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs float32 ``[count, 1, 8, 16]`` in [-1, 1] and their sums int64 ``[count]``."""
    left, right = rng.integers(len(labels), size=(2, count))
    return 2 * np.concatenate([pixels[left], pixels[right]], 3) - 1, labels[left] + labels[right]


def accuracy_on_pairs(
    seed: int, settings: PairSettings, *, progress: Progress = no_progress, **options: Any
) -> tuple[float, int]:
    """Accuracy on test pairs of a network that was trained on the task, and its number of parameters.

    ``options``: of ``SReTConfig``, in place of those of ``PAIRS``.
    """
    check_seed("seed", seed)
    training, held = digit_parts(seed)

    def draw(_step: int, count: int, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        found, sums = draw_pairs(*training, count, rng)
        return {"pixel_values": torch.from_numpy(found), "labels": torch.from_numpy(sums)}

    how = TrainSettings(
        steps=settings.steps,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        betas=(0.9, 0.999),
        weight_decay=0.01,
        schedule="cosine",
        warmup_steps=settings.steps // 10,
        device="cpu",
        seed=seed,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = SReTForImageClassification(SReTConfig(**{**PAIRS, "permutation_seed": seed, **options}))
    optimizer = make_optimizer(model, how, decay_groups)
    train(model, Generated(draw), how, loss=cross_entropy_loss(), optimizer=optimizer, progress=progress)
    pairs, sums = draw_pairs(*held, settings.test_pairs, np.random.default_rng([seed, 12]))
    found = predict(model, {"pixel_values": pairs}, device="cpu")
    return float((found == sums).mean()), sum(p.numel() for p in model.parameters())
