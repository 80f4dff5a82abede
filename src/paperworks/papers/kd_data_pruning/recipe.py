"""The user's training set: scored, pruned, and a student trained on what is kept, with a teacher."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from paperworks import classification, runs
from paperworks.classification import take_rows
from paperworks.errors import InputError
from paperworks.inputs.transforms import Compose, RandomCrop, RandomHorizontalFlip, Transform
from paperworks.metrics import Interval, wilson_interval
from paperworks.papers.kd_data_pruning.config import Config
from paperworks.papers.kd_data_pruning.examples import Source, read_source
from paperworks.papers.kd_data_pruning.figures import accuracy_figure, class_figure
from paperworks.papers.kd_data_pruning.pruner import DEFAULT_SETTINGS, DataPruner
from paperworks.papers.kd_data_pruning.scoring import METHODS, ExampleScores
from paperworks.papers.kd_data_pruning.students import choose_alpha, distillation_weight, train_student
from paperworks.training import TrainSettings

__all__ = ["Config", "run"]


def run(config: Config, run: runs.Run) -> runs.Report:
    """Keep a part of a training set, and train on it with a teacher so that little accuracy is lost."""
    run.step(f"reading {config.data}")
    source = read_source(config, run)
    train, test = _split(source, config)
    everything = source.encode(train)
    data, labels = take_rows(everything, train), source.labels[train]
    held = (take_rows(everything, test), source.labels[test])
    job = _Job(config, run, source, data, labels, held)

    run.step(f"training the teacher on {len(train):,} rows")
    teacher = job.teacher()
    run.step(f"choosing {config.fraction:.1%} of the rows by {config.method}")
    pruner = job.prune()
    kept = pruner.indices_
    alpha, tried = job.alpha(kept)
    run.step(f"training students on {len(kept):,} rows; weight of the teacher {alpha:.3g}")
    results = job.students(kept, alpha)
    files = _save(config, run, source, train, pruner, job, results)
    return _report(config, source, train, test, pruner, alpha, tried, teacher, results, job, files)


class _Job:
    """The trainings of one run. Each has a folder of checkpoints, so that a stopped run goes on."""

    def __init__(
        self, config: Config, run: runs.Run, source: Source, data: Any, labels: np.ndarray, held: tuple[Any, np.ndarray]
    ) -> None:
        self.config, self.run, self.data, self.labels, self.held = config, run, data, labels, held
        self.settings: TrainSettings = replace(
            DEFAULT_SETTINGS,
            steps=config.steps,
            batch_size=min(config.batch_size, len(labels)),
            learning_rate=config.learning_rate,
            device=config.device,
            seed=config.seed % 2**32,
        )
        self.make = source.maker(data, config.width)
        self.make_teacher = source.maker(data, max(1, round(config.width * config.teacher_width)))
        self.augment: Transform | None = None
        if config.augment:
            self.augment = Compose([RandomCrop(2), RandomHorizontalFlip()])

    def teacher(self) -> Interval:
        """Train the teacher on all rows; its scores are a by-product where it is the student's own architecture."""
        self.scores = ExampleScores(
            self.make_teacher,
            self.data,
            self.labels,
            replace(self.settings, steps=self.config.teacher_steps),
            early_steps=self.config.early_steps,
            runs=self.config.early_runs,
            memorization_models=self.config.memorization_models,
            augment=self.augment,
            seed=self.settings.seed,
            checkpoint_dir=self.run.state / "scores",
            progress=self.run.progress,
        )
        self.taught_by: Any = self.scores.trained[0] if self.augment is not None else self.scores.logits
        return self.measure(self.scores.trained[0])

    def prune(self) -> DataPruner:
        config = self.config
        pruner = DataPruner(
            config.method,
            config.fraction,
            balance=config.balance,
            min_per_class=config.min_per_class,
            beta=config.beta,
            random_state=self.settings.seed,
        )
        return pruner.fit(None, self.data, self.labels, scores=self.scores)

    def alpha(self, kept: np.ndarray) -> tuple[float, dict[float, float]]:
        if self.config.alpha == "auto":
            return distillation_weight(self.config.fraction), {}
        if self.config.alpha != "grid":
            return float(self.config.alpha), {}
        return choose_alpha(
            self.make,
            self.data,
            self.labels,
            kept,
            self.settings,
            teacher=self.taught_by,
            checkpoint_dir=self.run.state / "alphas",
            **self._options,
        )

    def students(self, kept: np.ndarray, alpha: float) -> dict[str, Interval]:
        """Accuracy of students on the kept rows, on as many random rows, and on all; with and without the teacher."""
        name = self.config.method
        found: dict[str, Interval] = {}
        self.student = self._student(kept, "student", alpha)
        found[f"{name}, with the teacher"] = self.measure(self.student)
        found[f"{name}, labels only"] = self.measure(self._student(kept, "labels", 0))
        found[f"{name}, labels smoothed"] = self.measure(self._student(kept, "smoothed", 0, label_smoothing=0.1))
        if name != "random":
            pruner = DataPruner(
                "random",
                self.config.fraction,
                balance=self.config.balance,
                min_per_class=self.config.min_per_class,
                random_state=self.settings.seed,
            )
            random = pruner.fit(None, self.data, self.labels).indices_
            found["random, with the teacher"] = self.measure(self._student(random, "random-student", alpha))
            found["random, labels only"] = self.measure(self._student(random, "random-labels", 0))
        every = np.arange(len(self.labels))
        found["all rows, labels only"] = self.measure(self._student(every, "all", 0))
        return found

    def measure(self, model: torch.nn.Module) -> Interval:
        """Accuracy on the held-out rows."""
        predicted = classification.predict(model, self.held[0], device=self.config.device)
        return wilson_interval(int((predicted == self.held[1]).sum()), len(self.held[1]))

    def _student(self, rows: np.ndarray, name: str, alpha: float, **options: Any) -> torch.nn.Module:
        return train_student(
            self.make,
            self.data,
            self.labels,
            rows,
            self.settings,
            alpha=alpha,
            teacher=self.taught_by if alpha > 0 else None,
            checkpoint_dir=self.run.state / name,
            **{**self._options, **options},
        )

    @property
    def _options(self) -> dict[str, Any]:
        config = self.config
        return {
            "temperature": config.temperature,
            "budget": config.budget,
            "augment": self.augment,
            "progress": self.run.progress,
        }


def _split(source: Source, config: Config) -> tuple[np.ndarray, np.ndarray]:
    """Training and test rows: as published, or stratified."""
    if source.splits is not None:
        return np.flatnonzero(source.splits == "train"), np.flatnonzero(source.splits == "test")
    from sklearn.model_selection import train_test_split

    rows = np.arange(len(source.labels))
    try:
        train, test = train_test_split(
            rows, test_size=config.test_size, stratify=source.labels, random_state=config.seed % 2**32
        )
    except ValueError as error:
        raise InputError("test_size", f"{config.test_size} ({error})", "a share with rows of every class") from None
    return np.sort(train), np.sort(test)


def _save(
    config: Config, run: runs.Run, source: Source, train: np.ndarray, pruner: DataPruner, job: _Job, results: Any
) -> list[runs.ReportFile]:
    run.step("writing the kept rows and the student")
    kept = pruner.indices_
    table = pd.DataFrame(
        {
            "row": train,
            "id": [source.ids[i] for i in train],
            "label": [source.class_names[c] for c in job.labels],
        }
    )
    if pruner.scores_ is not None:
        table["score"] = pruner.scores_
    table.iloc[kept].to_csv(run.files / "kept.csv", index=False)
    files = [runs.ReportFile("kept.csv", "the kept rows: row in the data, id, label and score")]
    if pruner.scores_ is not None:
        table.assign(kept=np.isin(np.arange(len(table)), kept)).to_csv(run.files / "scores.csv", index=False)
        files.append(runs.ReportFile("scores.csv", "the score of every training row"))
    for name, model in (("student", job.student), ("teacher", job.scores.trained[0])):
        _save_model(model, source, run.output(name))
        files.append(runs.ReportFile(name, f"the {name}: from_pretrained loads it"))
    return files


def _save_model(model: Any, source: Source, folder: Path) -> None:
    model.save_pretrained(folder)
    if source.pretrained is not None:
        source.pretrained.processor.save_pretrained(folder)


def _report(
    config: Config,
    source: Source,
    train: np.ndarray,
    test: np.ndarray,
    pruner: DataPruner,
    alpha: float,
    tried: dict[float, float],
    teacher: Interval,
    results: dict[str, Interval],
    job: _Job,
    files: list[runs.ReportFile],
) -> runs.Report:
    kept = pruner.indices_
    student, alone = list(results.values())[:2]
    every = results["all rows, labels only"]
    rows: list[list[Any]] = [["teacher, all rows", len(train), config.teacher_steps, *_cells(teacher)]]
    for name, interval in results.items():
        count = len(train) if name.startswith("all") else len(kept)
        steps = config.steps if config.budget == "iterations" else max(1, round(config.steps * count / len(train)))
        rows.append([name, count, steps, *_cells(interval)])
    common = int(np.bincount(job.labels).argmax())
    always = wilson_interval(int((job.held[1] == common).sum()), len(test))
    rows.append([f"no row: always {source.class_names[common]}, the most frequent class", 0, 0, *_cells(always)])
    notes = []
    if tried:
        notes.append(
            "weights tried on a part of the kept rows: " + ", ".join(f"{a:g} {v:.3f}" for a, v in tried.items())
        )
    notes.append(
        "The teacher was trained on all rows: with it, keeping fewer rows saves no training the first time. "
        "It pays where several students are trained, or where the rows are kept instead of the whole set."
    )
    predicted = classification.predict(job.student, job.held[0], device=config.device)
    classes = _class_rows(source, job, kept, predicted)
    name = Path(config.data).name or config.data
    return runs.Report(
        headline=f"Trained on {len(kept):,} of {len(train):,} rows of {name}, chosen by {config.method}, the student "
        f"gets {student.estimate:.1%} of {len(test):,} held-out rows right with a teacher (weight {alpha:.3g}), and "
        f"{alone.estimate:.1%} without; on all rows without one {every.estimate:.1%}."
        + _beside_always(student, always, source.class_names[common]),
        metrics={
            "accuracy": student.estimate,
            "accuracy_without_teacher": alone.estimate,
            "accuracy_all_rows": every.estimate,
            "teacher_accuracy": teacher.estimate,
            "majority_accuracy": always.estimate,
            "kept": len(kept),
            "alpha": alpha,
        },
        tables=[
            runs.Table(
                "Held-out rows",
                ["trained on", "rows", "steps", "accuracy", "95% from", "to"],
                rows,
                f"Wilson intervals over {len(test):,} held-out rows, of one training each. "
                f"Method: {METHODS[config.method].source}.",
            ),
            runs.Table(
                "Classes", ["class", "training rows", "kept", "held-out rows", "recall of the student"], classes
            ),
        ],
        figures=[
            runs.Figure("Accuracy on held-out rows", accuracy_figure(results, teacher), "With Wilson intervals."),
            runs.Figure("Kept rows by class", class_figure(classes), "Share of each class that is kept."),
        ],
        files=files,
        lead=[*source.notes, *_lost(classes)],
        notes=notes,
    )


def _beside_always(student: Interval, always: Interval, common: str) -> str:
    if student.estimate > always.estimate:
        return ""
    return f" That is no better than to say {common}, the most frequent class, of every row: {always.estimate:.1%}."


def _lost(classes: list[list[Any]]) -> list[str]:
    """What to say first of classes of which no row is kept."""
    lost = [str(name) for name, training, kept, *_ in classes if training and not kept]
    return [f"No row is kept of {', '.join(lost)}: the student cannot learn it. Keep more rows."] if lost else []


def _cells(interval: Interval) -> list[float]:
    return [interval.estimate, interval.low, interval.high]


def _class_rows(source: Source, job: _Job, kept: np.ndarray, predicted: np.ndarray) -> list[list[Any]]:
    rows: list[list[Any]] = []
    for code, name in enumerate(source.class_names):
        own = job.held[1] == code
        recall = float((predicted[own] == code).mean()) if own.any() else float("nan")
        rows.append(
            [name, int((job.labels == code).sum()), int((job.labels[kept] == code).sum()), int(own.sum()), recall]
        )
    return rows
