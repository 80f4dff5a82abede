"""Methods, fractions and weights of the teacher beside each other, over seeds."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from paperworks import classification
from paperworks.errors import InputError
from paperworks.metrics import Interval, mean_interval
from paperworks.papers.kd_data_pruning.pruner import DataPruner
from paperworks.papers.kd_data_pruning.scoring import ExampleScores, MakeModel
from paperworks.papers.kd_data_pruning.students import train_student
from paperworks.runs import Progress, no_progress
from paperworks.runs.files import write_text
from paperworks.training import TrainSettings


def sweep(
    make_model: MakeModel,
    train: tuple[Any, np.ndarray],
    test: tuple[Any, np.ndarray],
    settings: TrainSettings,
    *,
    fractions: Sequence[float],
    methods: Sequence[str],
    alphas: Sequence[float] = (0.0, 0.5, 1.0),
    seeds: Sequence[int] = (0, 1, 2),
    teacher_steps: int = 1200,
    scoring_steps: int = 1000,
    on_all_rows: TrainSettings | None = None,
    make_teacher: MakeModel | None = None,
    temperature: float = 4.0,
    prepare: Callable[[int], np.ndarray] | None = None,
    folder: Path | None = None,
    progress: Progress = no_progress,
    **scoring: Any,
) -> pd.DataFrame:
    """Accuracy on the test rows of every combination, one row each: seed, method, fraction, alpha, accuracy, kept.

    For every seed there are one teacher on all rows (accuracy in ``attrs["teacher"]``) and one set of scores; students
    differ in the kept rows and in the weight only. Fraction 1 is trained once, under the name "all".

    Parameters
    ----------
    train, test : (data, labels).
    settings : of the students.
    on_all_rows : of the teacher and of the trainings for scores, but for their seeds and steps; default ``settings``.
    prepare : labels of the training rows by seed, such as with noise; default: as given.
    folder : every student's accuracy is kept here once it is known, and a sweep of the same name of folder that was
        stopped goes on after it. The caller uses another folder for other settings.
    scoring : options of ``ExampleScores``.
    """
    if not len(seeds) or not len(methods) or not len(fractions) or not len(alphas):
        raise InputError("seeds", "nothing to run", "at least one seed, method, fraction and alpha")
    x, y = train
    rows: list[dict[str, Any]] = []
    teachers: dict[int, float] = {}
    jobs = [(s, m, f) for s in seeds for f in fractions for m in (methods if f < 1 else ("all",))]
    of: _Seed | None = None
    for seed, method, fraction in progress(jobs, "students", len(jobs)):
        if of is None or of.seed != seed:
            of = _Seed(
                make_model,
                make_teacher or make_model,
                (x, y if prepare is None else prepare(seed)),
                test,
                on_all_rows or settings,
                (teacher_steps, scoring_steps),
                seed,
                folder,
                scoring,
            )
        for alpha in alphas:
            name = f"{method} {fraction:g} {alpha:g}"
            if name not in of.known:
                kept = of.kept(method, fraction)
                student = train_student(
                    make_model,
                    x,
                    of.labels,
                    kept,
                    replace(settings, seed=seed + 100),
                    teacher=of.teacher if alpha > 0 else None,
                    alpha=alpha,
                    temperature=temperature,
                )
                of.note(name, [accuracy_of(student, test, settings.device), len(kept)])
            accuracy, count = of.known[name]
            rows.append(
                {
                    "seed": seed,
                    "method": method,
                    "fraction": fraction,
                    "alpha": alpha,
                    "accuracy": accuracy,
                    "kept": count,
                }
            )
        if "teacher" in of.known:
            teachers[seed] = of.known["teacher"]
    found = pd.DataFrame(rows)
    found.attrs["teacher"] = teachers
    return found


class _Seed:
    """What the students of one seed share, trained when first asked for; ``known`` is what a stopped sweep found."""

    def __init__(
        self,
        make_model: MakeModel,
        make_teacher: MakeModel,
        train: tuple[Any, np.ndarray],
        test: tuple[Any, np.ndarray],
        settings: TrainSettings,
        steps: tuple[int, int],
        seed: int,
        folder: Path | None,
        scoring: dict[str, Any],
    ) -> None:
        self.make_teacher, self.x, self.labels, self.test = make_teacher, *train, test
        self.settings, self.steps, self.seed = settings, steps, seed
        self.file = None if folder is None else folder / f"seed-{seed}.json"
        self.known: dict[str, Any] = {}
        if self.file is not None and self.file.is_file():
            self.known = json.loads(self.file.read_text(encoding="utf-8"))
        trainings = None if folder is None else folder / f"seed-{seed}"
        self.teacher_folder = None if trainings is None else trainings / "teacher"
        self.scores = ExampleScores(
            make_model,
            self.x,
            self.labels,
            replace(settings, steps=steps[1], seed=seed + 500),
            seed=seed + 500,
            checkpoint_dir=trainings,
            **scoring,
        )

    @cached_property
    def teacher(self) -> np.ndarray:
        """Logits of the teacher on all rows; its accuracy is noted."""
        settings = replace(self.settings, seed=self.seed, steps=self.steps[0])
        model = self.make_teacher(self.seed)
        classification.fit(model, self.x, self.labels, settings=settings, checkpoint_dir=self.teacher_folder)
        self.note("teacher", accuracy_of(model, self.test, settings.device))
        return classification.predict_logits(model, self.x, device=settings.device)

    def kept(self, method: str, fraction: float) -> np.ndarray:
        """The rows that a method keeps; all of them under the name "all"."""
        if method == "all":
            return np.arange(len(self.labels))
        pruner = DataPruner(method, fraction, random_state=self.seed)
        return pruner.fit(None, self.x, self.labels, scores=self.scores).indices_

    def note(self, name: str, value: Any) -> None:
        self.known[name] = value
        if self.file is not None:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            write_text(self.file, json.dumps(self.known))


def accuracies(found: pd.DataFrame, method: str, fraction: float, alpha: float) -> np.ndarray:
    """Accuracies of one combination of a sweep, float64 ``[seeds]``, in the order of the seeds."""
    rows = found[(found["method"] == method) & (found["fraction"] == fraction) & (found["alpha"] == alpha)]
    return rows.sort_values("seed")["accuracy"].to_numpy()


def difference(a: np.ndarray, b: np.ndarray) -> Interval:
    """The mean difference of two combinations, paired by seed, with Student's interval."""
    return mean_interval(a - b)


def means(found: pd.DataFrame) -> str:
    """Mean accuracies of a sweep in words: kept share and method, and one figure per weight."""
    table = found.pivot_table(index=["fraction", "method"], columns="alpha", values="accuracy")
    return "; ".join(
        f"{fraction:g} {method}: "
        + ", ".join(f"{alpha:g} {value:.3f}" for alpha, value in row.items() if value == value)
        for (fraction, method), row in table.iterrows()
    )


def recommend(found: pd.DataFrame, fraction: float) -> dict[str, Any]:
    """Method and weight with the best mean accuracy at the measured fraction that is nearest to ``fraction``."""
    if found.empty:
        raise InputError("found", "no rows", "a result of sweep")
    measured = found["fraction"].unique()
    near = measured[np.abs(measured - fraction).argmin()]
    means = found[found["fraction"] == near].groupby(["method", "alpha"])["accuracy"].mean()
    method, alpha = means.idxmax()
    return {"fraction": float(near), "method": method, "alpha": float(alpha), "accuracy": float(means.max())}


def accuracy_of(model: torch.nn.Module, test: tuple[Any, np.ndarray], device: str) -> float:
    """Share of the test rows that a model gets right."""
    return float((classification.predict(model, test[0], device=device) == test[1]).mean())
