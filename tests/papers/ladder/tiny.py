"""Options of a second, for the tests that walk the catalogue."""

from pathlib import Path
from typing import Any

import numpy as np


def options(folder: Path) -> list[dict[str, Any]]:
    """Features of the user's own with sentences and their vectors; and metadata."""
    draw = np.random.default_rng(0)
    sentences = [
        f"a bird {place} {word} number {i}"
        for i, word in enumerate(["aa", "bb", "cc", "dd", "ee"])
        for place in ("on grass", "near water")
    ]
    space = draw.normal(size=(2, 6))
    (folder / "sentences.txt").write_text("\n".join(sentences) + "\n")
    arrays: dict[str, Any] = {
        "sentence_emb": np.array([space[int("water" in s)] + 0.1 * draw.normal(size=6) for s in sentences]),
        "class_names": np.array(["land", "sea"]),
    }
    for part, n in (("train", 120), ("val", 160), ("test", 80)):
        y = np.arange(n) % 2
        ground = np.where(draw.random(n) < 0.8, y, 1 - y)
        x = draw.normal(size=(n, 5)) * 0.3
        x[:, 0] += 2.0 * ground - 1
        x[:, 1] += 0.6 * y - 0.3
        arrays |= {f"features_{part}": x.astype(np.float32), f"vlr_{part}": space[ground], f"y_{part}": y}
        if part == "test":
            arrays["groups_test"] = 2 * y + ground
    del arrays["vlr_test"], arrays["y_train"]
    arrays["pred_val"] = (arrays["features_val"][:, 0] > 0).astype(np.int64)
    arrays |= {"head_weight": np.array([[-1.0, 0, 0, 0, 0], [1, 0, 0, 0, 0]]), "head_bias": np.zeros(2)}
    np.savez(folder / "audit.npz", **arrays)
    rows = ["age,view,label,guess"]
    rows += [f"{age},{'ab'[age % 2]},{age % 2},{(age + (age >= 70)) % 2}" for age in range(40, 100)]
    (folder / "meta.csv").write_text("\n".join(rows) + "\n")
    return [
        {"features": str(folder / "audit.npz"), "sentences": str(folder / "sentences.txt"), "n": 20},
        {"metadata": str(folder / "meta.csv"), "label": "label", "prediction": "guess"},
    ]


def beside(folder: Path) -> dict[str, dict[str, Any]]:
    """Options beside which one that no set has is read."""
    labelled = np.zeros((8, 8, 8), np.uint8)
    np.savez(folder / "images.npz", images=labelled, labels=np.arange(8) % 2)
    digits = {"steps": 10, "n": 20}
    return {
        "model": {"data": str(folder / "images.npz")},
        "predictions": {"metadata": str(folder)},
        "vlm": {"features": str(folder / "audit.npz"), "sentences": str(folder / "sentences.txt"), "n": 20},
        "encoder": digits,
        "hypotheses": digits | {"backend": "static"},
        "llm": digits | {"backend": "transformers"},
        "describer": digits | {"backend": "caption-free"},
    }
