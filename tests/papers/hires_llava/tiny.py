"""Options of a second, for the tests that walk the catalogue."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def options(folder: Path) -> list[dict[str, Any]]:
    """The probe on a folder of two images with a small encoder; the benchmark; a model of two steps a stage."""
    from paperworks.nn import TinyViT

    if not (folder / "tower").exists():
        TinyViT(image_size=16, patch_size=4, channels=1, width=8, layers=1, heads=2, outputs=2).save_pretrained(
            folder / "tower"
        )
        (folder / "scans").mkdir()
        rng = np.random.default_rng(0)
        for name in ("a", "b"):
            pixels = rng.integers(0, 256, (40, 30, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "scans" / f"{name}.png")
    encoder = str(folder / "tower")
    small = {"steps": 2, "batch_size": 4, "test_images": 9}
    return [
        {"images": str(folder / "scans"), "encoder": encoder, **small},
        {"action": "entitygrid", "answerer": "random", "test_images": 9, "train_images": 9},
        {"action": "classify", "limit": 20, "encoder": encoder, **small, "steps": 1},
        {"action": "train", "train_images": 2, "encoder": encoder, **small, "steps": 1},
    ]


def beside(folder: Path) -> dict[str, dict[str, Any]]:
    """Options beside which one that no set has is read."""
    grid, train = options(folder)[1], options(folder)[3]
    return {"entities": grid, "records": train, "llm": train}
