"""Every pruning method at 75 % and 50 % of the bundled model's prunable parameters, before and after the same training.

    python benchmarks/compare_methods.py [--seeds 3] [--train-steps 60] [--recovery-steps 20] [--out docs/benchmarks]
    python benchmarks/compare_methods.py --images mnist fashion-mnist [--seeds 3]

Runs ``paperworks compare-methods`` twice and writes ``compare-methods-tables.md`` and its plots into ``--out``; with
``--page`` it also writes the figures that the page shows. With ``--images`` it runs every method for traced modules on
these whole sets, at a quarter of the operations, and writes ``compare-methods-images.md``. Killed, it goes on where it
was when it is started again with the same options.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

from paperworks.comparison.measured import FIGURES, FILE
from paperworks.comparison.methods import module_method_names
from paperworks.comparison.recipe import Config
from paperworks.comparison.tables import summarise
from paperworks.pruning.unit_criteria import UNIT_CRITERIA
from paperworks.runs.engine import LocalEngine
from paperworks.runs.files import write_text
from paperworks.runs.live import LiveEvents
from paperworks.runs.render import format_row
from paperworks.runs.report import Report, Table
from paperworks.runs.store import Store

MODULE, SLUG = "paperworks.comparison.recipe", "compare-methods"


def compared(config: Config) -> Path:
    """The folder of a finished run with these options, else of an unfinished one that goes on, else of a new one."""
    store = Store()
    options = config.model_dump(mode="json")
    same = [r for r in store.records(SLUG) if store.about(r.folder) and _options(r.folder) == options]
    for record in same:
        if record.status == "finished":
            return record.folder
    run_id = same[0].id if same else store.create(SLUG, MODULE, config)
    with LiveEvents(False) as live:
        return LocalEngine().execute(store, run_id, live).folder


def _options(folder: Path) -> dict[str, object]:
    return Config.model_validate_json((folder / "config.json").read_text(encoding="utf-8")).model_dump(mode="json")


def figures(folder: Path) -> list[dict[str, Any]]:
    """The figures of each method that the page shows."""
    rows = json.loads((folder / "files" / "comparison.json").read_text(encoding="utf-8"))
    methods = list(dict.fromkeys(row["method"] for row in rows))
    found = [summarise(method, [row for row in rows if row["method"] == method]) for method in methods]
    return [{name: summary[name] for name in FIGURES} for summary in found]


def markdown(table: Table) -> str:
    """A table of a report as Markdown."""
    lines = ["| " + " | ".join(table.columns) + " |", "|" + " --- |" * len(table.columns)]
    lines += ["| " + " | ".join(format_row(table, row)) + " |" for row in table.rows]
    return "\n".join([*lines, "", table.note, ""])


def language_page(given: argparse.Namespace) -> str:
    """The bundled language model at every target."""
    command = (
        f"python benchmarks/compare_methods.py --seeds {given.seeds} --train-steps {given.train_steps} "
        f"--recovery-steps {given.recovery_steps}"
    )
    parts = [
        "# Pruning methods at the same budget: all figures",
        "",
        f"`{command}`: the bundled model (5.7 million parameters).",
        "",
    ]
    budgets = []
    for target in given.targets:
        folder = compared(
            Config(
                target=target,
                seeds=given.seeds,
                train_steps=given.train_steps,
                recovery_steps=given.recovery_steps,
                evaluation_sequences=128,
                sequences=64,
                rounds=3,
            )
        )
        report = Report.load(folder)
        budgets.append({"target": target, "rows": figures(folder)})
        parts += [f"## {target.removesuffix('p')} of the prunable parameters", "", f"{report.headline}.", ""]
        parts += shown(report, given.out, f"compare-methods-{target}")
        parts += ["".join(f"- {note}\n" for note in report.notes)]
        write_text(given.out / "compare-methods-tables.md", "\n".join(parts))
    if given.page:
        about = {"command": command, "measured": date.today().isoformat(), "seeds": given.seeds}
        steps = given.train_steps + given.recovery_steps
        write_text(FILE, json.dumps({**about, "steps": steps, "budgets": budgets}, indent=1) + "\n")
    return "\n".join(parts)


def shown(report: Report, out: Path, name: str) -> list[str]:
    """The figure of a report, written beside the page, and its tables."""
    parts = []
    for figure in report.figures:
        write_text(out / f"{name}.svg", figure.to_svg())
        parts += [f"![{figure.title}]({name}.svg)", ""]
    for table in report.tables:
        parts += [f"### {table.title}", "", markdown(table)]
    return parts


BATCH, STEPS, OWN_STEPS = 256, 600, 480
"""With images: of a step; steps after the dense training; how many of them a method may take. 472 are the least that
TAS can search in."""
IMAGES = """How to read it:

- The network: six convolutions without norms (`strided-cnn`, 18,042 parameters), images of 28 x 28. All 60,000
  images are for training, all 10,000 test images for the accuracy. For a seed all methods prune the same dense network,
  which was trained for {epochs:g} epochs, to {macs:.0%} of its multiply-accumulates.
- Every network ends with {steps:,} steps of {batch} images after the dense training: {passes:.1f} passes. {own:,} of
  them may be taken while pruning: TAS searches and the metanetwork is trained in them. What a method leaves is
  recovery, with the same optimiser and rates for all.
- The methods: those of the papers here that make any traced module smaller, and every score of units of the pruning
  survey. Scores look at 512 images.
- Low and high are a 95 % interval over {seeds} seeds, each with its own dense network, so that they include what dense
  networks differ by. The sentence above a table compares seed by seed.
"""


def image_page(given: argparse.Namespace) -> str:
    """Every method that makes a traced module smaller, on each set of images, at equal multiply-accumulates."""
    methods = (*module_method_names(), *UNIT_CRITERIA)
    options: dict[str, Any] = {"seeds": given.seeds, "epochs": 3.0, "macs": 0.25, "image_batch_size": BATCH}
    options |= {"train_steps": OWN_STEPS, "recovery_steps": STEPS - OWN_STEPS}
    about = IMAGES.format(**options, steps=STEPS, own=OWN_STEPS, batch=BATCH, passes=STEPS * BATCH / 60_000)
    limited = "" if given.image_limit is None else f" --image-limit {given.image_limit}"
    command = f"python benchmarks/compare_methods.py --images {' '.join(given.images)} --seeds {given.seeds}{limited}"
    parts = ["# Pruning methods for traced modules at equal operations", "", f"    {command}", "", about]
    for images in given.images:
        started = time.process_time()
        config = {**options, "images": images, "network": "strided-cnn", "methods": methods, "device": "cpu"}
        report = Report.load(compared(Config(**config, image_limit=given.image_limit)))
        print(f"{images}: {time.process_time() - started:.0f} s of processor time", flush=True)
        parts += [f"## {images}", "", f"{report.headline}.", ""]
        parts += shown(report, given.out, f"compare-methods-{images}")
        said = Counter(re.sub(r", seed \d+", "", note) for note in report.notes)
        parts += ["".join(f"- {note} ({number} of {given.seeds} seeds)\n" for note, number in said.items())]
        write_text(given.out / "compare-methods-images.md", "\n".join(parts))
    return "\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--train-steps", type=int, default=60)
    parser.add_argument("--recovery-steps", type=int, default=20)
    parser.add_argument("--targets", nargs="+", default=["0.75p", "0.5p"])
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks"))
    parser.add_argument("--page", action="store_true", help=f"write {FILE.name} for the page as well")
    parser.add_argument("--images", nargs="+", choices=("mnist", "fashion-mnist"), help="classifiers of these instead")
    parser.add_argument("--image-limit", type=int, help="with --images: use so many only, to try it")
    given = parser.parse_args()
    print(image_page(given) if given.images else language_page(given))


if __name__ == "__main__":
    main()
