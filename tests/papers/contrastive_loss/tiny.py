"""Options of a second, for the tests that walk the catalogue."""

from pathlib import Path
from typing import Any

import numpy as np


def options(folder: Path) -> list[dict[str, Any]]:
    """Saved embeddings with labels, and a sweep over two temperatures on a few small images."""
    rng = np.random.default_rng(0)
    np.savez(folder / "vectors.npz", embeddings=rng.normal(size=(40, 6)), labels=np.arange(40) % 4)
    labels = np.arange(48) % 3
    images = rng.integers(0, 255, size=(48, 8, 8)) * (labels[:, None, None] + 1) // 3
    np.savez(folder / "images.npz", images=images.astype(np.uint8), labels=labels)
    sweep = {"data": str(folder / "images.npz"), "taus": (0.1, 1.0), "losses": ("contrastive",)}
    return [
        {"embeddings": str(folder / "vectors.npz")},
        {**sweep, "epochs": 1, "batch_size": 16, "hard_k": 4, "dimensions": 4},
    ]


def beside(folder: Path) -> dict[str, dict[str, Any]]:
    """Options beside which one that no set has is read."""
    from tiny_checkpoint import tiny_inputs

    return {
        "labels": {"embeddings": str(folder / "vectors.npz")},
        "encoder": {},
        "texts": {"encoder": tiny_inputs(folder)[0]},
    }
