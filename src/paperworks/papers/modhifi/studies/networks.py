"""Digits, the networks that are trained on them, and synthetic samples: one of each for a seed."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.utils.data import TensorDataset

from paperworks.classification import predict_logits
from paperworks.nn import build_network
from paperworks.nn.small_cnn import ConvBlock
from paperworks.papers.modhifi.synthetic import Kind, SyntheticImages
from paperworks.pruning import train_classifier
from paperworks.runs import Run

SEEDS = 3
PER_CLASS = 100
Name = Literal["residual", "plain", "transformer"]


class ResidualDigits(nn.Sequential):
    """Stem of 32 channels, residual blocks of 32, 64 at half the resolution and 64; BatchNorm; mean over positions."""

    def __init__(self) -> None:
        super().__init__(
            nn.Sequential(nn.Conv2d(1, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU()),
            ConvBlock(32, 32, 1, residual=True, norm="batch"),
            ConvBlock(32, 64, 2, residual=True, norm="batch"),
            ConvBlock(64, 64, 1, residual=True, norm="batch"),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(64, 10),
        )


INNER = tuple(f"{block}.conv1/channel" for block in (1, 2, 3))
"""The groups of channels inside the blocks of ``ResidualDigits``."""


def digits(seed: int, fast: bool = False) -> tuple[TensorDataset, TensorDataset]:
    """70 % of the digits to train on and 30 % to test on, with equal shares of the classes."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    images = (bunch.images / 16).astype(np.float32)[:, None]
    train, test, y, test_y = train_test_split(
        images, bunch.target, test_size=0.3, stratify=bunch.target, random_state=seed
    )
    if fast:
        train, y = train[:300], y[:300]
    return (
        TensorDataset(torch.from_numpy(train), torch.from_numpy(y)),
        TensorDataset(torch.from_numpy(test), torch.from_numpy(test_y)),
    )


def trained(run: Run, name: Name, seed: int, data: TensorDataset, fast: bool = False) -> nn.Module:
    """A network of ``name`` trained on ``data``; kept with the run, so that studies of one run train it once."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: nn.Module
        if name == "residual":
            model = ResidualDigits()
        elif name == "plain":
            model = build_network("small-cnn", image_size=8, widths=(32, 64), blocks=2, residual=False, seed=seed)
        else:
            model = build_network("tiny-vit", image_size=8, patch_size=2, seed=seed)
    kept = run.state / f"{name}-{seed}.safetensors"
    if kept.is_file():
        model.load_state_dict(load_file(kept))
        return model.eval()
    epochs = {"residual": 12, "plain": 12, "transformer": 25}[name]
    train_classifier(
        model,
        data,
        epochs=2 if fast else epochs,
        learning_rate=0.05,
        weight_decay=5e-4,
        seed=seed,
        device="cpu",
        progress=run.progress,
    )
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, kept)
    return model.eval()


def synthetic(data: TensorDataset, seed: int, kind: Kind = "density") -> tuple[torch.Tensor, torch.Tensor]:
    """Samples of each class from what the training images say of their distribution, and their classes."""
    return SyntheticImages(kind, seed=seed).fit(*data.tensors).sample(PER_CLASS, seed=seed)


def accuracy(model: nn.Module, data: TensorDataset) -> float:
    """Share of right classes."""
    inputs, labels = data.tensors
    return float((torch.from_numpy(predict_logits(model, inputs, device="cpu")).argmax(1) == labels).double().mean())
