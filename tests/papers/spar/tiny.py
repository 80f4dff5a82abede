"""Options of a second, for the tests that walk the catalogue."""

import json
from pathlib import Path
from typing import Any

from tiny_checkpoint import tiny_inputs

TEMPLATE = "{% for m in messages %}{{ m['role'] }} {{ m['content'] }} {% endfor %}"
WORDS = ("cat", "dog", "bird", "fox", "cow", "house", "river", "hill")


def prompt_rows(count: int = 8) -> list[dict[str, Any]]:
    """Prompts that ask for a word and for no comma, in IFEval's format."""
    return [
        {
            "key": 100 + i,
            "prompt": f"the {WORDS[i % 8]} goes to the town {i}",
            "instruction_id_list": ["keywords:existence", "punctuation:no_comma"],
            "kwargs": [{"keywords": [WORDS[i % 8]], "relation": None}, {}],
        }
        for i in range(count)
    ]


def write_rows(path: Path, rows: list[dict[str, Any]]) -> str:
    """The path of a new file of JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def options(folder: Path) -> list[dict[str, Any]]:
    """Two rounds with a model and the editor; one with requests of the user and independent pairs, without training."""
    model, _ = tiny_inputs(folder)
    template = folder / "template.jinja"
    template.write_text(TEMPLATE)
    bench = write_rows(folder / "bench.jsonl", prompt_rows(2))
    (folder / "requests.txt").write_text("".join(f"tell of the {word}\n" for word in WORDS[:5]))
    common = {"model": model, "chat_template": str(template), "refiner": "editor", "max_new_tokens": 3, "responses": 2}
    return [
        common
        | {
            "prompts": write_rows(folder / "prompts.jsonl", prompt_rows()),
            "benchmark": bench,
            "rounds": 2,
            "editor_repair": 0.9,
            "learning_rate": 1e-3,
            "inference": 3,
        },
        common
        | {"seeds": str(folder / "requests.txt"), "rounds": 1, "pairs": "independent", "train": False, "inference": 0},
    ]


def beside(folder: Path) -> dict[str, dict[str, Any]]:
    """Options beside which one that no set has is read."""
    first = options(folder)[0]
    return dict.fromkeys(("test_prompts", "start_chats", "refiner_start_chats"), first)
