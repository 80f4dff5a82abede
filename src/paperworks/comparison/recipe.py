"""Prune one checkpoint by several methods to the same number of parameters, and set the results side by side."""

from __future__ import annotations

import csv
import io
import json
import math
import statistics
import time
from pathlib import Path
from typing import Any

from paperworks import runs
from paperworks.comparison.config import Config
from paperworks.comparison.methods import check_methods, method_names
from paperworks.comparison.plot import comparison_figure
from paperworks.errors import InputError
from paperworks.metrics import wilson_interval
from paperworks.runs.files import write_text
from paperworks.runs.processes import ChildProcess, python_module

DENSE = "dense"
LOOK_SECONDS = 0.2
"""How often the progress of a method's process is read."""
Row = dict[str, Any]


def run(config: Config, run: runs.Run) -> runs.Report:
    """Prune a checkpoint by several methods to the same number of parameters: one table, one plot, all the models."""
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
        work = [(DENSE, 0), *((m, s) for s in range(self.config.seeds) for m in self.methods)]
        rows: list[Row] = []
        for method, seed in self.run.progress(work, "methods"):
            started = time.monotonic()
            rows.append(self._result(method, seed))
            if method == DENSE and time.monotonic() - started > 1:
                # the dense model is tuned and measured like all others, but not pruned
                minutes = (len(work) - 1) * (time.monotonic() - started) / 60
                self.run.log.info(f"about {max(1, round(minutes))} min or more for {len(work) - 1} prunings")
            if method == DENSE and "error" in rows[0]:
                raise InputError("model", f"{self.folder}: {rows[0]['error']}", "a model that can be measured")
        write_text(self.run.files / "comparison.json", json.dumps(rows, indent=1))
        write_text(self.run.files / "comparison.csv", _csv(rows))
        return self._write_up(rows)

    def _result(self, method: str, seed: int) -> Row:
        """What the child of a method and a seed found.

        It is not asked again once it has answered with figures. A run that goes on tries failed methods anew: what was
        in their way may be mended, and the parts that they had finished are kept.
        """
        folder = self.run.state / f"{method}-{seed}"
        kept = folder / "result.json"
        if not kept.exists() or "error" in json.loads(kept.read_text(encoding="utf-8")):
            kept.unlink(missing_ok=True)
            self.run.step(method if method == DENSE else f"{method}, seed {seed}")
            write_text(folder / "task.json", json.dumps(self._task(method, seed, folder)))
            ending = self._wait(folder)
            if not kept.exists():
                return {"method": method, "seed": seed, "error": f"its process ended with {ending}"}
        return {"method": method, "seed": seed, **json.loads(kept.read_text(encoding="utf-8"))}

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
            + ([_by_seed(rows)] if self.config.seeds > 1 else [])
            + ([_failures(failed)] if failed else []),
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
        return runs.Table("Quality at the same budget", columns, _shown(table), note)

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
        return runs.Table("Size", columns, _shown(table), note)

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
        return runs.Table("Speed", columns, _shown(table), note)

    @staticmethod
    def _effort_table(summary: list[Row]) -> runs.Table:
        columns = ["method", "steps while pruning", "seconds", "MiB over the start"]
        table: list[list[Any]] = [[s["method"], s["steps"], s["seconds"], s["memory"] / 2**20] for s in summary]
        return runs.Table("What pruning took", columns, _shown(table))

    def _notes(self, rows: list[Row]) -> list[str]:
        dense = self.dense
        notes = [
            f"The budget is {self.target:,} of {dense.parameters:,} parameters; {dense.prunable:,} of them are inside "
            f"the layers, of which {1 - (dense.parameters - self.target) / dense.prunable:.1%} may stay."
        ]
        return notes + method_notes(rows)


def method_notes(rows: list[Row]) -> list[str]:
    """What the methods say of their fits: once, with the seeds where it is not true of all of them."""
    said: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        for note in dict.fromkeys(row.get("notes", [])):
            said.setdefault((row["method"], note), []).append(str(row["seed"]))
    found = []
    for (method, note), seeds in said.items():
        of_all = len(seeds) == sum(row["method"] == method for row in rows)
        which = "" if of_all else f", seed{'s' * (len(seeds) > 1)} {', '.join(seeds)}"
        found.append(f"{method}{which}: {note}")
    return found


def summarise(method: str, rows: list[Row]) -> dict[str, Any]:
    """Means over the seeds of a method that did not fail; NaN where all did."""
    good = [r for r in rows if "error" not in r]

    def mean(values: list[float]) -> float:
        return statistics.fmean(values) if values else math.nan

    found: dict[str, Any] = {"method": method}
    for when in ("before", "after"):
        values = [r[when]["perplexity"] for r in good]
        found[when] = mean(values)
        found[f"{when} spread"] = max(values) - min(values) if values else math.nan
    for name in ("acc", "acc_norm"):
        found[name] = mean([r["after"][f"choice {name}"] for r in good if f"choice {name}" in r["after"]])
    for name in ("parameters", "macs", "cache", "bytes", "seconds", "memory", "steps"):
        found[name] = mean([r[name] for r in good])
    for name in ("prefill", "decode", "latency", "prefill ratio", "decode ratio"):
        found[name] = mean([r["speed"][name] for r in good])
    return found


def _shown(table: list[list[Any]]) -> list[list[Any]]:
    """Cells of methods that failed are empty."""
    return [[None if isinstance(cell, float) and math.isnan(cell) else cell for cell in row] for row in table]


def _by_seed(rows: list[Row]) -> runs.Table:
    return runs.Table(
        "Perplexity by seed",
        ["method", "seed", "after pruning", "after all steps"],
        [[r["method"], r["seed"], r["before"]["perplexity"], r["after"]["perplexity"]] for r in rows if "before" in r],
    )


def _failures(rows: list[Row]) -> runs.Table:
    return runs.Table(
        "Methods that did not get there",
        ["method", "seed", "reason"],
        [[r["method"], r["seed"], r["error"]] for r in rows],
    )


def _csv(rows: list[Row]) -> str:
    flat = []
    for row in rows:
        line: Row = {}
        for name, value in row.items():
            if isinstance(value, dict):
                line |= {f"{name} {inner}": v for inner, v in value.items()}
            else:
                line[name] = "; ".join(value) if isinstance(value, list) else value
        flat.append(line)
    columns = list(dict.fromkeys(name for line in flat for name in line))
    out = io.StringIO()
    writer = csv.DictWriter(out, columns)
    writer.writeheader()
    writer.writerows(flat)
    return out.getvalue()


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
