"""A small audit with known answers, for the tests: two classes, a ground that the classifier leans on, sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from paperworks.papers.ladder import SliceDiscovery

SENTENCES = [
    f"a {light} bird on {ground} in the {corner}"
    for light in ("dim", "bright")
    for ground in ("grass", "a meadow", "water", "a lake")
    for corner in ("corner", "middle", "distance")
]


@dataclass
class World:
    """Arrays of an audit. ``axis`` is the ground in the space of texts."""

    features: dict[str, np.ndarray] = field(default_factory=dict)
    vlr: dict[str, np.ndarray] = field(default_factory=dict)
    y: dict[str, np.ndarray] = field(default_factory=dict)
    ground: dict[str, np.ndarray] = field(default_factory=dict)
    head: tuple[np.ndarray, np.ndarray] = field(
        default_factory=lambda: (np.array([[-1.0, -0.3, 0, 0], [1.0, 0.3, 0, 0]]), np.zeros(2))
    )

    guess: np.ndarray | None = None

    @property
    def predicted(self) -> np.ndarray:
        """The head's predictions on the validation rows, or ``guess``."""
        if self.guess is not None:
            return self.guess
        return (self.features["val"] @ self.head[0].T).argmax(axis=1)

    def discover(self, sentences: Sequence[str] = SENTENCES, **options: Any) -> SliceDiscovery:
        """An audit with small settings."""
        settings: dict[str, Any] = {"top_k": 12, "text_encoder": encode, **options}
        return SliceDiscovery(**settings).fit(
            self.features["train"],
            self.vlr["train"],
            self.features["val"],
            self.y["val"],
            self.predicted,
            sentences,
            vlr_val=self.vlr["val"],
            class_names=["land", "sea"],
        )


def encode(texts: Any) -> np.ndarray:
    """Five dimensions: water, grass, light, and two that tell texts apart."""
    rows = []
    for text in texts:
        wet = any(w in text for w in ("water", "lake"))
        dry = any(w in text for w in ("grass", "meadow"))
        length = len(text) % 7 / 10
        rows.append([wet + 0.05, dry + 0.05, 0.3 * ("bright" in text), 0.1 * length, 0.2])
    return np.array(rows)


def world(seed: int = 0, bias: float = 0.85, n: int = 240) -> World:
    """Feature 0 is the ground, feature 1 the class (weakly), the others noise; the head leans on the ground."""
    draw = np.random.default_rng(seed)
    made = World()
    for part, share in (("train", bias), ("val", bias), ("test", 0.5)):
        y = np.arange(n) % 2
        ground = np.where(draw.random(n) < share, y, 1 - y)
        x = 0.4 * draw.normal(size=(n, 4))
        x[:, 0] += 2 * ground - 1
        x[:, 1] += 0.8 * (2 * y - 1)
        names = np.array(["a bird on grass", "a bird on water"])[ground]
        made.features[part], made.y[part], made.ground[part] = x, y, ground
        made.vlr[part] = encode(names) + 0.05 * draw.normal(size=(n, 5))
    return made
