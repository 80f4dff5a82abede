"""Options of a second, for the tests that walk the catalogue."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from tiny_checkpoint import TEXT, tiny_inputs


def pool(folder: Path, count: int = 48, width: int = 8) -> tuple[Path, Path]:
    """(a JSON-lines file of samples, their vectors): three groups, one duplicate and one empty text."""
    rng = np.random.default_rng(0)
    group = rng.integers(3, size=count)
    sentences = TEXT.split("\n\n")
    rows: list[dict[str, Any]] = []
    for i in range(count):
        words = sentences[i].split()
        rows.append({"id": f"s{i}", "prompt": " ".join(words[:4]), "completion": " ".join(words[4:]), "score": i % 5})
    rows[7] |= {"prompt": rows[3]["prompt"], "completion": rows[3]["completion"]}
    rows[9]["completion"] = " "
    path = folder / "pool.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    vectors = np.eye(3, width)[group] * 3 + rng.normal(size=(count, width)) * 0.3
    np.save(folder / "vectors.npy", vectors.astype(np.float32))
    return path, folder / "vectors.npy"


def options(folder: Path) -> list[dict[str, Any]]:
    """A static choice with the user's vectors and scores, and two rounds with a language model."""
    path, vectors = pool(folder)
    model, _ = tiny_inputs(folder)
    common = {"data": str(path), "embeddings": str(vectors), "budget": 8, "map_points": 40}
    return [
        common | {"quality": "score", "near_duplicates": 0.999, "clusters": "silhouette"},
        common
        | {
            "clusters": "3",
            "rounds": 2,
            "model": model,
            "epochs": 1.0,
            "batch_size": 8,
            "max_new_tokens": 4,
            "restart": False,
            "map_points": 0,
        },
    ]


def beside(folder: Path) -> dict[str, dict[str, Any]]:
    """Options beside which one that no set has is read."""
    mine = {"data": str(folder / "pool.jsonl"), "budget": 8, "map_points": 0}
    known = {**mine, "embeddings": str(folder / "vectors.npy"), "clusters": "3"}
    model = str(folder / "llama")
    return {
        "encoder": mine,
        "exclude": known,
        "judge": known | {"quality": "likelihood"},
        "reward_model": known | {"quality": "reward"},
        "complexity_model": known | {"quality": "deita", "quality_model": model},
        "quality_model": known | {"quality": "deita", "complexity_model": model},
    }
