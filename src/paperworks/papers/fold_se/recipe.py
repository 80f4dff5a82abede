"""Rules from a table of the user: learned, measured beside baselines, and saved as programs, JSON and proofs."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from paperworks import runs
from paperworks.errors import InputError, nearest
from paperworks.inputs.labels import require_classes
from paperworks.inputs.tables import BUNDLED, Table, read_table
from paperworks.papers.fold_se import evaluation, programs, verdict
from paperworks.papers.fold_se.classifier import FoldSEClassifier
from paperworks.papers.fold_se.config import Config
from paperworks.papers.fold_se.learn import warm_up
from paperworks.papers.fold_se.presets import FoldRMClassifier, FoldRPPClassifier
from paperworks.runs.files import write_text

PRESETS: dict[str, type[FoldSEClassifier]] = {
    "fold-se": FoldSEClassifier,
    "fold-rpp": FoldRPPClassifier,
    "fold-rm": FoldRMClassifier,
}


def run(config: Config, run: runs.Run) -> runs.Report:
    """Learn a short list of rules with exceptions from a table, and explain its predictions."""
    run.step(f"reading {config.data}")
    table = _read(config, config.data, config.label)
    labels = table.label.to_numpy() if table.label is not None else np.empty(0)
    classes = np.unique(labels.astype(str))
    if len(classes) < 2:
        raise InputError(
            "label", f"one class only ({classes[0]!r})", f"a column with two classes or more in {table.name}"
        )
    require_classes(labels)
    further = None if config.predict is None else _features_to_classify(config, table)
    notes: list[str] = []
    train, test, note = evaluation.holdout(labels, config.test_size, config.seed)
    notes += [note] if note else []

    run.step("loading the compiled search (the first use compiles it, which takes some seconds)")
    warm_up()
    run.step(f"learning rules from {len(train)} rows")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what they say is in the verdict
        model, found = evaluation.compare(
            _model(config, table, labels),
            table.features,
            labels,
            train,
            test,
            seed=config.seed,
            categorical=table.categorical,
        )
    folds = _cross_validate(config, run, table, labels, notes)

    run.step("writing the rules and their proofs")
    held, truth = table.features.iloc[test], labels[test]
    predicted = model.predict(held)
    report = model.report(held, truth)
    files = _save(config, run, model, held, truth, predicted, test, further, notes)
    lead = verdict.lead(model, found, truth, predicted, labels[train], config)
    return runs.Report(
        headline=verdict.headline(model, found, Path(table.name).name, len(test)),
        lead=[*lead, *table.notes],
        labels=verdict.labels(bool(folds)),
        metrics=_metrics(model, found, folds),
        tables=[
            _rules_table(model, report),
            _comparison_table(found, folds, len(folds)),
            _classes_table(model, truth, predicted),
        ],
        figures=[
            runs.Figure("Coverage and precision of the rules", evaluation.rule_bars(report), "On the held-out rows."),
            runs.Figure(
                "Confusion matrix",
                evaluation.confusion_figure(truth, predicted, model.classes_),
                f"The {len(test)} held-out rows; colour is the share of the label's rows.",
            ),
        ],
        files=files,
        notes=notes,
    )


def _read(config: Config, source: str, label: str | None) -> Table:
    if label is None and source not in BUNDLED:
        columns = list(config.read_table(source).features.columns)
        hint = "".join(f" (is it {c!r}?)" for c in columns if c.lower() in ("label", "class", "target", "y"))
        raise InputError(
            "label", "nothing", f"the name of the label's column in {source}{hint}: {', '.join(columns[:12])}"
        )
    return config.read_table(source, label)


def _model(config: Config, table: Table, labels: np.ndarray) -> FoldSEClassifier:
    n_classes = len(np.unique(labels.astype(str)))
    options: dict[str, Any] = {"ratio": config.ratio, "numeric": list(table.numeric)}
    if config.preset == "fold-se":
        options["tail"] = config.tail
    if config.preset != "fold-rpp":
        options["unmatched"] = config.unmatched
    if config.positive is not None:
        known = {str(c): c for c in np.unique(labels)}
        if config.positive not in known:
            raise InputError(
                "positive",
                repr(config.positive),
                f"one of {', '.join(map(repr, known))}{nearest(config.positive, known)}",
            )
        if n_classes > 2 or config.preset == "fold-rm":
            raise InputError("positive", repr(config.positive), "nothing: every class gets rules of its own here")
        options["positive_label"] = known[config.positive]
    return PRESETS[config.preset](**options)


def _cross_validate(
    config: Config, run: runs.Run, table: Table, labels: np.ndarray, notes: list[str]
) -> list[list[dict[str, Any]]]:
    """Measures per fold; those of an interrupted run are read back."""
    if config.folds == 0:
        return []
    wanted = config.folds
    if "folds" not in config.model_fields_set:
        wanted = min(wanted, int(np.unique(labels.astype(str), return_counts=True)[1].min()))
        if wanted < 2:
            notes.append("No cross-validation: a class has one row only (folds sets a number).")
            return []
        if wanted < config.folds:
            notes.append(f"{wanted} folds of cross-validation, since a class has no more rows (folds sets a number).")
    splits, note = evaluation.fold_rows(labels, wanted, config.seed)
    notes += [note] if note else []
    done = {int(p.stem.split("-")[1]): json.loads(p.read_text()) for p in sorted(run.state.glob("fold-*.json"))}
    pending = evaluation.cross_validate(
        lambda: _model(config, table, labels),
        table.features,
        labels,
        splits,
        seed=config.seed,
        categorical=table.categorical,
        jobs=config.jobs,
        done=done,
    )
    for number, found in run.progress(pending, "cross-validation", total=len(splits) - len(done)):
        write_text(run.state / f"fold-{number}.json", json.dumps(found))
        done[number] = found
    return [done[i] for i in range(len(splits))]


def _metrics(
    model: FoldSEClassifier, found: list[evaluation.Measured], folds: list[list[dict[str, Any]]]
) -> dict[str, float]:
    rules, tree, majority = found
    metrics: dict[str, float] = {
        "accuracy": rules.accuracy,
        "balanced_accuracy": rules.balanced_accuracy,
        "f1": rules.f1,
        "rules": model.n_rules_,
        "literals": model.n_literals_,
        "fit_seconds": rules.fit_seconds,
        "tree_accuracy": tree.accuracy,
        "majority_accuracy": majority.accuracy,
    }
    if folds:
        metrics["cv_accuracy"] = float(np.mean([f[0]["accuracy"] for f in folds]))
        metrics["cv_rules"] = float(np.mean([f[0]["size"] for f in folds]))
    return metrics


def _rules_table(model: FoldSEClassifier, report: pd.DataFrame) -> runs.Table:
    rows: list[list[Any]] = []
    for line in report.itertuples():
        rows.append(
            [
                line.rule,
                str(line.label),
                line.text,
                line.decided,
                line.correct,
                line.precision if line.decided else None,
            ]
        )
    return runs.Table(
        "Rules, tried in this order",
        ["rule", "concludes", "if", "held-out rows decided", "rightly", "precision"],
        rows,
        "'not a <= 1' is also true where a is missing or text. The same rules as programs are among the files.",
    )


def _comparison_table(found: list[evaluation.Measured], folds: list[list[dict[str, Any]]], n_folds: int) -> runs.Table:
    columns = ["", "accuracy", "balanced accuracy", "macro F1", "rules or leaves", "literals", "fit seconds"]
    rows: list[list[Any]] = []
    for k, m in enumerate(found):
        row: list[Any] = [m.name, m.accuracy, m.balanced_accuracy, m.f1, m.size or None, m.literals, m.fit_seconds]
        if folds:
            accuracy = np.array([f[k]["accuracy"] for f in folds])
            size = np.mean([f[k]["size"] for f in folds])
            row += [float(accuracy.mean()), float(accuracy.std(ddof=1)), float(size) if size else None]
        rows.append(row)
    note = "The tree may have as many leaves as there are rules (exceptions included) and the default."
    if folds:
        columns += ["CV accuracy", "CV std", "CV rules or leaves"]
        note += f" CV: means of {n_folds}-fold cross-validation over all rows."
    return runs.Table("Held-out rows", columns, rows, note)


def _classes_table(model: FoldSEClassifier, truth: np.ndarray, predicted: np.ndarray) -> runs.Table:
    rows: list[list[Any]] = []
    for label in model.classes_.tolist():
        is_label, is_guess = truth == label, predicted == label
        both = int((is_label & is_guess).sum())
        precision = both / is_guess.sum() if is_guess.any() else None
        recall = both / is_label.sum() if is_label.any() else None
        rows.append([str(label), int(is_label.sum()), int(is_guess.sum()), precision, recall])
    return runs.Table("Classes", ["class", "held-out rows", "predicted", "precision", "recall"], rows)


def _save(
    config: Config,
    run: runs.Run,
    model: FoldSEClassifier,
    held: pd.DataFrame,
    truth: np.ndarray,
    predicted: np.ndarray,
    rows: np.ndarray,
    further: pd.DataFrame | None,
    notes: list[str],
) -> list[runs.ReportFile]:
    files = []

    def save(name: str, text: str, description: str) -> None:
        write_text(run.files / name, text)
        files.append(runs.ReportFile(name, description))

    program = model.program_
    save("rules.txt", program.text() + "\n", "the rules for people")
    save("rules.json", model.to_json() + "\n", "the rules to edit and load: FoldSEClassifier.from_json")
    save(
        "program.lp",
        programs.templates(program) + "\n" + model.to_asp("scasp"),
        "the logic program for s(CASP), with templates for its proofs",
    )
    save("program.clingo.lp", model.to_asp("clingo"), "the same for clingo, numbers as ranks (facts: model.facts)")
    save("rules.py", model.to_python(), "a Python function from a row to its label")
    try:
        conditions = [f"-- {label}\n{model.to_sql(label)}" for label in model.classes_.tolist()]
        save("rules.sql", "\n\n".join(conditions) + "\n", "a WHERE condition per class")
    except InputError as error:
        notes.append(f"rules.sql was not written: {error}")
    save(
        "predictions.csv",
        _predictions(model, held, predicted, rows, truth),
        "label, prediction and rule of held-out rows",
    )
    if config.explain:
        chosen = _rows_to_explain(model, held, predicted == truth, config.explain)
        proofs = [
            f"row {rows[i]} (label {truth[i]})\n{model.explain(held.iloc[[i]])}" for i in run.progress(chosen, "proofs")
        ]
        save("explanations.txt", "\n\n".join(proofs) + "\n", "proof trees of some held-out rows, wrong ones first")
        save("facts.lp", model.facts(held.iloc[chosen], every=True), "these rows as facts for s(CASP), from 0")
    if further is not None:
        run.step(f"classifying {config.predict}")
        text = _predictions(model, further, model.predict(further), np.arange(len(further)), None)
        save("new_predictions.csv", text, f"rows of {config.predict}")
    return files


def _predictions(
    model: FoldSEClassifier, features: pd.DataFrame, predicted: np.ndarray, rows: np.ndarray, truth: np.ndarray | None
) -> str:
    first = model.covering_rule(features)
    columns: dict[str, Any] = {"row": rows}
    if truth is not None:
        columns["label"] = truth
    columns["predicted"] = predicted
    columns["rule"] = [f"rule{i + 1}" if i >= 0 else "otherwise" for i in first]
    columns["training_precision"] = _precision(model, features, predicted)
    return pd.DataFrame(columns).to_csv(index=False)


def _precision(model: FoldSEClassifier, features: pd.DataFrame, predicted: np.ndarray) -> np.ndarray:
    """The share of the deciding rule's training rows that have the predicted class; NaN without a prediction."""
    shares, position = model.predict_proba(features), {c: i for i, c in enumerate(model.classes_.tolist())}
    column = np.array([-1 if p is None else position[p] for p in predicted.tolist()])
    picked = shares[np.arange(len(column)), column]
    return np.where(column < 0, np.nan, picked)


def _rows_to_explain(model: FoldSEClassifier, held: pd.DataFrame, right: np.ndarray, count: int) -> list[int]:
    """Up to ``count`` rows: half of them wrong ones, then at least one per rule, then the first ones."""
    wrong = np.flatnonzero(~right)[: (count + 1) // 2].tolist()
    first = model.covering_rule(held)
    per_rule = [int(np.argmax(first == rule)) for rule in np.unique(first)]
    return list(dict.fromkeys([*wrong, *per_rule, *range(len(held))]))[:count]


def _features_to_classify(config: Config, learned: Table) -> pd.DataFrame:
    """The rows of ``predict``, their columns read as those of the table that is learned from."""
    source, wanted = str(config.predict), list(learned.features.columns)
    columns = list(read_table(source, delimiter=config.delimiter).features.columns)
    for name in wanted:
        if name not in columns:
            raise InputError(
                "predict",
                f"{source} without the column {name!r}{nearest(name, columns)}",
                "a table with the columns that the rules are learned from",
            )
    table = read_table(
        source,
        numeric=learned.numeric,
        categorical=learned.categorical,
        missing=("", *config.missing),
        delimiter=config.delimiter,
    )
    return table.features[wanted]
