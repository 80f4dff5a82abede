"""Options of a second, for the tests that walk the catalogue."""

from pathlib import Path
from typing import Any


def options(folder: Path) -> list[dict[str, Any]]:
    """A few scenes of shapes, few steps, each class with one name: names are what costs time here."""
    return [{"scenes": 8, "steps": 2, "batch_size": 2, "points": 32, "synonyms": "none"}]


def beside(folder: Path) -> dict[str, dict[str, Any]]:
    """Options beside which one that no set has is read."""
    import json

    import numpy as np
    from PIL import Image

    for name in ("images", "masks"):
        (folder / name).mkdir()
    rng = np.random.default_rng(0)
    for number in range(4):
        Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(folder / "images" / f"{number}.png")
        Image.fromarray(np.arange(32, dtype=np.uint8)[:, None].repeat(32, 1) // 16).save(
            folder / "masks" / f"{number}.png"
        )
    (folder / "names.json").write_text(json.dumps({"0": "sky", "1": "sea"}))
    small = options(folder)[0]
    yours = {name: str(folder / name) for name in ("images", "masks", "names.json")}
    yours["names"] = yours.pop("names.json")
    return {
        **{name: small | {n: v for n, v in yours.items() if n != name} for name in yours},
        "captions": small | yours | {"grounding": "captions"},
        "model": {"images": yours["images"], "ask": "sky, sea"},
    }
