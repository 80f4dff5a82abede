"""The paper's own size, n = 28 and 40 points: ``python benchmarks/icl_discrete_n28.py conjunction --out FOLDER``.

Prints mean accuracy and last 5 positions per predictor. Stopped, it goes on when it is started again. With the
paper's 12 layers of width 256 it is a day on 2 cores, and under an hour on one GPU.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from paperworks.nn import resolve_device
from paperworks.papers import icl_discrete as icl
from paperworks.papers.icl_discrete.curves import correct, last


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=list(icl.TASKS))
    parser.add_argument("--architecture", default="transformer")
    parser.add_argument("--steps", type=int, default=15_000)
    parser.add_argument("--dims", type=int, default=28)
    parser.add_argument("--points", type=int, default=40)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--rate", type=float, default=1e-4)
    parser.add_argument("--prompts", type=int, default=1280)
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints")
    given = parser.parse_args()
    task, device = icl.BooleanTask(given.task, given.dims), str(resolve_device("auto"))
    model = icl.new_model(icl.InContextConfig(given.architecture, given.dims, given.width, given.layers, 8), seed=0)
    options = icl.TrainOptions(given.steps, 64, given.points, given.rate)
    icl.fit(model, task, options, checkpoint_dir=given.out, device=device)
    model.to(device)
    prompts = task.sample(given.prompts, given.points, 1)
    for name, predictor in [(given.architecture, model), *((x.name, x) for x in icl.reference_learners(task))]:
        right = correct(predictor, prompts)[:, prompts.start :]
        print(f"{name:24} {right.mean():.4f} {last(right):.4f}")


if __name__ == "__main__":
    main()
