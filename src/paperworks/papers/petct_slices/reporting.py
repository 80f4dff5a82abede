"""The reports: of a test, and of scans that were marked."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from paperworks import runs
from paperworks.papers.petct_slices.config import Config
from paperworks.papers.petct_slices.evaluation import AT_THRESHOLD, METRICS, Evaluation, slice_metrics
from paperworks.papers.petct_slices.figures import (
    curves_figure,
    montage_figure,
    sensitivity_figure,
    strip_figure,
)
from paperworks.papers.petct_slices.scans_of_run import NOTICE, SIMULATED, ranges_table
from paperworks.papers.petct_slices.slice_classifier import SliceClassifier
from paperworks.papers.petct_slices.slice_table import SliceTable
from paperworks.papers.petct_slices.thresholds import ZRange

if TYPE_CHECKING:
    from paperworks.papers.petct_slices.training_run import Tested

PUBLISHED = {
    "AUROC": 0.923,
    "AUPRC": 0.821,
    "sensitivity": 0.732,
    "specificity": 0.957,
    "PPV": 0.786,
    "NPV": 0.944,
    "accuracy": 0.918,
    "F1": 0.758,
}
"""Of the predictions published with the authors' follow-up code: 27,609 slices of 92 scans, 17.6 % positive."""
_LABELS = {
    "AUROC": "AUROC on slices of test patients",
    "AUPRC": "AUPRC (average precision)",
    "prevalence": "share of positive slices, what AUPRC is by chance",
    "sensitivity": "sensitivity at the threshold",
    "specificity": "specificity at the threshold",
}
_MONTAGE = "PET, dark is high (SUV 0 to 10). In colour: the class-activation map. Blue line: the lesion mask."


def tested_report(config: Config, tested: Tested, files: list[runs.ReportFile]) -> runs.Report:
    """The report of a test."""
    found = tested.evaluation
    rows = tested.table.rows.iloc[tested.test]
    metrics = {name: value for name, value in found.metrics.items() if math.isfinite(value)}
    metrics["prevalence"] = found.positive / found.slices
    metrics |= {f"AUROC, {name}": area for name, area in tested.baselines.items() if math.isfinite(area)}
    if tested.lroc is not None:
        metrics |= {"LROC": tested.lroc[2], "localised": tested.localised}
    tables = [
        _figures_table(found, tested.classifier.threshold_),
        _baseline_table(tested),
        _groups_table(found),
        _strata_table(found),
        _voxels_table(tested),
    ]
    if tested.leak is None:
        tables.append(ranges_table(tested.ranges))
    kinds = [kind for kind, _ in tested.picks]
    places = np.array([row for _, row in tested.picks])
    figures = [
        runs.Figure(
            "Slices and what the network saw",
            montage_figure(tested.table, tested.test[places], kinds, tested.probabilities[places], tested.maps),
            f"{_MONTAGE} Maps by {config.cam}.",
        ),
        runs.Figure(
            "Curves and calibration",
            curves_figure(rows, tested.probabilities, tested.lroc),
            "Left: receiver operating characteristic; dashed: only slices whose map points at the lesion are found. "
            "Right: calibration; on the line, probabilities are shares.",
        ),
    ]
    if tested.leak is None:
        strip = runs.Figure(
            "Probability along the scans",
            strip_figure(rows, tested.probabilities, tested.classifier.threshold_),
            "The first test scans. Red: slices that cut a lesion. Dashed: the threshold.",
        )
        figures.insert(1, strip)
    if len(found.per_case):
        figures.append(
            runs.Figure(
                "Sensitivity by scan and by lesion",
                sensitivity_figure(found.per_case, found.strata),
                "Left: a point per scan with positive slices. Right: shares of positive slices that were marked; their "
                "number in brackets. Edge: first or last slice of a run of positive slices.",
            )
        )
    return runs.Report(
        headline=_headline(tested),
        metrics=metrics,
        labels={name: label for name, label in _LABELS.items() if name in metrics},
        tables=tables,
        figures=figures,
        files=files,
        lead=_lead(config, tested),
        notes=_notes(config, tested),
    )


def _headline(tested: Tested) -> str:
    found = tested.evaluation
    area, interval = found.metrics["AUROC"], found.intervals.get("AUROC")
    ends = "" if interval is None else f" (95 % interval over patients {interval.low:.3f} to {interval.high:.3f})"
    many = "patient" if found.patients == 1 else "patients"
    whose = f"{many} that it never saw" if tested.leak is None else f"{many} that it trained on"
    if math.isnan(area):
        return f"The {found.slices:,} test slices are of one class: nothing can be said of how they were told apart."
    return (
        f"AUROC {area:.3f}{ends} on {found.slices:,} slices of {found.patients} {whose}; the best of five simple "
        f"baselines, {tested.best}, has {tested.baselines[tested.best]:.3f}. {_verdict(tested)}"
    )


def _verdict(tested: Tested) -> str:
    area, best = tested.evaluation.metrics["AUROC"], tested.baselines[tested.best]
    if area <= best:
        return "The network does not beat it."
    if tested.comparison is None:
        return "Too few patients or no resamples: whether the network is better was not tested."
    if tested.comparison.difference.low <= 0:
        return "The difference is within what other patients could reverse."
    return "The network is better."


def _lead(config: Config, tested: Tested) -> list[str]:
    table, rows = tested.table, tested.table.rows
    lead = [NOTICE]
    if config.simulated:
        lead.append(SIMULATED)
    if tested.leak is not None:
        lead.append(
            f"These figures overestimate: the slices were split one by one, and {tested.leak.patient_share:.1%} of the "
            f"test slices are of patients with slices in the training set; half of them are at most "
            f"{tested.leak.median_slices:.0f} slice(s), {tested.leak.median_mm:.3g} mm, from a training slice."
        )
    positive = int((table.labels == 1).sum())
    held = tested.classifier.fit_
    validation = 0 if held is None else len(held.validation_rows)
    lead.append(
        f"{rows['case_id'].nunique()} scans of {rows['patient_id'].nunique()} patients, {len(table):,} slices, "
        f"{positive:,} of them positive ({positive / len(table):.1%}). Trained on "
        f"{len(tested.train) - (validation if tested.leak is None else 0):,} slices, epoch and threshold chosen on "
        f"{validation:,}, tested on {len(tested.test):,}."
    )
    if config.architecture == "small":
        lead.append("The network is a small one; --network resnet18 is the paper's.")
    if len(set(tested.table.patients[tested.test])) < 10:
        lead.append("Fewer than 10 test patients: the intervals are rough.")
    return lead


def _notes(config: Config, tested: Tested) -> list[str]:
    intervals = tested.evaluation.intervals.values()
    skipped = sum(interval.skipped for interval in intervals)
    notes = [
        "Intervals draw whole patients again: slices of one patient are not independent.",
        "AUPRC depends on the share of positive slices: compare it only where that share is the same.",
        "Ids are pseudonyms (a keyed hash); --key-file makes them unguessable, --keep-ids writes them as they are."
        if not config.keep_ids
        else "Ids are written as they were given (keep_ids).",
    ]
    if skipped:
        why = "one class only, or no finite slope of the calibration"
        notes.append(f"{skipped} resamples on which a figure was undefined were skipped ({why}).")
    if config.architecture == "small":
        notes.append("The last stage of the small network has few pixels: its maps are coarse, and LROC is low for it.")
    window = tested.classifier.options.pet_window
    if config.pet_window is None and "pet" in tested.classifier.options.inputs().channels:
        notes.append(f"SUV {window[0]:g} to {window[1]:g} were mapped to 0 and 1.")
    return [*notes, *tested.notes, *tested.table.notes]


def _figures_table(found: Evaluation, threshold: float) -> runs.Table:
    rows: list[list[runs.report.Cell]] = []
    for name in METRICS:
        interval = found.intervals.get(name)
        ends = "" if interval is None else f"{interval.low:.3f} to {interval.high:.3f}"
        value = found.metrics[name]
        rows.append([name, None if math.isnan(value) else value, ends, PUBLISHED.get(name)])
    note = (
        f"Threshold {threshold:.3g}. The published predictions are of 92 scans of lymphoma patients (17.6 % of the "
        "slices positive), by a model of the authors; they are no figures to be reached on other scans."
    )
    return runs.Table("Figures", ["figure", "here", "95 % interval", "published predictions"], rows, note)


def _baseline_table(tested: Tested) -> runs.Table:
    rows: list[list[runs.report.Cell]] = [["the network", tested.evaluation.metrics["AUROC"], ""]]
    for name, area in sorted(tested.baselines.items(), key=lambda item: -item[1]):
        words = ""
        if name == tested.best and tested.comparison is not None:
            d = tested.comparison.difference
            words = f"{d.estimate:+.3f} ({d.low:+.3f} to {d.high:+.3f}), p = {tested.comparison.p_value:.3g}"
        rows.append([name, area, words])
    return runs.Table(
        "Beside simple baselines",
        ["", "AUROC", "network minus baseline"],
        rows,
        "The difference to the best baseline on the same slices, patients drawn again.",
    )


def _groups_table(found: Evaluation) -> runs.Table:
    names = ("AUROC", "AUPRC", *AT_THRESHOLD[:2])
    rows = [
        [row["name"], row["patients"], row["slices"], row["prevalence"], *(_number(row[name]) for name in names)]
        for row in found.by_group.to_dict("records")
    ]
    columns = ["slices of", "patients", "slices", "positive, share", *names]
    return runs.Table("By center and disease", columns, rows)


def _strata_table(found: Evaluation) -> runs.Table:
    rows = [
        [r["by"], r["slices of"], r["positive"], _number(r["sensitivity"])] for r in found.strata.to_dict("records")
    ]
    note = "The first and last slices of a lesion hold a few voxels of it."
    return runs.Table("Positive slices that were marked", ["by", "slices of", "positive", "sensitivity"], rows, note)


def _voxels_table(tested: Tested) -> runs.Table:
    rows: list[list[runs.report.Cell]] = []
    for least in (1, 2, 5, 10):
        labels = tested.table.labels_of(least)[tested.test]
        figures = slice_metrics(labels, tested.probabilities, tested.classifier.threshold_)
        values = [_number(figures[name]) for name in ("AUROC", "AUPRC", "sensitivity", "specificity")]
        rows.append([least, int(labels.sum()), *values])
    return runs.Table(
        "If a slice is positive only from so many lesion voxels on",
        ["voxels", "positive slices", "AUROC", "AUPRC", "sensitivity", "specificity"],
        rows,
        "One or two voxels decide the label of edge slices. Training used one voxel.",
    )


def marked_report(
    config: Config,
    table: SliceTable,
    classifier: SliceClassifier,
    probabilities: np.ndarray,
    ranges: list[ZRange],
    scores: dict[str, float],
    found: Evaluation | None,
    picks: list[tuple[str, int]],
    maps: np.ndarray,
    files: list[runs.ReportFile],
) -> runs.Report:
    """The report of scans that were marked."""
    marked = int((probabilities >= classifier.threshold_).sum())
    lead = [NOTICE]
    if config.simulated and config.pet is None:
        lead.append(SIMULATED)
    lead.append(f"{len(scores)} scan(s), {len(table):,} slices; threshold {classifier.threshold_:.3g}.")
    unknown = sorted(set(table.rows["center"].astype(str)) - set(classifier.centers_) - {""})
    if unknown:
        lead.append(f"Scans of {len(unknown)} center(s) that the classifier never saw.")
    metrics: dict[str, float] = {"marked slices": marked, "runs of marked slices": len(ranges)}
    tables = [ranges_table(ranges)]
    if found is not None:
        metrics |= {name: value for name, value in found.metrics.items() if math.isfinite(value)}
        tables += [_figures_table(found, classifier.threshold_), _groups_table(found), _strata_table(found)]
    most = sorted(scores.items(), key=lambda item: -item[1])[:20]
    tables.append(
        runs.Table("Scans by their highest probability", ["scan", "highest probability"], [[*s] for s in most])
    )
    kinds, places = [kind for kind, _ in picks], np.array([row for _, row in picks])
    figures = [
        runs.Figure(
            "The most probable slices",
            montage_figure(table, places, kinds, probabilities[places], maps),
            f"{_MONTAGE} Maps by {config.cam}.",
        ),
        runs.Figure(
            "Probability along the scans",
            strip_figure(table.rows, probabilities, classifier.threshold_),
            "The first scans. Dashed: the threshold. Red, where there is a mask: slices that cut a lesion.",
        ),
    ]
    return runs.Report(
        headline=f"{marked:,} of {len(table):,} slices are marked, in {len(ranges)} runs, in "
        f"{len({r.case_id for r in ranges})} of {len(scores)} scan(s).",
        metrics=metrics,
        tables=tables,
        figures=figures,
        files=files,
        lead=lead,
        notes=table.notes,
    )


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
