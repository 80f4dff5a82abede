"""Real handwritten digits on coloured ground: a small "waterbirds" with captions, a planted shortcut and known groups.

Digits 3 and 5 against 6 and 8 of scikit-learn, each pasted into a corner of a 12 x 12 canvas of green or blue ground.
In training the ground says the class with a chosen probability. Splits are by original image.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

CLASSES = ("3 or 5", "6 or 8")
GROUNDS = (("grass", "a green field", "a meadow"), ("water", "a blue lake", "the ocean"))
GROUND_WORDS = tuple(
    frozenset(w for phrase in words for w in phrase.split() if w not in ("a", "the")) for words in GROUNDS
)
CORNERS = ("upper left", "upper right", "lower left", "lower right")
BRIGHTNESS = (("dark", 0.55), ("dim", 0.7), ("bright", 0.85), ("sunny", 1.0))
"""Of the whole picture."""
COLOURS = np.array([[0.25, 0.55, 0.2], [0.2, 0.4, 0.75]])
INK = 0.7
"""How far a digit covers the ground: at this, plain training gets about a third of the worst group right."""
SHARES = {"train": 0.45, "val": 0.3, "test": 0.25}
PASTES = {"train": 4, "val": 10, "test": 6}
SIDE = 12


@dataclass(frozen=True)
class DigitSplit:
    """A split of the set.

    Attributes
    ----------
    images : float32 ``[n, 3, 12, 12]`` in [0, 1].
    y : class ``[n]``; ground : 0 green, 1 blue ``[n]``.
    captions : one text per image.
    """

    images: np.ndarray
    y: np.ndarray
    ground: np.ndarray
    captions: list[str]

    @property
    def groups(self) -> np.ndarray:
        """2 class + ground: the four groups ``[n]``."""
        return 2 * self.y + self.ground


def coloured_digits(
    seed: int, correlation: Mapping[str, float], *, style: str = "plain", per_image: Mapping[str, int] = PASTES
) -> dict[str, DigitSplit]:
    """The splits train, val and test.

    Parameters
    ----------
    correlation : split -> probability that the ground has the colour of the class; 0.5 says nothing.
    style : of the captions: "plain", "terse" (few words), "chatty" (other words around the same facts) or "noisy" (the
        ground is wrong in 15 % of captions).
    per_image : split -> pastes of each original image.
    """
    from sklearn.datasets import load_digits

    digits, labels = load_digits(return_X_y=True)
    draw = np.random.default_rng([seed, 7])
    rows = draw.permutation(np.flatnonzero(np.isin(labels, (3, 5, 6, 8))))
    ends = np.cumsum([round(share * len(rows)) for share in SHARES.values()])[:-1]
    made = {}
    for name, part in zip(SHARES, np.split(rows, ends), strict=True):
        part = np.repeat(part, per_image[name])
        y = np.isin(labels[part], (6, 8)).astype(np.int64)
        ground = np.where(draw.random(len(part)) < correlation[name], y, 1 - y)
        made[name] = _paste(digits[part].reshape(-1, 8, 8) / 16, y, ground, style, draw)
    return made


def _paste(digits: np.ndarray, y: np.ndarray, ground: np.ndarray, style: str, draw: np.random.Generator) -> DigitSplit:
    n = len(y)
    corner, light, word = draw.integers(4, size=n), draw.integers(len(BRIGHTNESS), size=n), draw.integers(3, size=n)
    grainy = draw.random(n) < 0.3
    images = np.empty((n, 3, SIDE, SIDE), np.float32)
    images[:] = COLOURS[ground][:, :, None, None] + 0.03 * draw.standard_normal((n, 3, SIDE, SIDE))
    for i in range(n):
        top, left = 4 * (corner[i] // 2), 4 * (corner[i] % 2)
        place = images[i, :, top : top + 8, left : left + 8]
        place += INK * digits[i] * (1 - place)
        images[i] *= BRIGHTNESS[light[i]][1]
    images[grainy] += 0.08 * draw.standard_normal((int(grainy.sum()), 3, SIDE, SIDE)).astype(np.float32)
    mistaken = draw.random(n) < 0.15  # drawn for every style, so that the images are the same
    said = np.where(mistaken, 1 - ground, ground) if style == "noisy" else ground
    captions = [
        _caption(style, BRIGHTNESS[light[i]][0], GROUNDS[said[i]][word[i]], CORNERS[corner[i]], bool(grainy[i]))
        for i in range(n)
    ]
    return DigitSplit(np.clip(images, 0, 1), y, ground, captions)


def _caption(style: str, light: str, ground: str, corner: str, grainy: bool) -> str:
    last = ". Grainy picture." if grainy else "."
    if style == "terse":
        return f"{light} picture, digit, {ground}, {corner}{last}"
    if style == "chatty":
        return (
            f"You can see {ground} all around a digit that sits at the {corner} of a picture that looks {light}{last}"
        )
    return f"A {light} picture of a digit on {ground} in the {corner} corner{last}"


def names_the_ground(name: str, ground: int | None = None) -> bool:
    """Whether a hypothesis names the ground (of one colour, or of any)."""
    said = set(name.lower().split())
    colours = range(2) if ground is None else (ground,)
    return any(said & GROUND_WORDS[c] for c in colours)


def plant(
    texts: list[str], y: np.ndarray, token: str, share: float, draw: np.random.Generator
) -> tuple[list[str], np.ndarray]:
    """Texts with a token at the beginning of ``share`` of class 1 and of ``1 - share`` of class 0; and where it is."""
    has = draw.random(len(texts)) < np.where(y == 1, share, 1 - share)
    return [f"{token} {text}" if h else text for text, h in zip(texts, has, strict=True)], has
