"""TAS beside Optuna: which widths and depths do they find, at an equal number of trained steps?

    pip install optuna==5.0.0
    python benchmarks/tas_optuna.py [--seeds 5] [--out docs/benchmarks/tas.md]

The five-convolution network of the studies on 200 training digits, half of the operations. TAS: the steps of weights
and of widths and depths together. Optuna (TPE, and its random sampler): trials of ``--proxy`` steps, as many as fit
into the same number of steps; a trial trains a network within 5 % of the target on one half of the examples, and its
score is the accuracy on the other half. A proposal outside the band costs no steps: its score says how far off it is.
All found networks are then trained alike, with the same teacher, and tested on 540 digits.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from paperworks.classification import predict
from paperworks.metrics import mean_interval
from paperworks.papers.tas import (
    SearchNetwork,
    SearchSettings,
    ShapedNetwork,
    TransferSettings,
    search,
    train_network,
    uniform_genotype,
)
from paperworks.papers.tas.studies.digits import SHAPE, SIZE, Split, digits_split, trained

TARGET, TOLERANCE, ROWS, BATCH = 0.5, 0.05, 200, 64
PROPOSALS = 3000


def tas(split: Split, space: SearchNetwork, epochs: int, seed: int) -> tuple[Any, int]:
    """The network that the search finds, and the steps that it trained."""
    settings = SearchSettings(
        target=TARGET, tolerance=TOLERANCE, epochs=epochs, outside="repair", device="cpu", seed=seed
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        found = search(space, *split.train, settings=settings)
    return found.genotype, 2 * epochs * -(-ROWS // 2 // BATCH)


def with_optuna(sampler: Any, split: Split, space: SearchNetwork, steps: int, proxy: int, seed: int) -> Any:
    """The best network of trials of ``proxy`` steps, ``steps`` in all."""
    import optuna
    from sklearn.model_selection import train_test_split

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    images, labels = split.train
    own, other = train_test_split(np.arange(ROWS), test_size=0.5, stratify=labels.numpy(), random_state=seed)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    trials = 0
    for _ in range(PROPOSALS):
        if trials == steps // proxy:
            break
        trial = study.ask()
        places = [trial.suggest_int(name, 0, len(known) - 1) for (_, name), known in space.choices.items()]
        genotype = space.genotype_at(places)
        off = abs(space.cost_of(genotype) / space.full_cost / TARGET - 1)
        if off > TOLERANCE:
            study.tell(trial, -off)
            continue
        trials += 1
        network = space.build(genotype, seed=seed)
        settings = TransferSettings(epochs=proxy // -(-len(own) // BATCH), device="cpu", seed=seed)
        train_network(network, images[own], labels[own], settings=settings)
        right = predict(network, images[other], device="cpu") == labels[other].numpy()
        trial.set_user_attr("places", places)
        study.tell(trial, float(right.mean()))
    return space.genotype_at(study.best_trial.user_attrs["places"]), trials


def one_seed(seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Accuracies, processor time of the searches and trials of one seed."""
    import optuna

    split = digits_split(seed, ROWS)
    teacher = ShapedNetwork.of(SHAPE, seed=seed)
    trained(teacher, digits_split(seed), seed)
    space = SearchNetwork(SHAPE, SIZE, seed=seed)
    row: dict[str, Any] = {}
    genotypes: dict[str, Any] = {}
    started = time.process_time()
    genotypes["TAS"], steps = tas(split, space, options.epochs, seed)
    row["seconds TAS"], row["steps"] = time.process_time() - started, steps
    for name, sampler in (
        ("Optuna, TPE", optuna.samplers.TPESampler(seed=seed)),
        ("Optuna, random", optuna.samplers.RandomSampler(seed=seed)),
    ):
        started = time.process_time()
        genotypes[name], row["trials"] = with_optuna(sampler, split, space, steps, options.proxy, seed)
        row[f"seconds {name}"] = time.process_time() - started
    genotypes["one share for all widths"] = uniform_genotype(space, TARGET)
    for name, genotype in genotypes.items():
        network = space.build(genotype, seed=seed)
        row[name] = trained(network, split, seed, teacher.eval(), 100)
        row[f"share {name}"] = space.cost_of(genotype) / space.full_cost
    print({key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()}, flush=True)
    return row


def main() -> None:
    """Compare, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=120, help="of TAS's search")
    parser.add_argument("--proxy", type=int, default=40, help="steps of an Optuna trial")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    try:
        import optuna
    except ImportError:
        raise SystemExit("this comparison needs Optuna: pip install optuna==5.0.0") from None
    torch.set_num_threads(1)
    rows = [one_seed(seed, options) for seed in range(options.seeds)]
    lines = [
        "# TAS beside Optuna",
        "",
        f"`python benchmarks/tas_optuna.py --seeds {options.seeds}`, Optuna {optuna.__version__}.",
        "",
        f"Five convolutions on {ROWS} training digits, half of the operations, {options.seeds} seeds. Every search may "
        f"train {rows[0]['steps']} steps; Optuna's are {rows[0]['trials']} trials of {options.proxy}. All found "
        "networks are then trained alike, with the same teacher. Intervals are of paired differences (95 %, Student).",
        "",
        "| search | accuracy on 540 digits | TAS less this, points | share of the operations | seconds of the search |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name in ("TAS", "Optuna, TPE", "Optuna, random", "one share for all widths"):
        found = np.array([row[name] for row in rows])
        shares = [row[f"share {name}"] for row in rows]
        seconds = [row[f"seconds {name}"] for row in rows if f"seconds {name}" in row]
        gain = ""
        if name != "TAS" and len(rows) > 1:
            mean = mean_interval(100 * (np.array([row["TAS"] for row in rows]) - found))
            gain = f"{mean.estimate:.2f} ({mean.low:.2f} to {mean.high:.2f})"
        lines.append(
            f"| {name} | {found.mean():.4f} | {gain} | {min(shares):.3f} to {max(shares):.3f} | "
            f"{np.mean(seconds):.1f} |"
            if seconds
            else f"| {name} | {found.mean():.4f} | {gain} | {min(shares):.3f} to {max(shares):.3f} | none |"
        )
    text = "\n".join(lines) + "\n"
    print(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
