"""Train the bundled model again: ``python -m paperworks.papers.icl_discrete.bundle --out FOLDER``.

A Transformer of 0.2 million parameters that has seen conjunctions of 8 bits, half of the prompts with a teaching
sequence in front. A stopped training goes on from where it was when the command is given again.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

import torch

from paperworks.papers.icl_discrete.curves import correct, last
from paperworks.papers.icl_discrete.fitting import TrainOptions, fit
from paperworks.papers.icl_discrete.learners import Neighbours
from paperworks.papers.icl_discrete.modeling import InContextConfig, load_in_context_model, new_model
from paperworks.papers.icl_discrete.tasks import BooleanTask
from paperworks.runs.files import new_folder

T = TypeVar("T")

TASK = BooleanTask("teach_biconjunction", 8, teach_share=0.5)
OPTIONS = TrainOptions(steps=2000, batch=64, n_points=30, learning_rate=1e-3, decay=0.4)
CONFIG = InContextConfig("transformer", 8, width=64, layers=4, heads=4, max_points=100)


def bundled_model_path() -> Path:
    """The folder of the bundled model."""
    return Path(__file__).parent / "model"


def measure(folder: Path, count: int = 300) -> list[str]:
    """Rows of the card's table: accuracy on new prompts of 30 points, without and with a teaching sequence."""
    model, rows = load_in_context_model(folder), []
    tasks = {"without a teaching sequence": "conjunction", "with one": "teach_biconjunction"}
    for title, name in tasks.items():
        task = BooleanTask(name, 8)
        prompts = task.sample(count, OPTIONS.n_points, 1)
        right, nearest = correct(model, prompts), correct(Neighbours(1), prompts)
        rows.append(f"| {title} | {right.mean():.3f} | {last(right):.3f} | {last(nearest):.3f} |")
    return rows


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="new folder for the model")
    parser.add_argument("--measure", type=Path, help="only print the figures of the model in this folder")
    parser.add_argument("--state", type=Path, help="folder of checkpoints (default: beside --out)")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.measure is not None:
        print("\n".join(measure(options.measure)))
        return
    if options.out is None:
        parser.error("--out FOLDER, or --measure FOLDER")
    model = new_model(CONFIG, OPTIONS.seed)
    state = options.state or options.out.with_name(options.out.name + ".state")

    def every(iterable: Iterable[T], description: str, total: int | None = None) -> Iterable[T]:
        yield from iterable

    def say(step: int, loss: float, rate: float) -> None:
        if step % 20 == 0:
            print(f"step {step}: loss {loss:.4f}, rate {rate:.1e}", flush=True)

    fit(model, TASK, OPTIONS, checkpoint_dir=state, progress=every, on_step=say)
    with new_folder(options.out, "out") as folder:
        torch.nn.Module.to(model, torch.bfloat16)
        model.save_pretrained(folder)


if __name__ == "__main__":
    main()
