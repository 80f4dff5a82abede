"""Options of a second, for the tests that walk the catalogue."""

from pathlib import Path
from typing import Any


def options(folder: Path) -> list[dict[str, Any]]:
    """Bundled digits, and a folder of colour images in classes; a step or two."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    for name, hue in (("red", 0), ("blue", 2)):
        (folder / "photos" / name).mkdir(parents=True, exist_ok=True)
        for number in range(6):
            pixels = rng.integers(0, 90, (9, 10, 3), dtype=np.uint8)
            pixels[..., hue] += 150
            Image.fromarray(pixels).save(folder / "photos" / name / f"{number}.png")
    return [
        {"limit": 60, "epochs": 1, "compare": False},
        {"data": str(folder / "photos"), "image_size": 8, "epochs": 1, "loops": 1, "finetune_at": 16, "augment": True},
    ]
