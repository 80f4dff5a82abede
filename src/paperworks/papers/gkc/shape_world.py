"""A small world with exact masks: shapes of four colours before parts of two real photographs.

Scenes are 64 x 64. The background is a random part of scikit-learn's two sample photographs (a palace in China, a
dahlia); before it stand one to four shapes of random size and place, which may cover each other, with noise. Of the 16
combinations of shape and colour 12 are base; 4 are novel, and of those shape and colour occur in other combinations.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import cache

import numpy as np

from paperworks.papers.gkc.segments import Scene, Segment
from paperworks.parameters import check_seed

SIDE = 64
COLOURS = {"red": (200, 40, 40), "green": (40, 160, 60), "blue": (50, 70, 200), "yellow": (225, 205, 50)}
SHAPES = ("circle", "square", "triangle", "cross")
COMBINATIONS = [f"{colour} {shape}" for colour, shape in itertools.product(COLOURS, SHAPES)]
NOVEL = ("red square", "green triangle", "blue circle", "yellow cross")
BASE = tuple(name for name in COMBINATIONS if name not in NOVEL)
BACKGROUNDS = ("palace", "flower")
TRAINED = (*BASE, *BACKGROUNDS)
EVERY = (*BASE, *BACKGROUNDS, *NOVEL)

SYNONYMS = {
    "red": ("crimson", "scarlet"),
    "green": ("emerald", "olive green"),
    "blue": ("azure", "navy blue"),
    "yellow": ("golden", "lemon yellow"),
    "circle": ("disc", "disk"),
    "square": ("box", "quadrangle"),
    "triangle": ("trigon", "three-sided shape"),
    "cross": ("cruciform", "crucifix"),
}
"""Words that training may put in place of a word of a class name."""

HELD_OUT = {
    "red": "cherry red",
    "green": "grass green",
    "blue": "sky blue",
    "yellow": "canary yellow",
    "circle": "round shape",
    "square": "square shape",
    "triangle": "triangular shape",
    "cross": "cross shape",
}
"""Words of names that no training sees: names of the test of other names. MiniLM takes them for their class's name."""


def synonyms_of(name: str) -> list[str]:
    """Names that training may use for a class: one of its words, or both, replaced. The class's own name is first."""
    if name not in COMBINATIONS:
        return [name]
    colour, shape = name.split()
    return [f"{c} {s}" for c, s in itertools.product((colour, *SYNONYMS[colour]), (shape, *SYNONYMS[shape]))]


def held_out_name(name: str) -> str:
    """The name of a class in words that no training sees."""
    if name not in COMBINATIONS:
        return name
    colour, shape = name.split()
    return f"{HELD_OUT[colour]} {HELD_OUT[shape]}"


@cache
def photographs() -> tuple[np.ndarray, np.ndarray]:
    """The palace and the dahlia, uint8 ``[427, 640, 3]``."""
    from sklearn.datasets import load_sample_image

    return load_sample_image("china.jpg"), load_sample_image("flower.jpg")


def make_scenes(count: int, seed: int, names: Sequence[str] = BASE, class_names: Sequence[str] = EVERY) -> list[Scene]:
    """Scenes with shapes of these combinations.

    Parameters
    ----------
    count : number of scenes.
    seed : of all random choices.
    names : combinations that occur.
    class_names : the classes, whose positions are the segments' classes.
    """
    check_seed("seed", seed)
    rng = np.random.default_rng(seed)
    place = {name: number for number, name in enumerate(class_names)}
    return [_scene(rng, f"scene-{seed}-{number:04d}", names, place) for number in range(count)]


def _scene(rng: np.random.Generator, name: str, names: Sequence[str], place: dict[str, int]) -> Scene:
    photo = int(rng.integers(2))
    source = photographs()[photo]
    side = int(rng.integers(SIDE, 4 * SIDE))
    top, left = int(rng.integers(source.shape[0] - side + 1)), int(rng.integers(source.shape[1] - side + 1))
    rows = (np.arange(SIDE) * side / SIDE).astype(int)
    image = source[top + rows][:, left + rows].astype(np.float32)
    label = np.full((SIDE, SIDE), -1)  # number of the shape that a pixel shows
    drawn = [str(rng.choice(np.asarray(names))) for _ in range(int(rng.integers(1, 5)))]
    for number, combination in enumerate(drawn):
        colour, shape = combination.split()
        mask = _shape(rng, shape)
        tone = np.asarray(COLOURS[colour], np.float32) + rng.normal(0, 15, 3)
        grain = rng.normal(0, 12, (SIDE, SIDE, 1)) + rng.normal(0, 6, (SIDE, SIDE, 3))
        image = np.where(mask[..., None], tone + grain, image)
        label[mask] = number
    segments = [Segment(place[drawn[n]], label == n) for n in range(len(drawn)) if (label == n).sum() >= 12]
    segments.append(Segment(place[BACKGROUNDS[photo]], label == -1))
    return Scene(name, image.clip(0, 255).astype(np.uint8), tuple(s for s in segments if s.mask.any()))


def _shape(rng: np.random.Generator, shape: str) -> np.ndarray:
    """A mask ``[SIDE, SIDE]`` of a shape of 8 to 15 pixels radius."""
    radius = rng.uniform(8, 15)
    middle = rng.uniform(radius, SIDE - radius, 2)
    y, x = (np.mgrid[:SIDE, :SIDE] - middle[:, None, None] + 0.5) / radius
    if shape == "circle":
        return np.asarray(x * x + y * y <= 1)
    if shape == "square":
        return np.asarray(np.maximum(abs(x), abs(y)) <= 0.85)
    if shape == "triangle":
        return np.asarray((y <= 0.8) & (y >= -1 + 1.8 * abs(x)))
    return np.asarray((abs(x) <= 0.3) & (abs(y) <= 1) | (abs(y) <= 0.3) & (abs(x) <= 1))
