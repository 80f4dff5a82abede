"""The run that trains on some patients and tests on others."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass

import numpy as np

from paperworks import runs
from paperworks.errors import InputError
from paperworks.metrics import AucComparison, compare_auc, roc_auc
from paperworks.papers.petct_slices.baselines import baseline_scores
from paperworks.papers.petct_slices.config import Config
from paperworks.papers.petct_slices.evaluation import Evaluation, evaluate
from paperworks.papers.petct_slices.explanation import correctly_localised, lroc_curve, montage_rows
from paperworks.papers.petct_slices.reporting import tested_report
from paperworks.papers.petct_slices.scans_of_run import read_table, require_options, write_ranges, write_slices
from paperworks.papers.petct_slices.slice_classifier import SliceClassifier
from paperworks.papers.petct_slices.slice_table import SliceTable
from paperworks.papers.petct_slices.splits import Leak, leave_center_out, patient_split, slice_split
from paperworks.papers.petct_slices.thresholds import ZRange, median_of_three, z_ranges
from paperworks.runs.files import write_text

SEEDS = 2**31
_MOST_MAPPED = 2000


@dataclass(frozen=True)
class Tested:
    """What the test showed, for the report."""

    table: SliceTable
    classifier: SliceClassifier
    train: np.ndarray
    test: np.ndarray
    leak: Leak | None
    probabilities: np.ndarray
    evaluation: Evaluation
    baselines: dict[str, float]
    best: str
    comparison: AucComparison | None
    lroc: tuple[np.ndarray, np.ndarray, float] | None
    localised: float
    picks: list[tuple[str, int]]
    maps: np.ndarray
    ranges: list[ZRange]
    notes: list[str]


def train_and_test(config: Config, run: runs.Run) -> runs.Report:
    """Read, split, train, test, compare with simple baselines, and explain."""
    require_options(config)
    table = read_table(config, run, size=config.size, require_masks=True)
    train, test, leak = _split(config, table)
    classifier = _classifier(config)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", UserWarning)
        validation = None
        if leak is not None:  # the leak is to be measured as people make it: also the validation is by slice
            inner, held, _ = slice_split(
                table.rows.iloc[train], config.validation_size, config.seed % SEEDS, allow_leakage=True
            )
            validation = train[held]
            train = train[inner]
        run.step("training")
        classifier.fit(
            table, train, validation_rows=validation, checkpoint_dir=run.state / "training", progress=run.progress
        )
    notes = [
        str(w.message) for w in said if issubclass(w.category, UserWarning) and "overestimates" not in str(w.message)
    ]
    run.step("testing")
    tested = _tested(config, run, table, classifier, train, test, leak, notes)
    return tested_report(config, tested, _written(config, run, tested))


def _classifier(config: Config) -> SliceClassifier:
    pretrained = config.backbone is not None
    return SliceClassifier(
        config.input,
        config.regime,
        backbone_path=config.backbone,
        device=config.device,
        random_state=config.seed % SEEDS,
        caw=config.caw,
        channels=config.channels,
        image_size=config.size,
        network=config.architecture,
        pet_window=config.pet_window or ((0.0, 50.0) if pretrained else (0.0, 15.0)),
        ct_window=config.ct_window,
        pet_scale=config.pet_scale,
        normalise=config.normalise,
        loss=config.loss,
        gamma=config.gamma,
        alpha=config.alpha,
        pos_weight=config.pos_weight,
        augment=config.augment,
        epochs=config.epochs,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate or (1e-4 if pretrained else 1e-3),
        weight_decay=config.weight_decay,
        validation_size=config.validation_size,
        threshold=config.threshold,
        spacing=config.grid,
    )


def _split(config: Config, table: SliceTable) -> tuple[np.ndarray, np.ndarray, Leak | None]:
    seed = config.seed % SEEDS
    if config.split == "slice":
        return slice_split(table, config.test_size, seed, allow_leakage=config.allow_leakage)
    if config.split == "center":
        return *leave_center_out(table, str(config.test_center)), None
    return *patient_split(table, config.test_size, seed), None


def _tested(
    config: Config,
    run: runs.Run,
    table: SliceTable,
    classifier: SliceClassifier,
    train: np.ndarray,
    test: np.ndarray,
    leak: Leak | None,
    notes: list[str],
) -> Tested:
    rows = table.rows.iloc[test]
    probabilities = classifier.predict_proba(table, test, progress=run.progress)
    if config.smooth and leak is None:
        probabilities = median_of_three(probabilities, rows["case_id"].to_numpy())
    elif config.smooth:
        notes.append("Probabilities were not smoothed: with split slice, neighbours are in the training set.")
    found = evaluate(
        rows,
        probabilities,
        threshold=classifier.threshold_,
        n_boot=config.n_boot,
        seed=config.seed % SEEDS,
        progress=run.progress,
    )
    scores = baseline_scores(table, train, test, config.seed % SEEDS)
    labels = table.labels[test]
    areas = {name: roc_auc(labels, score) for name, score in scores.items()}
    best = max(areas, key=lambda name: -1 if np.isnan(areas[name]) else areas[name])
    comparison = None
    if config.n_boot:
        try:
            comparison = compare_auc(
                labels,
                probabilities,
                scores[best],
                table.patients[test],
                n_boot=config.n_boot,
                seed=config.seed % SEEDS,
            )
        except InputError as error:
            notes.append(f"The network was not tested against the baselines: {error.field}, {error.found}.")
    lroc, share = _localised(config, run, table, classifier, test, probabilities)
    picks = montage_rows(probabilities, labels)
    maps = classifier.explain(table, test[[row for _, row in picks]], config.cam)
    ranges = [] if leak is not None else z_ranges(rows, probabilities, classifier.threshold_)
    return Tested(
        table=table,
        classifier=classifier,
        train=train,
        test=test,
        leak=leak,
        probabilities=probabilities,
        evaluation=found,
        baselines=areas,
        best=best,
        comparison=comparison,
        lroc=lroc,
        localised=share,
        picks=picks,
        maps=maps,
        ranges=ranges,
        notes=notes,
    )


def _localised(
    config: Config,
    run: runs.Run,
    table: SliceTable,
    classifier: SliceClassifier,
    test: np.ndarray,
    probabilities: np.ndarray,
) -> tuple[tuple[np.ndarray, np.ndarray, float] | None, float]:
    """LROC, and the share of positive slices whose map points at the lesion."""
    labels = table.labels[test]
    positive = np.flatnonzero(labels == 1)[:_MOST_MAPPED]
    if not len(positive) or len(positive) == len(labels):
        return None, float("nan")
    maps = classifier.explain(table, test[positive], config.cam, progress=run.progress)
    right = correctly_localised(maps, table.images("mask", test[positive]))
    localised = np.zeros(len(labels), dtype=bool)
    localised[positive] = right
    kept = np.ones(len(labels), dtype=bool)
    kept[np.flatnonzero(labels == 1)[_MOST_MAPPED:]] = False
    return lroc_curve(labels[kept], probabilities[kept], localised[kept]), float(right.mean())


def _written(config: Config, run: runs.Run, tested: Tested) -> list[runs.ReportFile]:
    classifier, found = tested.classifier, tested.evaluation
    rows = tested.table.rows.iloc[tested.test]
    classifier.save_pretrained(run.output("classifier"))
    write_slices(run.output("slices.csv"), rows, tested.probabilities, classifier.threshold_)
    write_text(run.output("evaluation.json"), json.dumps(found.to_dict(), indent=1))
    write_text(run.output("evaluation.md"), found.to_markdown())
    files = [
        runs.ReportFile("classifier", "the network, and how its input is made (paperworks run petct-slices --model)"),
        runs.ReportFile("slices.csv", "every test slice: pseudonyms, place, label, probability, whether it is marked"),
        runs.ReportFile("evaluation.json", "all figures with intervals, by center and disease, per scan"),
        runs.ReportFile("evaluation.md", "the same as Markdown"),
    ]
    if tested.leak is None:
        write_ranges(run.output("ranges.csv"), tested.ranges)
        files.append(runs.ReportFile("ranges.csv", "runs of marked slices, in mm"))
    if config.onnx:
        from paperworks.papers.petct_slices.onnx_file import export_onnx

        export_onnx(classifier, run.output("network.onnx"))
        files.append(runs.ReportFile("network.onnx", "the network as ONNX: slices to probabilities"))
    return files
