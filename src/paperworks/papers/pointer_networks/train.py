"""Make the bundled networks: ``python -m paperworks.papers.pointer_networks.train hull --out hull``.

A training that was stopped goes on from its last checkpoint when the same command is given again.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from paperworks.errors import InputError, PaperworksError
from paperworks.papers.pointer_networks.estimators import ESTIMATORS
from paperworks.papers.pointer_networks.fitting import fit, training_settings
from paperworks.papers.pointer_networks.generators import make_delaunay, make_hull, make_tsp
from paperworks.papers.pointer_networks.instances import Instances
from paperworks.papers.pointer_networks.network import PointerNetwork
from paperworks.papers.pointer_networks.pretrained import NetworkConfig, read_config
from paperworks.runs.files import write_text


@dataclass(frozen=True)
class Task:
    """How one network is trained: sizes of the instances, their number, optimiser steps, width, batch, seed, labels.

    ``label`` is what solves tours: ``exact`` (up to 22 points), ``a1``, ``a2``, ``a3`` or ``lkh``.
    """

    sizes: tuple[int, int]
    pool: int
    steps: int
    hidden: int = 128
    batch_size: int = 128
    learning_rate: float = 2e-3
    seed: int = 0
    label: str = "exact"


MAKERS: dict[str, Callable[..., Instances]] = {"hull": make_hull, "delaunay": make_delaunay, "tsp": make_tsp}

OPTIONS = ("steps", "pool", "sizes", "label", "batch_size", "learning_rate")
"""Fields of ``Task`` that the command line changes."""

CARD_SIZES = {"hull": (5, 10, 20, 50), "delaunay": (5,), "tsp": (5, 10, 12)}

TASKS = {
    "hull": Task((5, 10), 300_000, 6_000),
    "delaunay": Task((5, 5), 200_000, 12_000),
    "tsp": Task((5, 10), 300_000, 48_000),
}


def train_task(name: str, out: Path, *, start: Path | None = None, log_every: int = 100, **changes: Any) -> None:
    """Train the network of one task and save it to ``out``; checkpoints are kept in ``<out>.checkpoints``.

    ``start`` is the folder of a network whose weights the training begins with, in place of random ones: one that was
    trained on smaller instances, say. ``changes`` are fields of ``Task`` in place of the task's own.
    """
    task = replace(TASKS[name], **changes)
    if start is None:
        network = PointerNetwork(NetworkConfig(hidden=task.hidden), generator=torch.Generator().manual_seed(task.seed))
    else:
        network = PointerNetwork.from_pretrained(start)
        task = replace(task, hidden=network.config.hidden)
    instances = _instances(name, task.sizes, task.pool, task.seed, task.label)
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
    if start is not None:
        about["start"] = read_config(start).get("about", {})
    network.save_pretrained(out, dtype="float16", about=about)
    write_card(out)


def _instances(name: str, sizes: int | tuple[int, int], count: int, seed: int, label: str) -> Instances:
    if name != "tsp" and label != "exact":
        raise InputError("label", label, "exact, but for tours")
    return MAKERS[name](sizes, count, seed, **({"label": label} if name == "tsp" else {}))


def write_card(folder: Path, count: int = 1000) -> None:
    """Measure a trained network on fresh instances, and write its README.md beside it."""
    config = read_config(folder)
    about, hidden = config["about"], config["hidden"]
    name, default = about["task"], TASKS[about["task"]]
    label = about.get("label", "exact")
    low, high = about["sizes"]
    sizes = CARD_SIZES[name] if (low, high) == default.sizes else tuple(sorted({low, high}))
    given = {**about, "sizes": f"{low} {high}", "label": label}
    usual = {**asdict(default), "sizes": "{} {}".format(*default.sizes)}
    extra = "".join(f" --{key.replace('_', '-')} {given[key]}" for key in OPTIONS if given[key] != usual[key])
    estimator = ESTIMATORS[name].from_pretrained(folder)
    rows, columns = [], []
    for n in sizes:
        instances = _instances(name, n, count if n <= 10 else count // 5, 10_000 + n, label)
        found = estimator.metrics(instances.inputs(), instances.solutions())
        columns = list(found)
        rows.append(f"| {n} | {len(instances)} | " + " | ".join(f"{v:.4f}" for v in found.values()) + " |")
    if "start" in about:
        extra += " --start DIR"
    size = sum(f.stat().st_size for f in folder.glob("*.safetensors"))
    lines = [
        f"# Pointer network: {name}",
        "",
        f"Learned from {about['pool']:,} instances of {low} to {high} uniform points of the unit square with {label} "
        f"solutions, {about['steps']:,} steps of {about['batch_size']} instances (teacher forcing, Adam, highest rate "
        f"{about['learning_rate']}, gradient norm at most 2, seed {about['seed']}). H = {hidden}, weights in float16, "
        f"{size:,} bytes. Mean loss of the last 200 steps: {about['final_loss']:.4f} nats per output.{_started(about)}",
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


def _started(about: dict[str, Any]) -> str:
    """What a network says of the one that its training began with, and of the one that began that one's."""
    said, network = "", "The training"
    while "start" in about:
        about = about["start"]
        if "sizes" not in about:
            return f"{said} {network} began with another network's weights (DIR in the command)."
        low, high = about["sizes"]
        said += (
            f" {network} began with the weights of a network{'' if said else ' (DIR in the command)'} of {low} to "
            f"{high} points with {about.get('label', 'exact')} solutions, {about['steps']:,} steps."
        )
        network = "That one's training"
    return said


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m paperworks.papers.pointer_networks.train", description=__doc__)
    parser.add_argument("task", choices=sorted(TASKS))
    parser.add_argument("--out", type=Path, required=True, help="new folder for the network")
    parser.add_argument("--steps", type=int, help="optimiser steps, in place of the task's own")
    parser.add_argument("--pool", type=int, help="training instances, in place of the task's own")
    parser.add_argument("--sizes", type=int, nargs=2, help="smallest and largest number of points")
    parser.add_argument("--label", help="what solves the tours of the training, such as a3 (default: exact)")
    parser.add_argument("--batch-size", type=int, help="instances of a step, in place of the task's own")
    parser.add_argument("--learning-rate", type=float, help="highest rate, in place of the task's own")
    parser.add_argument("--start", type=Path, help="folder of a network to begin with, such as one of smaller sizes")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    changes = {name: getattr(given, name) for name in OPTIONS if getattr(given, name) is not None}
    if given.sizes is not None:
        changes["sizes"] = tuple(given.sizes)
    try:
        train_task(given.task, given.out, start=given.start, **changes)
    except PaperworksError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
