"""A tiny segmenter, scenes and towers that the tests share."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch

from paperworks.papers.gkc.segmenter import GKCConfig, GKCForOpenVocabularySegmentation, small_trunk
from paperworks.papers.gkc.segments import Scene, Segment
from paperworks.papers.gkc.towers import CropEncoder, Towers

WIDTH = 8


def encode_text(texts: list[str]) -> np.ndarray:
    """A unit vector of each text, from its letters."""
    rows = np.stack([np.random.default_rng(list(text.encode())).normal(size=WIDTH) for text in texts])
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def segmenter(seed: int = 0, **options: object) -> GKCForOpenVocabularySegmentation:
    """A segmenter of 0.2 million weights for images of 32 x 32."""
    torch.manual_seed(seed)
    trunk = small_trunk(hidden=64, widths=(8, 8, 16, 16), queries=5, decoder_layers=1)
    config = GKCConfig(trunk, WIDTH, image_size=(32, 32), text_tower="letters", **options)  # type: ignore[arg-type]
    return GKCForOpenVocabularySegmentation(config).eval()


@cache
def towers() -> Towers:
    """Letters for texts, and an image tower with random weights."""
    torch.manual_seed(5)
    return CropEncoder(WIDTH, (4, 4, 8, 8)).towers("letters", encode_text)


def scenes(count: int = 6, side: int = 32) -> list[Scene]:
    """Two rectangles of classes 0 and 1 before class 2, in images of noise."""
    rng = np.random.default_rng(3)
    found = []
    for number in range(count):
        label = np.full((side, side), 2)
        label[4:14, 3 : 12 + number] = 0
        label[18:28, 8:20] = 1
        image = rng.integers(0, 255, (side, side, 3)).astype(np.uint8)
        found.append(Scene(f"s{number}", image, tuple(Segment(c, label == c) for c in range(3))))
    return found
