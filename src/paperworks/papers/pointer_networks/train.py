"""Make the bundled networks: ``python -m paperworks.papers.pointer_networks.train hull --out hull``.

A training that was stopped goes on from its last checkpoint when the same command is given again.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from paperworks.errors import PaperworksError
from paperworks.papers.pointer_networks.estimators import ESTIMATORS
from paperworks.papers.pointer_networks.fitting import fit, training_settings
from paperworks.papers.pointer_networks.generators import make_delaunay, make_hull, make_tsp
from paperworks.papers.pointer_networks.instances import Instances
from paperworks.papers.pointer_networks.network import PointerNetwork
from paperworks.papers.pointer_networks.pretrained import NetworkConfig, read_config
from paperworks.runs.files import write_text


@dataclass(frozen=True)
class Task:
    """How one bundled network is trained: sizes of the instances, their number, optimiser steps, width, batch, seed."""

    sizes: tuple[int, int]
    pool: int
    steps: int
    hidden: int = 128
    batch_size: int = 128
    learning_rate: float = 2e-3
    seed: int = 0


MAKERS: dict[str, Callable[..., Instances]] = {"hull": make_hull, "delaunay": make_delaunay, "tsp": make_tsp}

CARD_SIZES = {"hull": (5, 10, 20, 50), "delaunay": (5,), "tsp": (5, 10, 12)}

TASKS = {
    "hull": Task((5, 10), 300_000, 6_000),
    "delaunay": Task((5, 5), 200_000, 12_000),
    "tsp": Task((5, 10), 300_000, 16_000),
}


def train_task(
    name: str, out: Path, *, steps: int | None = None, pool: int | None = None, log_every: int = 100
) -> None:
    """Train the network of one task and save it to ``out``; checkpoints are kept in ``<out>.checkpoints``."""
    task = TASKS[name]
    task = Task(**{**asdict(task), "steps": steps or task.steps, "pool": pool or task.pool})
    instances = MAKERS[name](task.sizes, task.pool, task.seed)
    network = PointerNetwork(NetworkConfig(hidden=task.hidden), generator=torch.Generator().manual_seed(task.seed))
    settings = training_settings(
        steps=task.steps, batch_size=task.batch_size, learning_rate=task.learning_rate, seed=task.seed
    )
    started = time.monotonic()

    def tell(step: int, loss: float, rate: float) -> None:
        if step % log_every == 0:
            print(f"{step:6d}  loss {loss:.4f}  rate {rate:.2g}  {time.monotonic() - started:.0f} s", flush=True)

    checkpoints = out.with_name(out.name + ".checkpoints")
    result = fit(network, instances, settings, checkpoint_dir=checkpoints, on_step=tell)
    about = {"task": name, **asdict(task), "final_loss": sum(result.losses[-200:]) / len(result.losses[-200:])}
    network.save_pretrained(out, dtype="float16", about=about)
    write_card(out)


def write_card(folder: Path, count: int = 1000) -> None:
    """Measure a trained network on fresh instances, and write its README.md beside it."""
    config = read_config(folder)
    about, hidden = config["about"], config["hidden"]
    name, default = about["task"], TASKS[about["task"]]
    extra = "".join(f" --{key} {about[key]}" for key in ("steps", "pool") if about[key] != getattr(default, key))
    estimator = ESTIMATORS[name].from_pretrained(folder)
    rows, columns = [], []
    for n in CARD_SIZES[name]:
        instances = MAKERS[name](n, count if n <= 10 else count // 5, 10_000 + n)
        found = estimator.metrics(instances.inputs(), instances.solutions())
        columns = list(found)
        rows.append(f"| {n} | {len(instances)} | " + " | ".join(f"{v:.4f}" for v in found.values()) + " |")
    size = sum(f.stat().st_size for f in folder.glob("*.safetensors"))
    low, high = about["sizes"]
    lines = [
        f"# Pointer network: {name}",
        "",
        f"Learned from {about['pool']:,} instances of {low} to {high} uniform points of the unit square with exact "
        f"solutions, {about['steps']:,} steps of {about['batch_size']} instances (teacher forcing, Adam, highest rate "
        f"{about['learning_rate']}, gradient norm at most 2, seed {about['seed']}). H = {hidden}, weights in float16, "
        f"{size:,} bytes. Mean loss of the last 200 steps: {about['final_loss']:.4f} nats per output.",
        "",
        f"    python -m paperworks.papers.pointer_networks.train {name} --out {name}{extra}",
        "",
        f"Beam of {estimator.beams}, constraint {estimator.constraint or 'none'}, on instances of other seeds:",
        "",
        "| points | instances | " + " | ".join(columns) + " |",
        "| --- " * (len(columns) + 2) + "|",
        *rows,
        "",
        "Made for inputs of about the sizes of training, spread like uniform points; larger inputs get worse.",
        "",
    ]
    write_text(folder / "README.md", "\n".join(lines))


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m paperworks.papers.pointer_networks.train", description=__doc__)
    parser.add_argument("task", choices=sorted(TASKS))
    parser.add_argument("--out", type=Path, required=True, help="new folder for the network")
    parser.add_argument("--steps", type=int, help="optimiser steps, in place of the task's own")
    parser.add_argument("--pool", type=int, help="training instances, in place of the task's own")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    try:
        train_task(given.task, given.out, steps=given.steps, pool=given.pool)
    except PaperworksError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
