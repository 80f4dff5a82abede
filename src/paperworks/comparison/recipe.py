"""Prune one checkpoint by several methods to the same number of parameters, and set the results side by side."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paperworks import runs
from paperworks.comparison.config import Config
from paperworks.comparison.methods import check_methods, method_names
from paperworks.comparison.plot import comparison_figure
from paperworks.comparison.tables import Row, as_csv, by_seed, failures, method_notes, shown, summarise
from paperworks.errors import InputError
from paperworks.metrics import wilson_interval
from paperworks.runs.files import write_text
from paperworks.runs.processes import ChildProcess, python_module

if TYPE_CHECKING:
    from paperworks.runs.cluster import Cluster, Work

DENSE = "dense"
RESULT = "result.json"
READ = ("model", "text", "evaluation", "choices")
"""What of a task is a path from which a method reads."""
LOOK_SECONDS = 0.2
"""How often the progress of a method's process is read."""


def run(config: Config, run: runs.Run) -> runs.Report:
    """Prune a checkpoint by several methods to the same number of parameters: one table, one plot, all the models."""
    if config.images is not None:
        from paperworks.comparison.images import compare_images

        return compare_images(config, run)
    return _Comparison(config, run).report()


class _Comparison:
    def __init__(self, config: Config, run: runs.Run) -> None:
        from paperworks.language import (
            bundled_model_path,
            check_length,
            load_model,
            load_tokenizer,
            read_questions,
        )
        from paperworks.nn import stored_dtype
        from paperworks.pruning.architecture import architecture_of
        from paperworks.pruning.target import Target, notation_notes, resolved
        from paperworks.pruning.texts import text_parts
        from paperworks.structure import count, skeleton_of

        self.config, self.run = config, run
        self.methods = check_methods(config.methods or method_names())
        self.folder = (config.model or bundled_model_path()).expanduser().absolute()
        if not architecture_of(self.folder).head:
            raise InputError("model", f"{self.folder}, an encoder", "a causal language model")
        check_length(self.folder, config.length)
        skeleton = skeleton_of(self.folder)
        self.dense = count(skeleton, context=config.length)
        field, wanted = ("target", config.target)
        if config.target_params is not None:
            field, wanted = ("target_params", config.target_params)
        for note in notation_notes(wanted, None if field == "target" else "target-params"):
            run.log.warning(note)
        timed = Target.parse(wanted, field).timed
        model = load_model(self.folder, "float32", config.device)[0] if timed else skeleton
        self.dtype = stored_dtype(self.folder)
        self.target = resolved(wanted, model, run.state / "target.json", field, dtype=self.dtype)
        parts = text_parts(config.text, config.evaluation)
        parts.check(load_tokenizer(self.folder), config.length)
        self.measured_on = parts.measured_on
        if config.choices is not None:
            read_questions(config.choices.expanduser(), load_tokenizer(self.folder), longest=config.length)

    def report(self) -> runs.Report:
        work = [(m, s) for s in range(self.config.seeds) for m in self.methods]
        rows: list[Row] = []
        if self.run.cluster is not None:
            rows = self._on_cluster(self.run.cluster, work)
        else:
            for method, seed in self.run.progress([(DENSE, 0), *work], "methods"):
                started = time.monotonic()
                rows.append(self._result(method, seed))
                if method == DENSE and time.monotonic() - started > 1:
                    # the dense model is tuned and measured like all others, but not pruned
                    minutes = len(work) * (time.monotonic() - started) / 60
                    self.run.log.info(f"about {max(1, round(minutes))} min or more for {len(work)} prunings")
                if method == DENSE:
                    self._require_measured(rows[0])
        write_text(self.run.files / "comparison.json", json.dumps(rows, indent=1))
        write_text(self.run.files / "comparison.csv", as_csv(rows))
        return self._write_up(rows)

    def _result(self, method: str, seed: int) -> Row:
        """What the child of a method and a seed found.

        It is not asked again once it has answered with figures. A run that goes on tries failed methods anew: what was
        in their way may be mended, and the parts that they had finished are kept.
        """
        folder, ending = self._folder(method, seed), ""
        if not self._answered(folder):
            self.run.step(method if method == DENSE else f"{method}, seed {seed}")
            write_text(folder / "task.json", json.dumps(self._task(method, seed, folder)))
            ending = self._wait(folder)
        return self._row(method, seed, ending)

    def _folder(self, method: str, seed: int) -> Path:
        return self.run.state / f"{method}-{seed}"

    @staticmethod
    def _answered(folder: Path) -> bool:
        """Whether there is an answer with figures; one without them is removed."""
        kept = folder / RESULT
        if kept.exists() and "error" not in json.loads(kept.read_text(encoding="utf-8")):
            return True
        kept.unlink(missing_ok=True)
        return False

    def _row(self, method: str, seed: int, ending: str) -> Row:
        kept = self._folder(method, seed) / RESULT
        if not kept.exists():
            return {"method": method, "seed": seed, "error": f"its process ended with {ending}"}
        return {"method": method, "seed": seed, **json.loads(kept.read_text(encoding="utf-8"))}

    def _require_measured(self, dense: Row) -> None:
        if "error" in dense:
            raise InputError("model", f"{self.folder}: {dense['error']}", "a model that can be measured")

    def _on_cluster(self, cluster: Cluster, work: list[tuple[str, int]]) -> list[Row]:
        """The dense model first, as everything is compared with it; then all methods and seeds at once."""
        dense = self._spread(cluster, [(DENSE, 0)])
        self._require_measured(dense[0])
        return dense + self._spread(cluster, work)

    def _spread(self, cluster: Cluster, work: list[tuple[str, int]]) -> list[Row]:
        from paperworks.runs.cluster import Ended, gpus_for

        tasks = {f"{method}, seed {seed}": (method, seed) for method, seed in work}
        open_tasks = {name: task for name, task in tasks.items() if not self._answered(self._folder(*task))}
        endings: dict[str, str] = {}
        said = dict.fromkeys(open_tasks, "")

        def tick() -> None:
            self.run.check()
            for name, task in open_tasks.items():
                now = _read(self._folder(*task) / "progress.json")
                if now and now != said[name]:
                    said[name] = now
                    event = json.loads(now)
                    self.run.emit("progress", **event | {"description": f"{name}: {event['description']}"})

        def ended(part: Work, how: Ended) -> None:
            endings[part.name] = how.ending
            self.run.step(f"{part.name}: ended, {len(open_tasks) - len(endings)} to go")

        def note(part: Work, text: str) -> None:
            self.run.log.info(f"{part.name}: {text}")

        gpus = gpus_for(self.config.device)
        cluster.execute((self._part(*task, name, gpus) for name, task in open_tasks.items()), tick, note, ended)
        return [self._row(*task, endings.get(name, "")) for name, task in tasks.items()]

    def _part(self, method: str, seed: int, name: str, gpus: float) -> Work:
        """The work of a method and a seed on a node: its folder, its models and what it reads, beside each other."""
        from paperworks.runs.cluster import Work

        folder = self._folder(method, seed)
        task = self._task(method, seed, folder)
        inputs = {f"inputs/{key}/{Path(task[key]).name}": Path(task[key]) for key in READ if task[key] is not None}
        models = Path(task["out"])
        models.mkdir(parents=True, exist_ok=True)
        place = "state" if method == DENSE else f"files/models/{method}/seed-{seed}"
        folders = {"state": folder} if method == DENSE else {"state": folder, place: models}
        task |= {key: f"../inputs/{key}/{Path(task[key]).name}" for key in READ if task[key] is not None}
        write_text(folder / "task.json", json.dumps(task | {"out": f"../{place}"}))
        return Work(name, "paperworks.comparison.child", ["{root}/state"], folders, inputs, gpus=gpus)

    def _task(self, method: str, seed: int, folder: Path) -> dict[str, Any]:
        c = self.config
        models = folder if method == DENSE else self.run.files / "models" / method / f"seed-{seed}"

        def place(path: Path | None) -> str | None:
            return None if path is None else str(path.expanduser().absolute())

        return {
            "method": method,
            "seed": c.seed + seed,
            "model": str(self.folder),
            "target": self.target,
            "out": str(models.absolute()),
            "text": place(c.text),
            "evaluation": place(c.evaluation),
            "choices": place(c.choices),
            **{
                name: getattr(c, name)
                for name in (
                    "sequences",
                    "length",
                    "batch_size",
                    "train_steps",
                    "recovery_steps",
                    "learning_rate",
                    "rank",
                    "evaluation_sequences",
                    "rounds",
                    "device",
                )
            },
        }

    def _wait(self, folder: Path) -> str:
        """Run the child to its end and report its progress; returns how it ended. Cancelling ends it."""
        said = ""
        command = python_module("paperworks.comparison.child", str(folder.absolute()))
        with ChildProcess(command, errors=folder / "stderr.txt") as child:
            for _ in child.watch(LOOK_SECONDS):
                self.run.check()
                now = _read(folder / "progress.json")
                if now and now != said:
                    said = now
                    self.run.emit("progress", **json.loads(now))
        return child.ending

    def _write_up(self, rows: list[Row]) -> runs.Report:
        summary = [summarise(method, [r for r in rows if r["method"] == method]) for method in (DENSE, *self.methods)]
        above_chance, choice = self._choice(rows[0]["after"])
        for row in summary if not above_chance else ():
            row["acc"] = row["acc_norm"] = math.nan
        good = [s for s in summary[1:] if not math.isnan(s["after"])]
        steps = self.config.train_steps + self.config.recovery_steps
        failed = [r for r in rows if "error" in r]
        if good:
            best, first = min(good, key=lambda s: s["after"]), min(good, key=lambda s: s["before"])
            headline = (
                f"At {self.target / self.dense.parameters:.0%} of the parameters, {best['method']} is best after "
                f"{steps} steps (perplexity on {self.measured_on} {best['after']:.2f}, the dense model tuned alike "
                f"{summary[0]['after']:.2f}), "
                f"{first['method']} right after pruning ({first['before']:.2f})"
            )
        else:
            headline = "No method reached the budget"
        metrics = {f"perplexity after {steps} steps, {s['method']}": s["after"] for s in (summary[0], *good)}
        return runs.Report(
            headline,
            metrics,
            [
                self._quality_table(summary, steps, choice),
                self._size_table(summary),
                self._speed_table(summary),
                self._effort_table(summary),
            ]
            + ([by_seed(rows)] if self.config.seeds > 1 else [])
            + ([failures(failed)] if failed else []),
            [comparison_figure(summary, steps)] if good else [],
            [
                runs.ReportFile("comparison.json", "every figure of every method and seed"),
                runs.ReportFile("comparison.csv", "the same as a table"),
                *([runs.ReportFile("models", "the pruned and the tuned models, for from_pretrained")] if good else []),
            ],
            self._notes(rows),
        )

    def _choice(self, after: Row) -> tuple[bool, str]:
        """Whether the dense model is above chance in multiple choice, without which no figure is shown, in words."""
        if "choice acc" not in after:
            return False, ""
        n, chance = int(after["choice questions"]), after["choice chance"]
        found = wilson_interval(round(after["choice acc"] * n), n, unit="questions")
        if found.low <= chance:
            return False, (
                f"Multiple choice is left out: the dense model is not above chance ({chance:.0%}), it is right in "
                f"{found.low:.0%} to {found.high:.0%} of {n} questions."
            )
        ends = f"{found.low:.1%} to {found.high:.1%}"
        return True, f"acc: multiple choice, {n} questions, after all steps; the dense model's 95 % interval is {ends}."

    def _quality_table(self, summary: list[dict[str, Any]], steps: int, choice: str) -> runs.Table:
        columns = [
            "method",
            "perplexity after pruning",
            "spread",
            f"after {steps} steps",
            "spread ",
            "acc",
            "acc_norm",
        ]
        table: list[list[Any]] = [
            [
                s["method"],
                s["before"],
                s["before spread"],
                s["after"],
                s["after spread"],
                s["acc"],
                s["acc_norm"],
            ]
            for s in summary
        ]
        note = (
            f"Perplexity over all tokens (token_ppl) of {self.measured_on}, mean over {self.config.seeds} seed(s); "
            f"spread: largest minus smallest. Every model ends with {steps} optimiser steps on the same text: those "
            "that a method took while pruning count. Compare the column 'after pruning' only among methods with equal "
            f"steps. The dense model was tuned in the same way. {choice}"
        )
        return runs.Table("Quality at the same budget", columns, shown(table), note)

    def _size_table(self, summary: list[Row]) -> runs.Table:
        whole = summary[0]
        columns = ["method", "parameters", "of dense", "MACs per token", "of dense ", "cache, bytes per token", "bytes"]
        table: list[list[Any]] = [
            [
                s["method"],
                s["parameters"],
                s["parameters"] / whole["parameters"],
                s["macs"],
                s["macs"] / whole["macs"],
                s["cache"],
                s["bytes"],
            ]
            for s in summary
        ]
        note = (
            f"Counted in the model as it runs, sequences of {self.config.length} tokens; the cache is that of keys and "
            "values; bytes are those of the weights."
        )
        return runs.Table("Size", columns, shown(table), note)

    def _speed_table(self, summary: list[Row]) -> runs.Table:
        columns = ["method", "reading, tokens/s", "times dense", "writing, tokens/s", "times dense ", "ms per token"]
        table: list[list[Any]] = [
            [s["method"], s["prefill"], s["prefill ratio"], s["decode"], s["decode ratio"], 1000 * s["latency"]]
            for s in summary
        ]
        note = (
            f"Batch of 8, {self.config.rounds} rounds in turn with the dense model; the ratio is the median over "
            "rounds; a token that is written takes so many milliseconds."
        )
        return runs.Table("Speed", columns, shown(table), note)

    @staticmethod
    def _effort_table(summary: list[Row]) -> runs.Table:
        columns = ["method", "steps while pruning", "seconds", "MiB over the start"]
        table: list[list[Any]] = [[s["method"], s["steps"], s["seconds"], s["memory"] / 2**20] for s in summary]
        return runs.Table("What pruning took", columns, shown(table))

    def _notes(self, rows: list[Row]) -> list[str]:
        dense = self.dense
        notes = [
            f"The budget is {self.target:,} of {dense.parameters:,} parameters; {dense.prunable:,} of them are inside "
            f"the layers, of which {1 - (dense.parameters - self.target) / dense.prunable:.1%} may stay."
        ]
        return notes + method_notes(rows)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
