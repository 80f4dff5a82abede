"""The run that marks the slices of scans with a classifier that was trained."""

from __future__ import annotations

import json

import numpy as np

from paperworks import runs
from paperworks.papers.petct_slices.config import Config
from paperworks.papers.petct_slices.evaluation import Evaluation, evaluate
from paperworks.papers.petct_slices.reporting import marked_report
from paperworks.papers.petct_slices.scans_of_run import read_table, write_ranges, write_slices
from paperworks.papers.petct_slices.slice_classifier import SliceClassifier
from paperworks.papers.petct_slices.thresholds import case_scores, median_of_three, z_ranges
from paperworks.runs.files import write_text

SEEDS = 2**31


def mark(config: Config, run: runs.Run) -> runs.Report:
    """Probabilities, marked slices and their heights; figures where the scans have masks."""
    classifier = SliceClassifier.from_pretrained(str(config.model), config.device)
    size, spacing = classifier.options.image_size, classifier.options.spacing
    table = read_table(config, run, size=size, require_masks=False, spacing=spacing)
    run.step("marking slices")
    probabilities = classifier.predict_proba(table, progress=run.progress)
    if config.smooth:
        probabilities = median_of_three(probabilities, table.rows["case_id"].to_numpy())
    ranges = z_ranges(table.rows, probabilities, classifier.threshold_)
    scores = case_scores(table.rows["case_id"].to_numpy(), probabilities)
    found: Evaluation | None = None
    files = [
        runs.ReportFile("slices.csv", "every slice: place, probability, whether it is marked"),
        runs.ReportFile("ranges.csv", "runs of marked slices, in mm"),
    ]
    write_slices(run.output("slices.csv"), table.rows, probabilities, classifier.threshold_)
    write_ranges(run.output("ranges.csv"), ranges)
    labelled = np.flatnonzero(table.labels >= 0)
    if len(labelled):
        found = evaluate(
            table.rows.iloc[labelled],
            probabilities[labelled],
            threshold=classifier.threshold_,
            n_boot=config.n_boot,
            seed=config.seed % SEEDS,
            progress=run.progress,
        )
        write_text(run.output("evaluation.json"), json.dumps(found.to_dict(), indent=1))
        files.append(runs.ReportFile("evaluation.json", "all figures of the scans that have a mask"))
    picks = [("most probable", int(row)) for row in np.argsort(-probabilities, kind="stable")[:8]]
    maps = classifier.explain(table, np.array([row for _, row in picks]), config.cam)
    return marked_report(config, table, classifier, probabilities, ranges, scores, found, picks, maps, files)
