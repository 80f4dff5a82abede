"""Loki on a user's own classifier outputs, or on a table: predict labels that were never seen in training."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from paperworks import runs
from paperworks.errors import InputError
from paperworks.inputs.options import TableOptions
from paperworks.runs.files import write_text

if TYPE_CHECKING:
    import numpy as np

    from paperworks.papers.loki.evaluation import Score
    from paperworks.papers.loki.frechet import FrechetMean
    from paperworks.papers.loki.spaces import LabelSpace
    from paperworks.papers.loki.tasks import Task

BUNDLED = ("diabetes",)


class Config(TableOptions):
    """Options of ``paperworks run loki``."""

    other_names: ClassVar = {"target": "label"}
    error_names: ClassVar = {"embeddings": "space", "edges": "space", "distances": "space", "observed": "label"}

    data: Annotated[str, runs.File(BUNDLED)] = Field(
        "diabetes", description="table to train a classifier on: a .csv, .tsv or .parquet file, or diabetes"
    )
    label: str | None = Field(None, description="column with the label (of the table, or of the probabilities)")
    probabilities: Annotated[str | None, runs.File()] = Field(
        None,
        description="outputs of your own classifier instead of a table: a .csv, .tsv or .parquet file with one column "
        "per class that it knows, or a .npz file with probabilities, classes and, if known, labels",
    )
    space: Annotated[str, runs.File(("ordinal", "cycle", "complete"))] = Field(
        "ordinal",
        description="the labels and their distances: ordinal, cycle or complete (labels in sorted order), or a file "
        "with edges (parent, child, weight), a distance matrix, or embeddings (.csv, .tsv, .parquet, .npy, .npz)",
    )
    space_kind: Literal["auto", "edges", "distances", "embeddings"] = Field(
        "auto", description="what the file of the label space holds"
    )
    leaves_only: bool = Field(False, description="edges: only the leaves are labels")
    spanning_tree: bool = Field(False, description="edges with cycles: use a spanning tree, first parents first")
    bins: int = Field(20, ge=2, le=1000, description="a numeric label is cut into this many quantiles (ordinal space)")
    observed: tuple[str, ...] = Field((), description="labels to train on; default the ones that reach the most")
    observe: int = Field(4, ge=1, le=100_000, description="number of labels to train on, if observed names none")
    temperature: str = Field(
        "1", description="the probabilities are used as p^(1/T): a number above 0, calibrate or calibrate-cost"
    )
    tie: Literal["first", "nearest-observed"] = Field("first", description="which of several equally good labels")
    folds: int = Field(5, ge=2, le=50, description="folds of cross-validation (table)")
    repeats: int = Field(2, ge=1, le=100, description="repetitions of the cross-validation with other folds (table)")
    suggest: int = Field(3, ge=0, le=1000, description="labels to collect next that are named in the report")

    @model_validator(mode="after")
    def _together(self) -> Config:
        if self.temperature not in ("calibrate", "calibrate-cost"):
            try:
                value = float(self.temperature)
            except ValueError:
                value = -1.0
            if not 0 < value < float("inf"):
                raise InputError("temperature", repr(self.temperature), "a number above 0, calibrate or calibrate-cost")
        if self.probabilities is not None:
            for name in ("data", "bins", "folds", "repeats", "observe", "observed"):
                if getattr(self, name) != type(self).model_fields[name].default:
                    raise InputError(name, "an option for tables, beside probabilities", "one of the two")
        return self


def run(config: Config, run: runs.Run) -> runs.Report:
    """Predict labels that the classifier has never seen, and set the cost beside argmax and a constant."""
    from paperworks.papers.loki import tasks

    if config.probabilities is not None:
        run.step(f"reading {config.probabilities}")
        task = tasks.from_probabilities(config)
    else:
        run.step(f"reading {config.data}")
        task = tasks.from_table(config, run)
    run.step(f"{len(task.mean.observed)} observed labels of {len(task.mean.space)}")
    return _report(config, run, task)


def _report(config: Config, run: runs.Run, task: Task) -> runs.Report:
    import numpy as np

    from paperworks.papers.loki import evaluation, figures
    from paperworks.papers.loki.loci import MANY, locus
    from paperworks.papers.loki.selection import next_class

    space, mean = task.mean.space, task.mean
    reached: np.ndarray | None = None
    on_tree = space.kind == "tree" and getattr(space, "whole", False)
    if on_tree or len(space) <= MANY // 4:
        run.step("labels that can be reached")
        reached = locus(space, mean.observed, progress=run.progress)
    notes = []
    if reached is None:
        notes.append(f"Which of the {len(space)} labels can be reached was not computed: one linear program for each.")
    scores: list[Score] = []
    if task.truth is not None:
        scores = evaluation.evaluate(
            mean, task.weights, task.truth, training_labels=task.training_labels, reached=reached
        )
    tables = [_score_table(scores)] if scores else []
    suggested: list[int] = []
    if reached is not None and config.suggest and len(reached) < len(space):
        suggested = next_class(space, mean.observed, k=config.suggest).tolist()
        tables.append(_next_table(space, mean, suggested, reached))
    drawn = [
        runs.Figure(
            "The label space",
            figures.draw_space(space, mean.observed, reached),
            "Observed labels were seen in training. Reachable labels can be predicted for some probabilities.",
        )
    ]
    if scores:
        drawn.append(
            runs.Figure("What a prediction costs", figures.draw_scores(scores), "Held-out rows; less is better.")
        )
        if len(space) <= 60 and task.truth is not None:
            argmax = mean.observed[np.argmax(task.weights, axis=1)]
            loki = mean.predict(task.weights, tie=config.tie)
            counts = figures.draw_predictions(space, task.truth, {"argmax": argmax, "Loki": loki})
            drawn.append(runs.Figure("True and predicted labels", counts, "Number of held-out rows per label."))
    files = _save(config, run, task, reached, suggested)
    return runs.Report(
        headline=_headline(task, scores, reached),
        metrics=_metrics(space, mean, scores, reached),
        tables=tables,
        figures=drawn,
        files=files,
        lead=list(task.notes),
        notes=notes,
    )


def _headline(task: Task, scores: list[Score], reached: np.ndarray | None) -> str:
    space, mean = task.mean.space, task.mean
    known = len(set(mean.observed.tolist()))
    if not scores:
        reach = "" if reached is None else f"; {len(reached)} can be reached"
        return f"{len(task.weights)} rows were given labels among {len(space)}, of which {known} were seen{reach}"
    by_name = {s.name: s for s in scores}
    loki, argmax, constant = by_name["Loki"], by_name["argmax"], by_name["best constant label"]
    text = (
        f"Mean squared distance {loki.squared:.3g} over {len(space)} labels with {known} of them seen in training: "
        f"argmax {argmax.squared:.3g}, best constant label {constant.squared:.3g}"
    )
    if loki.squared >= argmax.squared:
        text += ". Loki is no better than argmax here"
    elif loki.squared >= constant.squared:
        text += ". Loki is no better than a constant label here: the gain over argmax is hedging"
    return text


def _metrics(space: LabelSpace, mean: FrechetMean, scores: list[Score], reached: np.ndarray | None) -> dict[str, float]:
    found: dict[str, float] = {"labels": len(space), "observed": len(set(mean.observed.tolist()))}
    if reached is not None:
        found["reachable"] = len(reached)
    for s in scores:
        if s.name in ("Loki", "argmax", "best constant label"):
            found[f"squared distance, {s.name}"] = s.squared
    return found


def _score_table(scores: list[Score]) -> runs.Table:
    hierarchical = any(s.precision == s.precision for s in scores)
    columns = ["rule", "mean squared distance", "mean distance", "accuracy", "unseen labels", "labels predicted"]
    rows: list[list[Any]] = []
    for s in scores:
        row: list[Any] = [s.name, s.squared, s.distance, s.accuracy, s.unobserved, s.distinct]
        if hierarchical:  # neither is defined where every prediction, or every truth, is the root
            row += [None if math.isnan(figure) else figure for figure in (s.precision, s.recall)]
        rows.append(row)
    if hierarchical:
        columns += ["ancestor precision", "ancestor recall"]
    return runs.Table(
        "Held-out rows",
        columns,
        rows,
        "A gain over argmax counts only where the best constant label is beaten too. 'nearest reachable label' is a "
        "lower bound for any rule that outputs reachable labels.",
    )


def _next_table(space: LabelSpace, mean: FrechetMean, chosen: list[int], reached: np.ndarray) -> runs.Table:
    from paperworks.papers.loki.loci import locus

    rows: list[list[Any]] = []
    known, before = mean.observed.tolist(), len(reached)
    for label in chosen:
        known = [*known, label]
        after = len(locus(space, known))
        rows.append([str(space.labels[label]), after - before, after])
        before = after
    return runs.Table(
        "Labels to collect next",
        ["label", "newly reachable", "reachable then"],
        rows,
        "Each is the label farthest from all that can be reached so far.",
    )


def _save(
    config: Config, run: runs.Run, task: Task, reached: np.ndarray | None, suggested: list[int]
) -> list[runs.ReportFile]:
    import numpy as np
    import pandas as pd

    from paperworks.papers.loki.files import save_space

    space, mean = task.mean.space, task.mean
    names = [str(x) for x in space.labels]
    predicted = mean.predict(task.weights, tie=config.tie)
    columns: dict[str, Any] = {"row": task.rows}
    if task.truth is not None:
        columns["label"] = [names[i] for i in task.truth]
    columns["loki"] = [names[i] for i in predicted]
    columns["argmax"] = [names[i] for i in mean.observed[np.argmax(task.weights, axis=1)]]
    if task.truth is not None:
        columns["squared_distance"] = space.paired(predicted, task.truth) ** 2
    write_text(run.files / "predictions.csv", pd.DataFrame(columns).to_csv(index=False))
    files = [runs.ReportFile("predictions.csv", "a label of the whole space for each row, beside argmax")]
    states = np.full(len(space), "unknown" if reached is None else "not reachable", dtype=object)
    if reached is not None:
        states[reached] = "reachable"
    states[mean.observed] = "observed"
    order = {label: k + 1 for k, label in enumerate(suggested)}
    frame = pd.DataFrame({"label": names, "state": states, "collect": [order.get(i, "") for i in range(len(space))]})
    write_text(run.files / "labels.csv", frame.to_csv(index=False))
    files.append(runs.ReportFile("labels.csv", "every label: observed, reachable or not, and what to collect next"))
    save_space(space, run.output("space.npz"))
    files.append(runs.ReportFile("space.npz", "the label space: paperworks.papers.loki.load_space"))
    if len(mean.observed) * len(space) <= 4_000_000:
        matrix = pd.DataFrame(space.squared(mean.observed), columns=names)
        matrix.insert(0, "observed", [names[i] for i in mean.observed])
        write_text(run.files / "squared_distances.csv", matrix.to_csv(index=False))
        files.append(
            runs.ReportFile("squared_distances.csv", "the fixed matrix: argmin of probabilities @ matrix, in any tool")
        )
    return files


def load_space_of(config: Config, labels: list[Any] | None) -> LabelSpace:
    """The label space of the options; ``labels`` in order for spaces that are named."""
    from paperworks.papers.loki.files import SHAPES, load_space

    named = config.space in SHAPES and not Path(config.space).exists()
    return load_space(
        config.space,
        labels if named or config.space.endswith(".npy") else None,
        kind=config.space_kind,
        leaves_only=config.leaves_only,
        spanning_tree=config.spanning_tree,
    )
