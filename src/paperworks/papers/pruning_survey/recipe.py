"""A contrast of the survey on the user's own images and classifier, or one declared pruning run of them."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Sequence
from dataclasses import asdict

from paperworks import runs
from paperworks.metrics import wilson_interval
from paperworks.papers.pruning_survey.bench import Bench, Protocol, Row
from paperworks.papers.pruning_survey.config import Config
from paperworks.papers.pruning_survey.contrasts import (
    Contrast,
    Variant,
    accuracies,
    compared,
    contrast_of,
    run_contrast,
)
from paperworks.papers.pruning_survey.declared import own_methods_table, taxonomy_table
from paperworks.papers.pruning_survey.figures import bars_figure, contrast_figure, ends, variants_of
from paperworks.papers.pruning_survey.recommendation import Limits, recommend
from paperworks.papers.pruning_survey.spec import FOR_UNITS, PruneSpec, read_spec
from paperworks.pruning import ImageTask, accuracy, image_task, model_maker
from paperworks.runs import Report, ReportFile, Run, Table
from paperworks.runs.files import write_text

__all__ = ["Config", "run"]


def run(config: Config, run: Run) -> Report:
    """Measure a contrast, prune as a spec declares, or list all methods in the taxonomy."""
    if config.contrast == "taxonomy" and config.spec is None:
        return _taxonomy()
    spec = None if config.spec is None else read_spec(config.spec.expanduser(), seed=config.seed)
    run.step(f"reading {config.data}")
    task = image_task(config, run)
    make, trained = model_maker(config.model, task, progress=run.progress)
    protocol = Protocol(config.epochs, config.recovery_epochs, config.learning_rate, config.batch_size, config.device)
    bench = Bench(task, make, protocol, trained, run.state, run.progress)
    lead = [task.notes[0], f"{len(task.train):,} images train, {len(task.test):,} test"]
    return _one(config, run, bench, spec, lead) if spec is not None else _contrast(config, run, bench, lead)


def _taxonomy() -> Report:
    """All methods that declare themselves; nothing is read or trained."""
    tables = [taxonomy_table(), own_methods_table()]
    papers, own = (len(table.rows) for table in tables)
    headline = f"{papers} papers' methods and {own} of the survey's own, by speed-up, unit, time, choice and recovery"
    return Report(headline=headline, metrics={"papers": papers, "own": own}, tables=tables)


def criteria_contrast() -> Contrast:
    """All criteria for units at equal multiply-accumulates."""

    def variants(ratio: float) -> list[Variant]:
        common = {"ratio": ratio, "speedup": "structured", "target": "macs"}
        names = sorted(FOR_UNITS - {"bn-scale"}, key=lambda name: (name == "random", name))
        return [Variant(name, read_spec({**common, "criterion": name})) for name in names]

    pairs = tuple((name, "random") for name in sorted(FOR_UNITS - {"bn-scale", "random"}))
    question = "Which score of units keeps the most accuracy at equal operations?"
    return Contrast("criteria", question, "operations, recovery", pairs, variants)


def _contrast(config: Config, run: Run, bench: Bench, lead: list[str]) -> Report:
    contrast = criteria_contrast() if config.contrast == "criteria" else contrast_of(config.contrast)
    seeds = [config.seed % 2**31 + number for number in range(config.seeds)]
    run.step("training the dense networks" if not bench.trained else "testing the dense network")
    dense = bench.dense_accuracy(seeds)
    chance = ""
    if not _above_chance(dense, bench.task):
        chance = ". This tests nothing: the dense network is at chance. Train longer (--epochs), or take more images"
    run.step(contrast.question)
    rows = run_contrast(contrast, bench, config.ratios, seeds)
    write_text(run.files / "rows.csv", rows_as_csv(rows))
    table, verdicts = pairs_table(contrast, rows, config.ratios, contrast.tested(bench.task))
    mean = statistics.fmean(dense)
    title = f"{contrast.name.replace('-', ' ')}, {bench.task.notes[0].split(':')[0]}"
    drawing = contrast_figure(rows, mean, title)
    if config.contrast == "criteria":
        names = variants_of(rows)
        last = max(config.ratios)
        values = [[r.accuracy for r in rows if r.variant == n and r.ratio == last] for n in names]
        drawing = bars_figure(names, values, mean, f"accuracy with {last:.0%} of the operations removed")
        verdicts.sort(key=lambda one: -one[3])  # all are less random: the head has the best
    return Report(
        headline=_headline(contrast, verdicts, mean) + chance,
        lead=lead,
        metrics={"dense_accuracy": mean, **{f"{a} less {b} at {r:g}": v for a, b, r, v, _ in verdicts}},
        labels={"dense_accuracy": "accuracy of the dense network"},
        tables=[
            variants_table(rows, dense),
            table,
            recommendation_table(Limits(config.hardware, config.training, ratio=min(0.95, max(config.ratios)))),
            taxonomy_table(),
        ],
        figures=[
            runs.Figure(contrast.question, drawing, "Means over seeds; bars from the lowest to the highest seed.")
        ],
        files=[ReportFile("rows.csv", "every run: spec, seed, ratio, what is left, operations, accuracies, epochs")],
        notes=[f"Held equal: {contrast.fixed}.", *_notes(config, bench)],
    )


def _notes(config: Config, bench: Bench) -> list[str]:
    began = "from the weights in the folder" if bench.trained else f"{config.epochs:g} epochs from new weights"
    return [
        f"Dense network: {began}; recovery {config.recovery_epochs:g} epochs; SGD at {config.learning_rate:g} with "
        "momentum 0.9 along a cosine.",
        "Accuracy is that of the last step, never chosen on the test images.",
        *bench.task.notes[1:],
    ]


def _above_chance(found: Sequence[float], task: ImageTask) -> bool:
    """Whether the mean accuracy on the test images is more than guessing gives, by Wilson's interval."""
    count = len(task.test)
    return wilson_interval(round(statistics.fmean(found) * count), count).low > 1 / len(task.class_names)


def _headline(contrast: Contrast, verdicts: Sequence[tuple[str, str, float, float, str]], dense: float) -> str:
    parts = [f"{a} less {b} at {ratio:.0%} removed: {value:+.1%}{said}" for a, b, ratio, value, said in verdicts]
    shown = [p for p, v in zip(parts, verdicts, strict=True) if v[2] == max(x[2] for x in verdicts)][:2]
    return f"{contrast.question} {'; '.join(shown)} (accuracy; dense {dense:.1%})"


def variants_table(rows: Sequence[Row], dense: Sequence[float]) -> Table:
    """Means over seeds of every variant and ratio."""
    body: list[list[runs.report.Cell]] = []
    for ratio in sorted({row.ratio for row in rows}):
        for name in variants_of(rows):
            own = [r for r in rows if r.variant == name and r.ratio == ratio]
            if not own:
                continue
            low, high = ends([r.accuracy for r in own])
            interval = f"{low:.3f} to {high:.3f}" if len(own) > 1 else ""
            body.append(
                [
                    name,
                    ratio,
                    *(statistics.fmean(getattr(r, key) for r in own) for key in ("kept", "macs", "before", "accuracy")),
                    interval,
                    min(r.least for r in own),
                    own[0].epochs,
                    own[0].note,
                ]
            )
    columns = ["variant", "ratio", "parameters left", "MACs left", "before recovery", "accuracy", "95 % interval"]
    columns += ["least kept", "epochs", "note"]
    note = (
        f"Dense: accuracy {statistics.fmean(dense):.3f}, mean of {len(dense)} seed(s). Of masked networks MACs are "
        "those of the weights that are left: no dense kernel is faster for them. Least kept: weights in the "
        "emptiest layer. Before recovery: of a gradual schedule behind its last round of training. The interval is "
        "Student's over seeds."
    )
    return Table("Variants", columns, body, note)


def pairs_table(
    contrast: Contrast, rows: list[Row], ratios: Sequence[float], task: ImageTask
) -> tuple[Table, list[tuple[str, str, float, float, str]]]:
    """Differences of the pairs on ``task``, and (left, right, ratio, mean, interval and verdict in words) of each."""
    body: list[list[runs.report.Cell]] = []
    found = []
    for ratio in ratios:
        for left, right in contrast.pairs:
            differences, interval = compared(rows, left, right, ratio)
            if not len(differences):
                continue
            mean = float(differences.mean())
            verdict, said = "one seed: no interval", ""
            if interval is not None:
                sure = interval.low > 0 or interval.high < 0
                verdict = (f"{left if mean > 0 else right} is better") if sure else "no difference is shown"
                if not any(_above_chance(list(accuracies(rows, s, ratio).values()), task) for s in (left, right)):
                    verdict = "both are at chance: this tests nothing"
                said = f" [{interval.low:+.1%}, {interval.high:+.1%}], {verdict}"
            ends_shown: list[runs.report.Cell] = [None, None] if interval is None else [interval.low, interval.high]
            body.append([left, right, ratio, mean, *ends_shown, len(differences), verdict])
            found.append((left, right, ratio, mean, said))
    columns = ["left", "right", "ratio", "mean difference", "low", "high", "seeds", "verdict"]
    note = "Accuracy of the left less that of the right, on the same seeds; 95 % interval of Student over seeds."
    return Table("Pairs", columns, body, note), found


def recommendation_table(limits: Limits) -> Table:
    """What the rules recommend, and what was measured of them."""
    body: list[list[runs.report.Cell]] = [
        [one.name, one.spec.says(), "; ".join(one.reasons), one.cited] for one in recommend(limits)
    ]
    title = f"Recommended for hardware {limits.hardware}, training {limits.training}, ratio {limits.ratio:g}"
    return Table(title, ["run", "spec", "why", "measured here"], body, "Rules of the survey; see the README.")


def rows_as_csv(rows: Sequence[Row]) -> str:
    """The rows as a table in text."""
    out = io.StringIO()
    # times are another in each run, and a run that goes on must end with the same file
    names = [name for name in asdict(rows[0]) if name != "seconds"]
    writer = csv.DictWriter(out, names, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return out.getvalue()


def _one(config: Config, run: Run, bench: Bench, spec: PruneSpec, lead: list[str]) -> Report:
    seed = config.seed % 2**31
    run.step("training the dense network" if not bench.trained else "testing the dense network")
    dense = bench.dense_accuracy([seed])[0]
    run.step(f"pruning: {spec.says()}")
    result = bench.pruned(spec, seed)
    before = accuracy(result.model, bench.task.test, bench.protocol.device)
    model, epochs = bench.recovered(result, spec, seed)
    row = bench.row("spec", spec, seed, model, result.masks, before, epochs, 0.0)
    result.model = model
    result.save(run.files / "pruned")
    write_text(run.files / "spec.yaml", spec.to_yaml())
    body: list[list[runs.report.Cell]] = [
        ["accuracy", dense, row.accuracy],
        *([] if spec.schedule == "gradual" else [["accuracy before recovery", None, before]]),
        ["parameters, share", 1.0, row.kept],
        ["MACs, share", 1.0, row.macs],
    ]
    layers: list[list[runs.report.Cell]] = [
        [name, int(mask.sum()), mask.numel()] for name, mask in result.masks.items()
    ]
    tables = [Table("Before and after", ["figure", "dense", "pruned"], body)]
    if layers:
        tables.append(Table("Weights by layer", ["layer", "kept", "of"], layers))
    return Report(
        headline=f"{spec.says()}: {row.kept:.1%} of the parameters, accuracy {row.accuracy:.1%} (dense {dense:.1%})",
        lead=lead,
        metrics={"accuracy": row.accuracy, "dense_accuracy": dense, "parameters": row.kept, "macs": row.macs},
        tables=[*tables, taxonomy_table()],
        files=[
            ReportFile("pruned", "the pruned network: safetensors, masks or plan, spec; load_pruned reads it"),
            ReportFile("spec.yaml", "the spec; give it to --spec to repeat the run"),
        ],
        notes=_notes(config, bench),
    )
