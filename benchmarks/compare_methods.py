"""Every pruning method at 75 % and 50 % of the bundled model's prunable parameters, before and after the same training.

    python benchmarks/compare_methods.py [--seeds 3] [--train-steps 60] [--recovery-steps 20] [--out docs/benchmarks]

Runs ``paperworks compare-methods`` twice and writes ``compare-methods-tables.md`` and its plots into ``--out``; with
``--page`` it also writes the figures that the page shows. Killed, it goes on where it was when it is started again with
the same options.
"""

from __future__ import annotations

import argparse
import json
from datetime import date
from pathlib import Path
from typing import Any

from paperworks.comparison.measured import FIGURES, FILE
from paperworks.comparison.recipe import Config
from paperworks.comparison.tables import summarise
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--train-steps", type=int, default=60)
    parser.add_argument("--recovery-steps", type=int, default=20)
    parser.add_argument("--targets", nargs="+", default=["0.75p", "0.5p"])
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks"))
    parser.add_argument("--page", action="store_true", help=f"write {FILE.name} for the page as well")
    given = parser.parse_args()
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
        for figure in report.figures:
            name = f"compare-methods-{target}.svg"
            write_text(given.out / name, figure.to_svg())
            parts += [f"![{figure.title}]({name})", ""]
        parts += [markdown(table) for table in report.tables]
        parts += ["".join(f"- {note}\n" for note in report.notes)]
        write_text(given.out / "compare-methods-tables.md", "\n".join(parts))
    if given.page:
        about = {"command": command, "measured": date.today().isoformat(), "seeds": given.seeds}
        steps = given.train_steps + given.recovery_steps
        write_text(FILE, json.dumps({**about, "steps": steps, "budgets": budgets}, indent=1) + "\n")
    print("\n".join(parts))


if __name__ == "__main__":
    main()
