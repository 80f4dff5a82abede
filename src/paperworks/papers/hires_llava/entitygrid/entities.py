"""What is placed on the canvas: objects by category, with an id each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from paperworks.errors import InputError
from paperworks.inputs.images import as_batch, read_images
from paperworks.papers.hires_llava.grid import resize
from paperworks.parameters import check_seed

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SHAPES = ("circle", "square", "triangle", "diamond", "star", "cross", "ring", "bar")
COLOURS = {"red": (214, 40, 40), "green": (42, 140, 60), "blue": (40, 80, 200), "orange": (240, 150, 20)}
BUNDLED = ("digits", "glyphs")


@dataclass(frozen=True)
class EntitySet:
    """Objects to place.

    Attributes
    ----------
    images : uint8 ``[h, w, 3]``, or ``[h, w, 4]`` with alpha, of any sizes.
    labels : category of each, int64 ``[n]``.
    names : of the categories, in words.
    ids : of the objects.
    background : grey value of the canvas, 0 to 255.
    """

    images: list[np.ndarray]
    labels: np.ndarray
    names: tuple[str, ...]
    ids: list[str]
    background: int = 255

    def __len__(self) -> int:
        return len(self.images)

    def subset(self, rows: Sequence[int] | np.ndarray) -> EntitySet:
        """The objects at these positions."""
        chosen = [int(row) for row in rows]
        return replace(
            self,
            images=[self.images[i] for i in chosen],
            labels=self.labels[chosen],
            ids=[self.ids[i] for i in chosen],
        )

    def split(self, seed: int = 0, test_share: float = 0.5) -> tuple[EntitySet, EntitySet]:
        """Two sets without a common object, each with every category.

        Raises InputError for a category of one object.
        """
        check_seed("seed", seed)
        rng = np.random.default_rng(seed)
        train, test = list[int](), list[int]()
        for label, name in enumerate(self.names):
            rows = rng.permutation(np.flatnonzero(self.labels == label))
            if len(rows) < 2:
                raise InputError("entities", f"{len(rows)} image of {name!r}", "at least two of each category")
            count = min(len(rows) - 1, max(1, round(test_share * len(rows))))
            test += sorted(rows[:count].tolist())
            train += sorted(rows[count:].tolist())
        return self.subset(sorted(train)), self.subset(sorted(test))

    def fitted(self, row: int, side: int) -> np.ndarray:
        """Object ``row`` with its longer side at ``side`` pixels."""
        image = self.images[row]
        scale = side / max(image.shape[:2])
        height, width = (min(side, max(1, round(extent * scale))) for extent in image.shape[:2])
        return resize(image, (height, width))


def load_entities(source: Any = "digits", *, seed: int = 0, per_category: int | None = None) -> EntitySet:
    """Objects from "digits" (scikit-learn's), "glyphs" (drawn), a folder with a folder per category, or pairs.

    Parameters
    ----------
    source : a name, anything that ``read_images`` takes with labels, a list of (category, image), or an ``EntitySet``.
    seed : of the drawing and of the choice.
    per_category : objects of each category at most, chosen with the seed; glyphs: how many are drawn (default 20).

    Raises
    ------
    InputError : fewer than two categories, no labels, categories whose names are empty or the same.
    """
    check_seed("seed", seed)
    if per_category is not None and per_category < 1:
        raise InputError("per_category", per_category, "1 or more")
    if isinstance(source, EntitySet):
        found = source
    elif isinstance(source, str) and source == "digits":
        found = _digits()
    elif isinstance(source, str) and source == "glyphs":
        return glyphs(20 if per_category is None else per_category, seed=seed)
    elif isinstance(source, (str, Path)):
        found = _from_files(source)
    else:
        found = _from_pairs(source)
    if len(found.names) < 2:
        raise InputError("entities", f"{len(found.names)} category", "at least two categories")
    if per_category is None:
        return found
    rng = np.random.default_rng(seed)
    rows = [rng.permutation(np.flatnonzero(found.labels == c))[:per_category] for c in range(len(found.names))]
    return found.subset(np.sort(np.concatenate(rows)))


def glyphs(per_category: int = 20, *, seed: int = 0, side: int = 96) -> EntitySet:
    """Drawn shapes: 8 forms in 4 colours, each drawn ``per_category`` times with another size and turn."""
    check_seed("seed", seed)
    rng = np.random.default_rng([seed, 32])
    images, labels, ids = list[np.ndarray](), list[int](), list[str]()
    names = tuple(f"{colour} {shape}" for shape in SHAPES for colour in COLOURS)
    for label, name in enumerate(names):
        colour, shape = name.split()
        for number in range(per_category):
            images.append(_glyph(shape, COLOURS[colour], side, rng.uniform(0.72, 1.0), rng.uniform(-12, 12)))
            labels.append(label)
            ids.append(f"{colour}-{shape}-{number:03d}")
    return EntitySet(images, np.array(labels), names, ids)


def _glyph(shape: str, colour: tuple[int, int, int], side: int, size: float, turn: float) -> np.ndarray:
    from PIL import Image, ImageDraw

    fine = 4 * side
    image = Image.new("L", (fine, fine), 0)
    draw = ImageDraw.Draw(image)
    c, r = fine / 2, size * fine / 2 * 0.95

    def corners(count: int, inner: float = 1.0, start: float = -90.0) -> list[tuple[float, float]]:
        angles = [math.radians(start + 360 * i / count) for i in range(count)]
        radii = [r * (inner if i % 2 else 1.0) for i in range(count)]
        return [(c + q * math.cos(a), c + q * math.sin(a)) for q, a in zip(radii, angles, strict=True)]

    if shape == "circle":
        draw.ellipse((c - r, c - r, c + r, c + r), fill=255)
    elif shape == "ring":
        draw.ellipse((c - r, c - r, c + r, c + r), outline=255, width=round(0.35 * r))
    elif shape == "square":
        draw.rectangle((c - 0.8 * r, c - 0.8 * r, c + 0.8 * r, c + 0.8 * r), fill=255)
    elif shape == "triangle":
        draw.polygon(corners(3), fill=255)
    elif shape == "diamond":
        draw.polygon([(c, c - r), (c + 0.6 * r, c), (c, c + r), (c - 0.6 * r, c)], fill=255)
    elif shape == "star":
        draw.polygon(corners(10, 0.42), fill=255)
    elif shape == "cross":
        draw.rectangle((c - 0.25 * r, c - r, c + 0.25 * r, c + r), fill=255)
        draw.rectangle((c - r, c - 0.25 * r, c + r, c + 0.25 * r), fill=255)
    else:
        draw.rectangle((c - r, c - 0.25 * r, c + r, c + 0.25 * r), fill=255)
    turned = image.rotate(turn, Image.Resampling.BILINEAR).resize((side, side), Image.Resampling.BOX)
    pixels = np.empty((side, side, 4), np.uint8)
    pixels[:, :, :3] = colour
    pixels[:, :, 3] = np.asarray(turned)
    return pixels


def _digits() -> EntitySet:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    grey = np.rint(bunch.images / 16 * 255).astype(np.uint8)
    images = [np.repeat(image[:, :, None], 3, axis=2) for image in grey]
    ids = [f"digit-{row:04d}" for row in range(len(images))]
    return EntitySet(images, bunch.target.astype(np.int64), NUMBERS, ids, background=0)


def _from_files(source: str | Path) -> EntitySet:
    dataset = read_images(source)
    labels = dataset.require_labels()
    images = []
    for row in range(len(dataset)):
        pixels = dataset[row]
        if pixels.ndim == 3 and pixels.shape[2] == 4 and pixels.dtype == np.uint8:
            images.append(pixels)  # alpha cuts the object out
        else:
            batch = as_batch([pixels], channels=3, dtype="uint8", value_range=dataset.value_range)
            images.append(np.ascontiguousarray(batch[0].transpose(1, 2, 0)))
    background = 0 if dataset.name in ("digits", "mnist", "fashion-mnist") else 255
    return EntitySet(images, labels, _readable(dataset.class_names), dataset.ids, background)


def _from_pairs(source: Any) -> EntitySet:
    from paperworks.papers.hires_llava.pixels import as_rgb

    try:
        pairs = [(str(name), image) for name, image in source]
    except (TypeError, ValueError):
        raise InputError("entities", type(source).__name__, "a name, a folder, or pairs (category, image)") from None
    names = list(dict.fromkeys(name for name, _ in pairs))
    images = [as_rgb(image, i)[0] for i, (_, image) in enumerate(pairs)]
    labels = np.array([names.index(name) for name, _ in pairs], dtype=np.int64)
    return EntitySet(images, labels, _readable(tuple(names)), [f"entity-{i:04d}" for i in range(len(pairs))])


def _readable(names: tuple[str, ...]) -> tuple[str, ...]:
    """Names as words, for questions. Raises InputError for a name that is empty or that two categories have."""
    words = tuple(" ".join(name.replace("_", " ").split()) for name in names)
    folded = [word.casefold() for word in words]
    twice = next((word for word in words if not word or folded.count(word.casefold()) > 1), None)
    if twice is not None:
        raise InputError("entities", f"category {twice!r}", "names that are not empty and all different")
    return words
