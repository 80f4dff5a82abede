"""The user's labelled images as one array, and changed values back in the form in which each image is stored."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

import numpy as np
import torch

from paperworks.errors import InputError
from paperworks.extras import require_extra
from paperworks.inputs.images import ImageDataset, as_batch, read_images
from paperworks.nn import build_network
from paperworks.papers.unlearnable.config import NETWORKS, Config
from paperworks.papers.unlearnable.surrogates import CONVOLUTIONS_FROM, MakeModel, default_surrogate
from paperworks.runs import Run
from paperworks.training import model_logits

STEP_TOLERANCE = 1e-4
"""Of a whole step: float32 values stand for steps of the depth up to that."""


@dataclass(frozen=True)
class Source:
    """Labelled images before they are protected.

    Attributes
    ----------
    images : as they were read, those that are used.
    batch : float32 ``[n, c, h, w]`` in [0, 1].
    labels : class codes, int64 ``[n]``.
    test : bool ``[n]``, images that test the protection.
    own_split : whether the source says which images are for testing; those are not protected then.
    """

    images: ImageDataset
    batch: np.ndarray
    labels: np.ndarray
    test: np.ndarray
    own_split: bool
    resized: bool
    notes: list[str] = field(default_factory=list)


def read_source(config: Config, run: Run) -> Source:
    """Read what ``config.data`` names.

    Raises InputError for images of mixed sizes without ``size``, for missing labels, and for classes with too few
    images.
    """
    images = read_images(config.data, label_column=config.label, progress=run.progress)
    labels = images.require_labels()
    notes = images.describe().split("\n")
    if config.limit is not None and config.limit < len(images):
        chosen = np.sort(run.rng("limit").permutation(len(images))[: config.limit])
        images, labels = images.subset(chosen), labels[chosen]
        notes[0] += f"; {config.limit:,} of them, drawn with the seed, are used"
    codes, labels = np.unique(labels, return_inverse=True)
    names = tuple(images.class_names[code] for code in codes)
    test, own = _test_rows(images, labels, config, names)
    size = None if config.size is None else (config.size, config.size)
    if size is None and images.shapes is not None and len({tuple(s) for s in images.shapes[:, :2].tolist()}) > 1:
        several = sorted({tuple(s) for s in images.shapes[:, :2].tolist()})
        some = ", ".join(f"{h} x {w}" for h, w in several[:4])
        raise InputError("size", f"images of {len(several)} sizes ({some})", "a size that all are resized to")
    batch = images.array(size=size)
    return Source(images, batch, labels.astype(np.int64), test, own, size is not None, notes)


def _test_rows(
    images: ImageDataset, labels: np.ndarray, config: Config, names: tuple[str, ...]
) -> tuple[np.ndarray, bool]:
    counts = np.bincount(labels)
    if len(counts) < 2:
        raise InputError("data", f"one class ({names[0]!r})", "two or more")
    if counts.min() < 4:
        few = f"{counts.min()} images of class {names[counts.argmin()]!r}"
        raise InputError("data", few, "four or more of each class, to train on some and to test on others")
    if images.splits is not None and {"train", "test"} <= set(images.splits.tolist()):
        return images.splits == "test", True
    from sklearn.model_selection import train_test_split

    rows = np.arange(len(labels))
    try:
        train, _ = train_test_split(rows, test_size=config.test_size, stratify=labels, random_state=config.seed % 2**32)
    except ValueError as error:
        raise InputError("test_size", f"{config.test_size} ({error})", "a share with images of every class") from None
    if np.bincount(labels[train], minlength=len(counts)).min() < 2:
        raise InputError("test_size", config.test_size, "a share that leaves two images of every class")
    return ~np.isin(rows, train), False


def stored_values(original: np.ndarray, change: np.ndarray, white: tuple[float, float] | None) -> np.ndarray:
    """A changed image in the type of the original, rounded towards it, so that no budget is passed; alpha stays.

    Parameters
    ----------
    original : ``[h, w]`` or ``[h, w, c]`` with c of 1 to 4: grey, grey and alpha, colour, colour and alpha.
    change : float ``[c, h, w]`` in units of the range of values, c of 1 or 3.
    white : least and greatest value, where the type does not tell.
    """
    depth = {"uint8": 255.0, "uint16": 65535.0}.get(original.dtype.name, 1.0)
    low, high = white or (0.0, depth)
    pixels = original[:, :, None] if original.ndim == 2 else original
    colours = 3 if pixels.shape[2] >= 3 else 1
    wanted = np.moveaxis(np.asarray(change, dtype=np.float64), 0, -1) * (high - low)
    if wanted.shape[2] != colours:
        wanted = wanted.mean(2, keepdims=True) if colours == 1 else np.repeat(wanted, 3, axis=2)
    if np.issubdtype(original.dtype, np.integer):
        wanted = np.trunc(wanted + np.sign(wanted) * STEP_TOLERANCE)
    found = pixels.copy()
    found[:, :, :colours] = np.clip(pixels[:, :, :colours].astype(np.float64) + wanted, low, high)
    return found.reshape(original.shape)


def stored_images(source: Source, rows: np.ndarray, change: np.ndarray) -> list[np.ndarray]:
    """Images ``rows`` with their changes ``[len(rows), c, h, w]``, as they will be stored."""
    if not source.resized:
        white = source.images.value_range
        return [stored_values(source.images[i], delta, white) for i, delta in zip(rows, change, strict=True)]
    pixels = np.rint(source.batch[rows] * 255).astype(np.uint8).transpose(0, 2, 3, 1)
    flat = [p[:, :, 0] if p.shape[2] == 1 else p for p in pixels]
    return [stored_values(image, delta, None) for image, delta in zip(flat, change, strict=True)]


def protected_batch(source: Source, images: list[np.ndarray]) -> np.ndarray:
    """What readers of the written images will see, float32 ``[n, c, h, w]`` in [0, 1]."""
    return as_batch(
        images, channels=source.batch.shape[1], value_range=None if source.resized else source.images.value_range
    )


class PixelClassifier(torch.nn.Module):
    """An image classifier of transformers behind its own resizing and normalisation, as differentiable operations.

    Takes images ``[n, 1 or 3, h, w]`` in [0, 1]; returns logits ``[n, C]``.
    """

    def __init__(
        self, model: torch.nn.Module, size: tuple[int, int] | None, mean: list[float], std: list[float]
    ) -> None:
        super().__init__()
        self.model, self.size = model, size
        self.mean: torch.Tensor
        self.std: torch.Tensor
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Logits of a batch."""
        pixels = inputs.expand(-1, 3, -1, -1) if inputs.shape[1] == 1 and self.mean.shape[1] == 3 else inputs
        if self.size is not None and tuple(pixels.shape[2:]) != self.size:
            pixels = torch.nn.functional.interpolate(pixels, self.size, mode="bilinear", antialias=True)
        return model_logits(self.model, {"pixel_values": (pixels - self.mean) / self.std})


def surrogate_maker(config: Config, source: Source, run: Run) -> MakeModel:
    """A function from a seed to a fresh classifier, as ``config.model`` names it."""
    shape, classes = source.batch.shape[1:], int(source.labels.max()) + 1
    if config.model == "auto":
        return default_surrogate(shape, classes)
    if config.model in NETWORKS:
        if config.model not in ("mlp", "small-cnn", "tiny-vit"):
            require_extra("vision", f"model {config.model}")
        if shape[1] != shape[2] and config.model != "small-cnn":
            raise InputError(
                "model", f"{config.model} for images of {shape[1]} x {shape[2]}", "square images, or small-cnn"
            )
        return lambda seed: build_network(
            config.model, image_size=shape[1], channels=shape[0], outputs=classes, seed=seed % 2**32
        )
    require_extra("vision", "model")
    from paperworks.classification import load_classifier

    loaded = load_classifier(config.model, progress=run.progress)
    if loaded.kind != "image" or len(loaded.class_names) != classes:
        found = f"a classifier of {len(loaded.class_names)} classes of {loaded.kind}s"
        raise InputError("model", found, f"one of images in {classes} classes")
    processor = loaded.processor
    sides = getattr(processor, "size", None) or {}
    height, width = (int(sides.get(name) or sides.get("shortest_edge") or 0) for name in ("height", "width"))
    size = (height, width) if getattr(processor, "do_resize", False) and height and width else None
    normalises = getattr(processor, "do_normalize", False)
    mean, std = (list(processor.image_mean), list(processor.image_std)) if normalises else ([0.0], [1.0])
    whole = PixelClassifier(loaded.model, size, mean, std)
    return lambda seed: copy.deepcopy(whole)


def default_eps(shape: tuple[int, ...]) -> float:
    """The budget where none is given: the paper's 8/255, and 0.3 for images of fewer than 256 pixels, whose few values
    must change more before anything is seen to happen."""
    return 8 / 255 if shape[-2] * shape[-1] >= CONVOLUTIONS_FROM else 0.3
