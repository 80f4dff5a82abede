"""How the settings of meta-pruning's studies were chosen: on seeds and networks that the studies do not measure.

    python benchmarks/meta_pruning_settings.py [--out docs/benchmarks/meta-pruning.md]

Perceptrons 64-96-64-10 on digits, seeds 11 and 12. For each seed four networks to learn from, one that chooses the
epoch, two to test. Every setting of the grid is meta-trained for ``--epochs`` epochs. Its score is that of the method
itself: mean accuracy over 13 speed-ups after edit and fine-tuning, over test networks and seeds. The setting with the
best score is taken. The rivals' strengths are chosen on the same networks by the same score. Random edits of the same
size are printed beside each setting; they have no part in the choice. What was chosen is written to ``--chosen``, from
where the studies read it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from paperworks import runs
from paperworks.papers.meta_pruning.controls import growing_fine_tune, random_edit, sparse_fine_tune
from paperworks.papers.meta_pruning.meta_training import MetaSettings
from paperworks.papers.meta_pruning.pruner import MetaPruner
from paperworks.papers.meta_pruning.studies.digits import perceptron
from paperworks.papers.meta_pruning.studies.protocol import CHOSEN, digits_split, fitted
from paperworks.papers.meta_pruning.targets import accuracy, copy_of, fine_tune

SEEDS = (11, 12)
GRID = {"norms": ("batch", "stored"), "rho": (0.02, 0.1), "reg": (0.01, 0.05)}
STRENGTHS = (0.01, 0.02, 0.03, 0.05)
GROWTHS = (0.001, 0.003, 0.01)


class Table:
    """Rows of Markdown, printed as they come."""

    def __init__(self, *columns: str) -> None:
        self.lines: list[str] = []
        self.add(*columns)
        self.add(*["---"] * len(columns))

    def add(self, *cells: object) -> None:
        """One row."""
        self.lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
        print(self.lines[-1], flush=True)


def of_setting(run: runs.Run, make: Any, seed: int, setting: dict[str, Any], epochs: int) -> dict[str, float]:
    """Means of the curves of one seed's test networks."""
    norms, rho, reg = setting["norms"], setting["rho"], setting["reg"]
    settings = MetaSettings(epochs=epochs, batches=3, reg=reg, norms=norms, select_every=3)
    pruner, models = fitted(run, "networks", seed, make, {"hidden": 16, "layers": 4, "rho": rho}, settings)
    train, _, test = digits_split(seed)
    rows = []
    for model in models:
        target = pruner.target(model, train[0][:2])
        edited = pruner.edited(target)
        others = {"score": copy_of(edited), "random edits": random_edit(model, edited, target.layout, seed)}
        row = {"accuracy of the edited": accuracy(edited, test, device="cpu")}
        for name, network in others.items():
            tuned = fine_tune(network, train, epochs=20, seed=seed, device="cpu")
            row[name] = float(pruner.curve_of(tuned, target, test).mean())
        rows.append(row)
    found = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    return {**found, "epoch": pruner.history_.best_epoch}


def of_rival(models: Any, seed: int, tune: Any) -> float:
    """The mean of the curves of one seed's test networks after a rival's fine-tuning."""
    train, _, test = digits_split(seed)
    pruner, scores = MetaPruner(device="cpu", random_state=seed), []
    for model in models:
        target = pruner.target(model, train[0][:2])
        tuned = tune(copy_of(model), target.groups, train, seed)
        scores.append(pruner.curve_of(tuned, target, test).mean())
    return float(np.mean(scores))


def main() -> None:
    """Try the grid, print and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--chosen", type=Path, default=CHOSEN)
    options = parser.parse_args()
    make = perceptron((96, 64))
    started = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        chosen, tables = tried(runs.Run(Path(folder)), make, options)
    options.chosen.write_text(json.dumps(chosen, indent=2) + "\n", encoding="utf-8")
    seeds = " and ".join(map(str, options.seeds))
    lines = [
        "# Meta-pruning: how the settings of the studies were chosen",
        "",
        f"`python benchmarks/meta_pruning_settings.py`: seeds {seeds}, which the studies do not measure; meta-training "
        f"of {options.epochs} epochs; {(time.process_time() - started) / 60:.0f} minutes of processor time.",
        "",
        "Mean accuracy over 13 speed-ups, after fine-tuning. The best setting and the best strengths are taken.",
    ]
    text = "\n".join([*lines, *("\n" + "\n".join(table.lines) for table in tables)]) + "\n"
    if options.out:
        options.out.write_text(text, encoding="utf-8")


def tried(run: runs.Run, make: Any, options: argparse.Namespace) -> tuple[dict[str, Any], list[Table]]:
    """What was chosen, and the tables of the grid and of the rivals' strengths."""
    grid = Table("norms", "rho", "reg", "score", "random edits of the size", "accuracy of the edited network", "epochs")
    settings: list[tuple[float, dict[str, Any]]] = []
    for values in itertools.product(*GRID.values()):
        setting = dict(zip(GRID, values, strict=True))
        found = [of_setting(run, make, seed, setting, options.epochs) for seed in options.seeds]
        mean = {name: float(np.mean([row[name] for row in found])) for name in found[0]}
        settings.append((mean["score"], setting))
        epochs = ", ".join(str(row["epoch"]) for row in found)
        figures = (f"{mean[name]:.3f}" for name in ("score", "random edits", "accuracy of the edited"))
        grid.add(*values, *figures, epochs)
    short = MetaSettings(epochs=1, batches=1)
    networks = {seed: fitted(run, "networks", seed, make, {}, short)[1] for seed in options.seeds}
    rivals = Table("rival", "strength", "score")
    common: dict[str, Any] = {"epochs": 20, "device": "cpu"}

    def score(name: str, strength: object, tune: Any) -> float:
        found = float(np.mean([of_rival(networks[seed], seed, tune) for seed in options.seeds]))
        rivals.add(name, strength, f"{found:.3f}")
        return found

    def sparse(reg: float) -> Any:
        return lambda m, g, data, seed: sparse_fine_tune(m, g, data, reg=reg, seed=seed, **common)

    def growing(growth: float, uniform: bool) -> Any:
        return lambda m, g, data, seed: growing_fine_tune(
            m, g, data, growth=growth, uniform=uniform, seed=seed, **common
        )

    score("fine-tuning", "", lambda m, g, data, seed: fine_tune(m, data, seed=seed, **common))
    strengths = {reg: score("sparse training", reg, sparse(reg)) for reg in STRENGTHS}
    grown = {}
    for uniform, growth in itertools.product((False, True), GROWTHS):
        words = "all channels alike" if uniform else "weak channels faster"
        grown[growth, uniform] = score(f"growing regularisation, {words}", growth, growing(growth, uniform))
    growth, uniform = max(grown, key=lambda key: grown[key])
    chosen = {
        "settings": max(settings, key=lambda pair: pair[0])[1],
        "sparse training": max(strengths, key=lambda key: strengths[key]),
        "growing regularisation": {"growth": growth, "uniform": uniform},
    }
    return chosen, [grid, rivals]


if __name__ == "__main__":
    main()
