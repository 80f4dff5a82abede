"""Labelled images as tensors with a test part, and classifiers of them that can be traced: what recipes begin with."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import TensorDataset

from paperworks.errors import InputError
from paperworks.inputs.images import read_images
from paperworks.nn import build_network
from paperworks.parameters import check_seed
from paperworks.pruning.image_options import MODELS, ImageOptions
from paperworks.runs import Run

MakeModel = Callable[[int], nn.Module]
"""A function from a seed to a classifier: new weights, or a copy of trained ones."""
LEAST = 4
"""Images of a class: some to train on, some to test on."""


@dataclass(frozen=True)
class ImageTask:
    """A classification of images.

    Attributes
    ----------
    train, test : float32 ``[n, c, h, w]`` in [0, 1] and int64 ``[n]`` class codes.
    class_names : by code.
    notes : how the input was read, the first for the head of a report.
    """

    train: TensorDataset
    test: TensorDataset
    class_names: tuple[str, ...]
    notes: list[str] = field(default_factory=list)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        channels, height, width = self.train.tensors[0].shape[1:]
        return channels, height, width

    @property
    def example(self) -> torch.Tensor:
        """Two images, to trace a classifier with."""
        return self.train.tensors[0][:2]

    def part(self, rows: torch.Tensor | slice) -> ImageTask:
        """The task with these training rows only."""
        return replace(self, train=TensorDataset(*(t[rows] for t in self.train.tensors)))

    def of_classes(self, codes: list[int]) -> ImageTask:
        """The task of telling these classes apart, coded anew from 0."""
        place = torch.full((len(self.class_names),), -1, dtype=torch.int64)
        place[codes] = torch.arange(len(codes))

        def within(data: TensorDataset) -> TensorDataset:
            inputs, labels = data.tensors
            chosen = place[labels] >= 0
            return TensorDataset(inputs[chosen], place[labels[chosen]])

        return replace(
            self,
            train=within(self.train),
            test=within(self.test),
            class_names=tuple(self.class_names[code] for code in codes),
        )


def image_task(options: ImageOptions, run: Run) -> ImageTask:
    """Read the images that ``options.data`` names.

    A split of their own (``train`` and ``test``) is kept; else ``test_size`` of each class is drawn with the seed.

    Raises InputError for missing labels, for one class, for a class with too few images, and for images of several
    sizes without ``size``.
    """
    images = read_images(options.data, label_column=options.label, progress=run.progress)
    labels = images.require_labels()
    notes = images.describe().split("\n")
    if options.limit is not None and options.limit < len(images):
        chosen = np.sort(run.rng("limit").permutation(len(images))[: options.limit])
        images, labels = images.subset(chosen), labels[chosen]
        notes[0] += f"; {options.limit:,} of them, drawn with the seed, are used"
    codes, labels = np.unique(labels, return_inverse=True)
    names = tuple(str(images.class_names[code]) for code in codes)
    counts = np.bincount(labels)
    if len(names) < 2:
        raise InputError("data", f"one class ({names[0]!r})", "two or more")
    if counts.min() < LEAST:
        few = f"{counts.min()} images of class {names[int(counts.argmin())]!r}"
        raise InputError("data", few, f"{LEAST} or more of each class")
    own = images.splits is not None and {"train", "test"} <= set(images.splits.tolist())
    test = images.splits == "test" if own else _drawn(labels, options.test_size, run)
    shapes = set() if images.shapes is None else {tuple(s) for s in images.shapes[:, :2].tolist()}
    if options.size is None and len(shapes) > 1:
        some = ", ".join(f"{height} x {width}" for height, width in sorted(shapes)[:4])
        raise InputError("size", f"images of {len(shapes)} sizes ({some})", "a size that all are resized to")
    pixels = torch.from_numpy(images.array(size=None if options.size is None else (options.size, options.size)))
    targets = torch.from_numpy(labels.astype(np.int64))
    train = torch.from_numpy(~np.asarray(test, dtype=bool))
    parts = [TensorDataset(pixels[rows], targets[rows]) for rows in (train, ~train)]
    return ImageTask(parts[0], parts[1], names, notes)


def _drawn(labels: np.ndarray, share: float, run: Run) -> np.ndarray:
    """A share of each class, one image at least on either side."""
    generator = run.rng("test")
    test = np.zeros(len(labels), dtype=bool)
    for code in np.unique(labels):
        rows = generator.permutation(np.flatnonzero(labels == code))
        test[rows[: min(len(rows) - 1, max(1, round(share * len(rows))))]] = True
    return test


class PlainCNN(nn.Sequential):
    """Six 3x3 convolutions without norms and a linear layer: 32, 32/2, 64, 64/2, 128, 128; mean over positions.

    Kaiming's normal initialisation for ReLU, biases 0. Scores that need a homogeneous network (SynFlow) are exact.
    """

    WIDTHS, STRIDES = (32, 32, 64, 64, 128, 128), (1, 2, 1, 2, 1, 1)

    def __init__(self, channels: int = 1, outputs: int = 10, *, factor: float = 1.0, bias: bool = True) -> None:
        layers: list[nn.Module] = []
        before = channels
        for width, stride in zip((max(1, round(w * factor)) for w in self.WIDTHS), self.STRIDES, strict=True):
            layers += [nn.Conv2d(before, width, 3, stride, padding=1, bias=bias), nn.ReLU()]
            before = width
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, outputs, bias=bias))
        self.apply(self._init_weights)

    @staticmethod
    @torch.no_grad()
    def _init_weights(module: nn.Module) -> None:
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


class StridedCNN(PlainCNN):
    """The same kind, made for 60,000 images of 28 x 28 at little cost: 4/2, 8/2, 16/2, 16, 32, 32; ends at 4 x 4."""

    WIDTHS, STRIDES = (4, 8, 16, 16, 32, 32), (2, 2, 2, 1, 1, 1)


PLAIN: dict[str, type[PlainCNN]] = {"auto": PlainCNN, "plain-cnn": PlainCNN, "strided-cnn": StridedCNN}
"""Networks without norms by name."""


class ImageLogits(nn.Module):
    """A classifier of transformers as a module from images float ``[n, c, h, w]`` in [0, 1] to logits ``[n, C]``.

    Its processor's resizing and normalisation are operations of the module.
    """

    def __init__(self, network: nn.Module, size: tuple[int, int] | None, mean: list[float], std: list[float]) -> None:
        super().__init__()
        self.network, self.size = network, size
        self.mean: torch.Tensor
        self.std: torch.Tensor
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of a batch."""
        if images.shape[1] == 1 and self.mean.shape[1] == 3:
            images = images.expand(-1, 3, -1, -1)
        if self.size is not None and tuple(images.shape[2:]) != self.size:
            images = nn.functional.interpolate(images, self.size, mode="bilinear", antialias=True)
        output: Any = self.network(pixel_values=(images - self.mean) / self.std)
        return output.logits


def model_maker(name: str, task: ImageTask, *, progress: Any = None) -> tuple[MakeModel, bool]:
    """A function from a seed to the classifier that ``name`` names, and whether it is trained already.

    Raises InputError for a folder that holds no classifier of as many classes, or a network that does not take images
    of this shape.
    """
    channels, height, width = task.shape
    classes = len(task.class_names)
    if name in PLAIN:
        return lambda seed: _seeded(seed, lambda: PLAIN[name](channels, classes)), False
    if name in MODELS:
        if height != width and name != "small-cnn":
            raise InputError("model", f"{name} for images of {height} x {width}", "square images, or small-cnn")
        return lambda seed: _built(name, height, channels, classes, seed), False
    trained = _loaded(Path(name).expanduser(), classes, progress)
    return lambda seed: copy.deepcopy(trained), True


def _seeded(seed: int, make: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(check_seed("seed", seed))
        return make()


def _built(name: str, size: int, channels: int, classes: int, seed: int) -> nn.Module:
    network = build_network(name, image_size=size, channels=channels, outputs=classes, seed=seed % 2**32)
    ours = name in ("mlp", "small-cnn", "tiny-vit")
    return network if ours else ImageLogits(network, None, [0.0] * channels, [1.0] * channels)


def _loaded(folder: Path, classes: int, progress: Any) -> nn.Module:
    from paperworks.nn import load_network
    from paperworks.nn.saving import read_network_config

    if "network" in read_network_config(folder):
        network = load_network(folder)
        found: Any = getattr(network, "config", {})
        outputs = found.get("outputs") if isinstance(found, dict) else None
        if outputs not in (None, classes):
            raise InputError("model", f"a network with {outputs} outputs", f"one of {classes} classes, as the data has")
        return network
    from paperworks.classification import load_classifier

    options = {} if progress is None else {"progress": progress}
    loaded = load_classifier(folder, **options)
    if loaded.kind != "image" or len(loaded.class_names) != classes:
        found = f"a classifier of {len(loaded.class_names)} classes of {loaded.kind}s"
        raise InputError("model", found, f"one of images in {classes} classes, as the data has")
    processor = loaded.processor
    sides = dict(getattr(processor, "size", None) or {})
    height, width = (int(sides.get(name) or sides.get("shortest_edge") or 0) for name in ("height", "width"))
    size = (height, width) if getattr(processor, "do_resize", False) and height and width else None
    normal = getattr(processor, "do_normalize", False)
    mean, std = (list(processor.image_mean), list(processor.image_std)) if normal else ([0.0], [1.0])
    return ImageLogits(loaded.model, size, mean, std)
