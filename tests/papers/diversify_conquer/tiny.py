"""Options of a second, for the tests that walk the catalogue."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

TRAIN = """
import json, sys
train, prompts, responses = sys.argv[1:4]
with open(responses, "w") as out:
    for line in open(prompts):
        record = json.loads(line)
        out.write(json.dumps({"id": record["id"], "response": "the answer to " + record["prompt"][:4]}) + "\\n")
"""
SCORE = """
import json, sys
pairs, scores = sys.argv[1:3]
with open(scores, "w") as out:
    for line in open(pairs):
        out.write(f"{len(json.loads(line)['response']) / 10}\\n")
"""


def pool(folder: Path, count: int = 60, width: int = 8) -> tuple[Path, Path]:
    """(a JSON-lines file of samples, their vectors): three groups, one duplicate and one empty text."""
    rng = np.random.default_rng(0)
    group = rng.integers(3, size=count)
    rows = [
        {
            "id": f"s{i}",
            "prompt": f"question {i} of {'abc'[group[i]]}",
            "completion": "x" * int(1 + i % 7),
            "score": i % 5,
        }
        for i in range(count)
    ]
    rows[7] |= {"prompt": rows[3]["prompt"], "completion": rows[3]["completion"]}
    rows[9]["completion"] = " "
    path = folder / "pool.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    vectors = np.eye(3, width)[group] * 3 + rng.normal(size=(count, width)) * 0.3
    np.save(folder / "vectors.npy", vectors.astype(np.float32))
    return path, folder / "vectors.npy"


def options(folder: Path) -> list[dict[str, Any]]:
    """A static choice with the user's vectors and scores, and two rounds with the user's own programs."""
    path, vectors = pool(folder)
    (folder / "train.py").write_text(TRAIN)
    (folder / "score.py").write_text(SCORE)
    common = {"data": str(path), "embeddings": str(vectors), "clusters": "3", "budget": 12}
    return [
        common | {"quality": "score", "near_duplicates": 0.999},
        common
        | {
            "rounds": 2,
            "scorer": "command",
            "trainer_command": f"{sys.executable} {folder / 'train.py'} {{train}} {{prompts}} {{responses}}",
            "scorer_command": f"{sys.executable} {folder / 'score.py'} {{pairs}} {{scores}}",
            "map_points": 0,
        },
    ]
