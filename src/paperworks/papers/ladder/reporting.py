"""The report of an audit: slices in words with sizes and examples, and what rectification did on the test rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from paperworks import runs
from paperworks.metrics import wilson_interval, worst_group_accuracy
from paperworks.papers.ladder import figures
from paperworks.papers.ladder.baselines import deep_feature_reweighting, random_subset_head
from paperworks.papers.ladder.checks import class_codes, matrix
from paperworks.papers.ladder.config import Config
from paperworks.papers.ladder.discovery import SliceDiscovery
from paperworks.papers.ladder.rectifier import SliceRectifier
from paperworks.papers.ladder.tasks import Task
from paperworks.runs.files import write_text

BEFORE, CONTROL, OURS, ORACLE = "classifier as it is", "random subset (control)", "LADDER", "DFR with known groups"


def report(
    config: Config, run: runs.Run, task: Task, discovery: SliceDiscovery, rectifier: SliceRectifier, warned: list[str]
) -> runs.Report:
    """All of the report."""
    tested = _test_table(config, task, discovery, rectifier) if "test" in task.features else {}
    drawn = [_slices_figure(task, discovery)] if discovery.slices_ else []
    tables = [_slice_table(discovery), _example_table(task, discovery), _sentence_table(discovery)]
    if tested:
        tables.insert(1, _rectified_table(tested))
        named = _named_groups(config, task)
        if named is not None:
            values = {name: [one["by group"][g] for g in named] for name, one in tested.items()}
            groups = runs.Figure("Known groups of the test rows", figures.groups_figure(values, list(named.values())))
            drawn.append(groups)
    lead = [task.notes[0], *_doubts(task, discovery, rectifier, tested)]
    notes = [*task.notes[1:], *discovery.notes_, *warned]
    return runs.Report(
        headline=_headline(discovery, rectifier, tested),
        metrics=_metrics(discovery, tested),
        labels={
            k: v
            for k, v in {
                "confirmed": "slices confirmed",
                "largest gap": "accuracy with minus without an attribute, largest (of 1)",
                "worst group before": "accuracy of the worst group before (of 1)",
                "worst group after": "accuracy of the worst group after (of 1)",
                "accuracy before": "test accuracy before (of 1)",
                "accuracy after": "test accuracy after (of 1)",
            }.items()
            if k in _metrics(discovery, tested)
        },
        tables=[t for t in tables if t.rows],
        figures=drawn,
        files=_save(run, task, discovery, rectifier),
        notes=list(dict.fromkeys(n for n in notes if n not in lead)),
        lead=lead,
    )


def _test_table(
    config: Config, task: Task, discovery: SliceDiscovery, rectifier: SliceRectifier
) -> dict[str, dict[str, Any]]:
    """Method -> accuracy, accuracy by known group and of the worst one, on the test rows."""
    x = matrix("features_test", task.features["test"])
    discovery.require_other_rows(x)
    y = class_codes("y_test", task.y["test"], len(task.class_names))
    heads: dict[str, Any] = {BEFORE: rectifier.head_}
    if rectifier.changed_:
        rows = max(rectifier.rows_.values(), key=len)
        val = task.features["val"], task.y["val"]
        heads[CONTROL] = random_subset_head(rectifier.head_, *val, rows, random_state=config.seed % 2**31)
        heads[OURS] = rectifier
        if task.validation_groups is not None:
            heads[ORACLE] = deep_feature_reweighting(rectifier.head_, *val, task.validation_groups)
    found = {}
    for name, head in heads.items():
        logits = head.logits(x)
        guess = (logits[:, 0] > 0).astype(int) if logits.shape[1] == 1 else logits.argmax(axis=1)
        right = guess == y
        row: dict[str, Any] = {"accuracy": wilson_interval(int(right.sum()), len(y)), "by group": {}}
        row["by class"] = {task.class_names[c]: float(right[y == c].mean()) for c in np.unique(y)}
        if task.groups is not None:
            row["worst group"] = worst_group_accuracy(y, guess, task.groups)
            row["by group"] = {g: float(right[task.groups == g].mean()) for g in np.unique(task.groups).tolist()}
        found[name] = row
    return found


def _named_groups(config: Config, task: Task) -> dict[Any, str] | None:
    if task.groups is None:
        return None
    codes = np.unique(task.groups).tolist()
    if config.features is not None:
        return {g: str(g) for g in codes}
    second = ("green", "blue") if config.data == "digits" else ("without", f"with {config.plant!r}")
    return {g: f"{task.class_names[g // 2]}, {second[g % 2]}" for g in codes}


def _slice_table(discovery: SliceDiscovery) -> runs.Table:
    rows: list[list[Any]] = [
        [
            s.class_name,
            s.name,
            s.n_without,
            s.n_with,
            s.accuracy_without,
            s.accuracy_with,
            s.p_holm,
            "yes" if s.confirmed else "no",
            ", ".join(s.examples[:3]),
        ]
        for s in discovery.slices_
    ]
    return runs.Table(
        "Hypotheses, tested on the validation rows",
        [
            "class",
            "attribute",
            "without",
            "with",
            "accuracy without",
            "accuracy with",
            "p (Holm)",
            "confirmed",
            "examples",
        ],
        rows,
        f"Without: rows of the class whose similarity to the attribute is below percentile {discovery.percentile:g} of "
        f"{'all rows' if discovery.percentile_scope == 'split' else 'the class'}. "
        f"Confirmed: their error is at least {discovery.margin:g} above the class's. The p-value allows for all "
        "hypotheses tested, not for having searched for them on these rows.",
    )


def _sentence_table(discovery: SliceDiscovery) -> runs.Table:
    names, kept = discovery.class_names_, discovery.top_sentences_
    rows: list[list[Any]] = [
        [names[c], place + 1, text[:120]] for c, texts in kept.items() for place, text in enumerate(texts[:5])
    ]
    return runs.Table(
        "Sentences nearest to what correct rows have and wrong rows lack", ["class", "rank", "sentence"], rows
    )


def _rectified_table(tested: dict[str, dict[str, Any]]) -> runs.Table:
    with_groups = "worst group" in tested[BEFORE]
    classes = list(tested[BEFORE]["by class"])
    columns = ["method", "accuracy", *(["worst group"] if with_groups else []), *(f"class {c}" for c in classes)]
    rows: list[list[Any]] = []
    for name, one in tested.items():
        group = [one["worst group"]] if with_groups else []
        rows.append([name, one["accuracy"].estimate, *group, *one["by class"].values()])
    return runs.Table(
        "Test rows",
        columns,
        rows,
        "The control retrains the last layer on a random subset of the same size: what it gains needs no slices. "
        "One predictor without access to labels predicts all rows."
        if CONTROL in tested
        else "",
    )


def _example_table(task: Task, discovery: SliceDiscovery) -> runs.Table:
    """Texts of confirmed slices; nothing for images, which are in the figure."""
    rows: list[list[Any]] = []
    if task.items is not None and len(task.items) and isinstance(task.items[0], str):
        places = {name: i for i, name in enumerate(task.ids)}
        for position in discovery.confirmed_[: figures.MOST_BARS]:
            found = discovery.slices_[position]
            texts = [(name, task.items[places[name]]) for name in found.examples[:3]]
            rows += [[found.class_name, found.name, name, " ".join(text.split())[:160]] for name, text in texts]
    return runs.Table("Examples without the attribute", ["class", "attribute missing", "id", "text"], rows)


def _slices_figure(task: Task, discovery: SliceDiscovery) -> runs.Figure:
    shown: dict[int, list[np.ndarray]] = {}
    if task.items is not None and len(task.items) and isinstance(task.items[0], np.ndarray):
        places = {name: i for i, name in enumerate(task.ids)}
        for position, found in enumerate(discovery.slices_[: figures.MOST_BARS]):
            shown[position] = [task.items[places[e]] for e in found.examples[: figures.THUMBNAILS]]
    caption = "A star marks confirmed hypotheses."
    if shown:
        caption += " Right: rows without the attribute, wrongly classified ones first."
    return runs.Figure(
        "Accuracy with and without each attribute", figures.slices_figure(discovery.slices_, shown), caption
    )


def _doubts(
    task: Task, discovery: SliceDiscovery, rectifier: SliceRectifier, tested: dict[str, dict[str, Any]]
) -> list[str]:
    found = []
    if not discovery.aligner_.r2_ >= 0.1:
        found.append(
            f"The map from features to the space of texts explains {max(discovery.aligner_.r2_, 0):.1%} of the "
            "variance: names of slices mean little."
        )
    if OURS in tested and "worst group" in tested[OURS]:
        gain = tested[OURS]["worst group"] - tested[CONTROL]["worst group"]
        if gain <= 0:
            found.append(
                "Retraining on a random subset repairs the worst group as much: the validation rows are balanced "
                "already, or the slices are not the cause."
            )
    found += [n for n in rectifier.notes_ if "left as it is" not in n]
    return found


def _headline(discovery: SliceDiscovery, rectifier: SliceRectifier, tested: dict[str, dict[str, Any]]) -> str:
    confirmed = [discovery.slices_[i] for i in discovery.confirmed_]
    tried = len(discovery.slices_)
    if confirmed:
        worst = max(confirmed, key=lambda s: s.gap)
        text = (
            f"The classifier gets {worst.accuracy_without:.0%} of class {worst.class_name!r} right where "
            f"{worst.name!r} is missing, {worst.accuracy_with:.0%} where it is present; {len(confirmed)} of {tried} "
            "hypotheses are confirmed."
        )
    else:
        tests = f"none of {tried} hypotheses raises the error of its class by {discovery.margin:g}"
        text = f"No slice is confirmed: {tests if tried else 'there is no hypothesis to test'}."
        text += "" if rectifier.changed_ else " The classifier is left as it is."
    if OURS in tested and "worst group" in tested[OURS]:
        text += (
            f" Rectified, the worst group goes from {tested[BEFORE]['worst group']:.0%} to "
            f"{tested[OURS]['worst group']:.0%} (random control {tested[CONTROL]['worst group']:.0%})."
        )
    elif OURS in tested:
        text += (
            f" Rectified, the test accuracy goes from {tested[BEFORE]['accuracy'].estimate:.1%} to "
            f"{tested[OURS]['accuracy'].estimate:.1%}."
        )
    return text


def _metrics(discovery: SliceDiscovery, tested: dict[str, dict[str, Any]]) -> dict[str, float]:
    gaps = [s.gap for s in discovery.slices_ if s.gap == s.gap]
    found: dict[str, float] = {"confirmed": len(discovery.confirmed_), "hypotheses": len(discovery.slices_)}
    if gaps:
        found["largest gap"] = max(gaps)
    found["aligner R2"] = discovery.aligner_.r2_
    found["aligner mean squared error"] = discovery.aligner_.mse_
    for name, key in ((BEFORE, "before"), (OURS, "after"), (CONTROL, "random control"), (ORACLE, "DFR")):
        if name in tested:
            found[f"accuracy {key}"] = tested[name]["accuracy"].estimate
            if "worst group" in tested[name]:
                found[f"worst group {key}"] = tested[name]["worst group"]
    return found


def _save(run: runs.Run, task: Task, discovery: SliceDiscovery, rectifier: SliceRectifier) -> list[runs.ReportFile]:
    import pandas as pd

    discovery.save(run.output("discovery"))
    write_text(run.files / "slices.csv", discovery.report().to_csv(index=False))
    write_text(run.files / "report.md", discovery.to_markdown())
    members = discovery.transform(task.features["val"])
    soft = discovery.soft_membership(task.features["val"])
    columns: dict[str, Any] = {"id": task.ids, "class": [task.class_names[int(c)] for c in np.asarray(task.y["val"])]}
    for position, found in enumerate(discovery.slices_):
        name = f"{found.class_name}: without {found.name}"
        columns[name] = np.where(members[:, position], soft[:, position], 0.0).round(6)
    write_text(run.files / "membership.csv", pd.DataFrame(columns).to_csv(index=False))
    files = [
        runs.ReportFile("report.md", "the slices in words, with examples"),
        runs.ReportFile("slices.csv", "the same as a table"),
        runs.ReportFile("membership.csv", "soft membership of each validation row in each slice, 0 outside"),
        runs.ReportFile("discovery", "the discovery: SliceDiscovery.load"),
    ]
    if rectifier.changed_:
        rectifier.save(run.output("rectified_head.safetensors"))
        files.append(
            runs.ReportFile("rectified_head.safetensors", "the new last layer: RectifiedHead.load, an nn.Module")
        )
    return files
