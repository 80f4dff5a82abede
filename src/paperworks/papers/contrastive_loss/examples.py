"""Images to sweep on, their augmentations, and a small convolutional encoder."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from paperworks.errors import InputError
from paperworks.papers.contrastive_loss.sweep import Examples

BUNDLED = ("digits", "patches")
PATCH = 16
GRID = (3, 4)
"""Regions of a photograph, down and across; the label of a patch is the region that it was cut from."""


class ConvEncoder(nn.Module):
    """Three convolutions (32, 64, 128 channels, stride 2) with batch normalisation, then the mean over places.

    Parameters
    ----------
    channels : of the images ``[B, channels, h, w]``.
    seed : of the first weights.
    """

    def __init__(self, channels: int = 1, seed: int = 0) -> None:
        super().__init__()
        self.channels = channels
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            widths = (channels, 32, 64, 128)
            layers: list[nn.Module] = []
            for before, after in pairwise(widths):
                layers += [
                    nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False),
                    nn.BatchNorm2d(after),
                    nn.ReLU(),
                ]
            self.layers = nn.Sequential(*layers)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Features ``[B, 128]``."""
        return self.layers(images).mean((2, 3))

    def save_pretrained(self, folder: Path | str) -> None:
        """Write config.json and model.safetensors into an existing folder."""
        from safetensors.torch import save_file

        folder = Path(folder)
        (folder / "config.json").write_text(json.dumps({"channels": self.channels}), encoding="utf-8")
        save_file({k: v.contiguous() for k, v in self.state_dict().items()}, folder / "model.safetensors")

    @classmethod
    def from_pretrained(cls, folder: Path | str) -> ConvEncoder:
        """Read what ``save_pretrained`` wrote."""
        from safetensors.torch import load_file

        folder = Path(folder)
        try:
            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            model = cls(config["channels"])
            model.load_state_dict(load_file(folder / "model.safetensors"))
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise InputError(
                "folder", f"{folder} ({error})", "a folder that ConvEncoder.save_pretrained wrote"
            ) from error
        return model.eval()


def affine_views(images: torch.Tensor, *, degrees: float = 15, shift: float = 0.1, noise: float = 0.05) -> torch.Tensor:
    """Images turned by up to ``degrees``, scaled by 0.9 to 1.1, moved by up to ``shift`` of their side, with noise."""
    count = len(images)
    angle = (torch.rand(count) * 2 - 1) * math.radians(degrees)
    scale = torch.rand(count) * 0.2 + 0.9
    move = (torch.rand(count, 2) * 2 - 1) * 2 * shift
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    theta = torch.stack([torch.stack([cos, -sin, move[:, 0]], 1), torch.stack([sin, cos, move[:, 1]], 1)], 1)
    grid = functional.affine_grid(theta.to(images), list(images.shape), align_corners=False)
    moved = functional.grid_sample(images, grid, align_corners=False, padding_mode="border")
    return moved + noise * torch.randn(moved.shape).to(moved)


def photo_views(images: torch.Tensor) -> torch.Tensor:
    """Flips, a change of brightness and contrast, and the views of ``affine_views``."""
    flip = torch.rand(len(images), 1, 1, 1).to(images) < 0.5
    images = torch.where(flip, images.flip(3), images)
    gain = (torch.rand(len(images), 1, 1, 1) * 0.8 + 0.6).to(images)
    lift = (torch.rand(len(images), 1, 1, 1) * 0.4 - 0.2).to(images)
    mean = images.mean((1, 2, 3), keepdim=True)
    return affine_views((images - mean) * gain + mean + lift, degrees=20, shift=0.15)


def load_examples(data: str, seed: int = 0, limit: int | None = None) -> Examples:
    """Labelled images: "digits", "patches", or a ``.npz`` with ``images`` and ``labels``.

    Parameters
    ----------
    data : "digits" (1,797 of 8 x 8; 1,300 to train), "patches" (16 x 16 pixels of scikit-learn's two photographs, the
        label is the region; train and test patches come from different halves of a region) or a file. Its ``images``
        are [n, h, w] or [n, h, w, c], whole numbers up to 255 or real ones in [0, 1].
    seed : of the split and of the patches.
    limit : at most so many train examples.
    """
    if data == "patches":
        found = _patches(seed)
    else:
        images, labels, name = _digits() if data == "digits" else _file(Path(data))
        found = _split(images, labels, 1300 / 1797, seed, name)
    if limit is not None:
        found = Examples(found.train[:limit], found.test, found.train_labels[:limit], found.test_labels, found.augment)
    return found


def _digits() -> tuple[np.ndarray, np.ndarray, str]:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return images.reshape(-1, 8, 8) / 16, labels, "digits"


def _file(path: Path) -> tuple[np.ndarray, np.ndarray, str]:
    try:
        with np.load(path.expanduser(), allow_pickle=False) as arrays:
            images, labels = arrays["images"], arrays["labels"]
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise InputError(
            "data", f"{path} ({error})", f"{', '.join(BUNDLED)} or a .npz with images and labels"
        ) from error
    if images.ndim not in (3, 4) or len(images) != len(labels) or images.dtype.kind not in "fiu":
        raise InputError(
            "data", f"images {images.shape}, labels {labels.shape}", "images [n, h, w(, c)] and labels [n]"
        )
    images = images / 255 if images.dtype.kind in "iu" else images
    if not (np.isfinite(images).all() and images.min() >= 0 and images.max() <= 1):
        raise InputError("data", "pixels outside [0, 1]", "whole numbers up to 255, or real ones in [0, 1]")
    return images, labels, str(path)


def _split(images: np.ndarray, labels: np.ndarray, share: float, seed: int, name: str) -> Examples:
    from sklearn.model_selection import train_test_split

    counts = np.unique(labels, return_counts=True)[1]
    if len(counts) < 2 or counts.min() < 2 or len(labels) < 20:
        raise InputError(
            "data", f"{name}: {len(labels)} images of {len(counts)} classes", "20 or more, two of each class"
        )
    first, second = train_test_split(
        np.arange(len(labels)), train_size=share, random_state=seed % 2**32, stratify=labels
    )
    tensor = torch.as_tensor(images, dtype=torch.float32)
    tensor = tensor[:, None] if tensor.ndim == 3 else tensor.permute(0, 3, 1, 2).contiguous()
    return Examples(tensor[first], tensor[second], labels[first], labels[second], affine_views)


def _patches(seed: int, per_region: int = 60) -> Examples:
    from sklearn.datasets import load_sample_images

    rng = np.random.default_rng(seed)
    parts: dict[str, list[Any]] = {"train": [], "test": []}
    labels: dict[str, list[int]] = {"train": [], "test": []}
    region = 0
    for photo in load_sample_images().images:
        tall, wide = photo.shape[0] // GRID[0], photo.shape[1] // GRID[1]
        for down in range(GRID[0]):
            for across in range(GRID[1]):
                for part, left in (("train", 0), ("test", wide // 2)):
                    for _ in range(per_region if part == "train" else per_region // 3):
                        top = down * tall + int(rng.integers(tall - PATCH))
                        start = across * wide + left + int(rng.integers(wide // 2 - PATCH))
                        parts[part].append(photo[top : top + PATCH, start : start + PATCH])
                        labels[part].append(region)
                region += 1
    images = {
        part: torch.as_tensor(np.stack(cut), dtype=torch.float32).permute(0, 3, 1, 2).contiguous() / 255
        for part, cut in parts.items()
    }
    return Examples(images["train"], images["test"], np.array(labels["train"]), np.array(labels["test"]), photo_views)
