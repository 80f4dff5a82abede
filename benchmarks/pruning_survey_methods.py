"""Every method that makes a module smaller, at half of the operations: full MNIST, Fashion-MNIST and MiniLM.

    python benchmarks/pruning_survey_methods.py --state folder/ [--data mnist fashion-mnist minilm] [--seeds 3]

Images: the dense networks, data and training of ``pruning_survey_contrasts.py`` (give it the same ``--state``); all
scores for units, and the methods of papers, each with half an epoch of steps in all. A paper's method may take three
quarters of them while it prunes. MiniLM: feed-forward units and heads by the scores that need no labels, and by
ModHiFi; nothing is trained.

Rows are kept in ``--state`` and the page of the contrasts is written anew: a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import copy
import functools
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from torch import nn

from paperworks.comparison.images import by_criterion
from paperworks.comparison.methods import load_module_method, module_method_names
from paperworks.errors import InputError
from paperworks.metrics import mean_interval
from paperworks.papers.pruning_survey.bench import Bench, Protocol
from paperworks.papers.pruning_survey.spec import FOR_UNITS
from paperworks.pruning import ImageOptions, ModuleJob, accuracy, image_task, steps_of, train_classifier
from paperworks.runs import Run
from paperworks.runs.files import write_text
from paperworks.structure.trace import analyze

sys.path.insert(0, str(Path(__file__).parent))
MACS, EPOCHS, BATCH, RATE, WHILE_PRUNING = 0.5, 0.5, 256, 0.05, 0.75
CRITERIA = sorted(FOR_UNITS - {"bn-scale"})  # the networks have no batch norms
FREE = ("random", "l1", "l2", "group-norm", "fpgm")
"""Scores that look at weights alone."""
Row = dict[str, float | str]


def image_row(bench: Bench, method: str, seed: int, state: Path) -> Row:
    """A method on the network of a seed: pruned, trained, measured."""
    steps = steps_of(EPOCHS, bench.task.train, BATCH)
    job = ModuleJob(
        model=bench.dense(seed),
        example_inputs=bench.task.example,
        macs=MACS,
        data=bench.task.train,
        train_steps=int(WHILE_PRUNING * steps),
        learning_rate=RATE,
        batch_size=BATCH,
        seed=seed,
        device="cpu",
        state=state,
    )
    start = time.process_time()
    made = by_criterion(method, job) if method in CRITERIA else load_module_method(method)(job)
    spent = time.process_time() - start
    before = accuracy(made.module, bench.task.test, "cpu")
    train_classifier(
        made.module,
        bench.task.train,
        steps=steps - made.steps,
        learning_rate=RATE,
        batch_size=BATCH,
        seed=seed + 1,
        device="cpu",
    )
    share = job.analyze(made.module).cost().macs / job.dense_cost().macs
    after = accuracy(made.module, bench.task.test, "cpu")
    return {"method": method, "before": before, "after": after, "macs": share, "seconds": spent}


def image_rows(data: str, seed: int, state: Path) -> list[Row]:
    """All methods on a set of images."""
    from pruning_survey_contrasts import strided

    work = Run(state / f"run-{data}")
    bench = Bench(
        image_task(ImageOptions(data=data), work), strided, Protocol(1, EPOCHS, RATE, BATCH), state=work.state
    )
    found: list[Row] = []
    for method in [*module_method_names(), *CRITERIA]:
        own = state / f"run-{data}-{method}-{seed}"
        own.mkdir(exist_ok=True)
        make = functools.partial(image_row, bench, method, seed, own)
        found.append(kept(own / "row.json", method, make))
    return found


def minilm_rows(seed: int, state: Path) -> list[Row]:
    """Scores without labels, and ModHiFi with calibration sentences; figures are cosines, nothing is trained."""
    from pruning_survey_minilm import Setting

    from paperworks.papers.modhifi import ModHiFiPruner

    setting = Setting(seed)

    def own(method: str) -> Row:
        start = time.process_time()
        model: nn.Module
        if method == "modhifi":
            pruner = ModHiFiPruner(MACS, "macs", kinds=("ffn", "head"), seed=seed)
            model = pruner.fit(copy.deepcopy(setting.dense), setting.calibration).model_
        else:
            model = setting.units(method, "global", macs=MACS)
        spent = time.process_time() - start
        example = {name: value[:2] for name, value in setting.test.items()}
        share = analyze(model, example).cost().macs / analyze(setting.dense, example).cost().macs
        return {"method": method, "after": setting.quality(model), "macs": share, "seconds": spent}

    files = {method: state / f"methods-minilm-{seed}-{method}.json" for method in ("modhifi", *FREE)}
    return [kept(file, method, functools.partial(own, method)) for method, file in files.items()]


def kept(path: Path, method: str, make: Callable[[], Row]) -> Row:
    """The row at ``path``, or a new one: figures, or why a method did not get there."""
    if not path.is_file():
        try:
            row = make()
        except InputError as error:
            row = {"method": method, "error": str(error)}
        print(json.dumps(row), flush=True)
        write_text(path, json.dumps(row))
    return dict(json.loads(path.read_text(encoding="utf-8")))


def section(state: Path, data: str, seeds: int) -> str:
    """Markdown for the page: a line for every method, the best first; empty where nothing was measured."""
    files = [f for f in (state / f"methods-{data}-{seed}.json" for seed in range(seeds)) if f.is_file()]
    by_method: dict[str, list[Row]] = {}
    for row in (row for file in files for row in json.loads(file.read_text(encoding="utf-8"))):
        by_method.setdefault(str(row["method"]), []).append(row)
    if not by_method:
        return ""
    figure, trained = ("cosine", False) if data == "minilm" else ("accuracy at the end", True)
    columns = [
        "method",
        f"{figure}, 95 % interval",
        *(["right after pruning"] if trained else []),
        "MACs",
        "seconds to prune",
    ]
    lines = [f"Every method at half of the operations, {len(files)} seeds:\n", f"| {' | '.join(columns)} |"]
    lines.append("|" + " --- |" * len(columns))

    def mean(rows: list[Row], name: str) -> float:
        return float(np.mean([float(row[name]) for row in rows]))

    whole = {m: rows for m, rows in by_method.items() if not any("error" in row for row in rows)}
    for method, rows in sorted(whole.items(), key=lambda item: -mean(item[1], "after")):
        ends = ""
        if len(rows) > 1:
            interval = mean_interval([float(row["after"]) for row in rows])
            ends = f" [{interval.low:.3f}, {interval.high:.3f}]"
        cells = [method, f"{mean(rows, 'after'):.3f}{ends}", *([f"{mean(rows, 'before'):.3f}"] if trained else [])]
        cells += [f"{mean(rows, 'macs'):.3f}", f"{mean(rows, 'seconds'):.2f}"]
        lines.append(f"| {' | '.join(cells)} |")
    for method, rows in by_method.items():
        lines += [f"| {method} | {row['error']} |{' |' * (len(columns) - 2)}" for row in rows if "error" in row]
    return "\n".join(lines)


def main() -> None:
    from pruning_survey_contrasts import NOTES, PAGE, TITLES, page

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=PAGE)
    parser.add_argument("--data", nargs="+", choices=list(TITLES), default=list(TITLES))
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    options.state.mkdir(parents=True, exist_ok=True)
    for seed in range(options.seeds):
        for data in options.data:
            place = options.state / f"methods-{data}-{seed}.json"
            if not place.is_file():
                rows = minilm_rows(seed, options.state) if data == "minilm" else image_rows(data, seed, options.state)
                write_text(place, json.dumps(rows, indent=1))
            write_text(options.out, page(options.state, list(TITLES), options.seeds, NOTES))


if __name__ == "__main__":
    main()
