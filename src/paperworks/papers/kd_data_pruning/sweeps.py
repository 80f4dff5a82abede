"""Methods, fractions and weights of the teacher beside each other, over seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from paperworks import classification
from paperworks.errors import InputError
from paperworks.papers.kd_data_pruning.pruner import DataPruner
from paperworks.papers.kd_data_pruning.scoring import ExampleScores, MakeModel
from paperworks.papers.kd_data_pruning.students import train_student
from paperworks.runs import Progress, no_progress
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
    make_teacher: MakeModel | None = None,
    temperature: float = 4.0,
    prepare: Callable[[int], np.ndarray] | None = None,
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
    prepare : labels of the training rows by seed, such as with noise; default: as given.
    scoring : options of ``ExampleScores``.
    """
    if not len(seeds) or not len(methods) or not len(fractions) or not len(alphas):
        raise InputError("seeds", "nothing to run", "at least one seed, method, fraction and alpha")
    x, y = train
    rows: list[dict[str, Any]] = []
    teachers: dict[int, float] = {}
    jobs = [(s, m, f) for s in seeds for f in fractions for m in (methods if f < 1 else ("all",))]
    state: dict[str, Any] = {"seed": None}
    for seed, method, fraction in progress(jobs, "students", len(jobs)):
        if state["seed"] != seed:
            labels = y if prepare is None else prepare(seed)
            state = {"seed": seed, "labels": labels}
            state["teacher"], teachers[seed] = _teacher(
                make_teacher or make_model, x, labels, test, replace(settings, seed=seed, steps=teacher_steps)
            )
            state["scores"] = ExampleScores(
                make_model,
                x,
                labels,
                replace(settings, steps=scoring_steps, seed=seed + 500),
                seed=seed + 500,
                **scoring,
            )
        labels = state["labels"]
        kept = np.arange(len(labels))
        if method != "all":
            pruner = DataPruner(method, fraction, random_state=seed)
            kept = pruner.fit(None, x, labels, scores=state["scores"]).indices_
        for alpha in alphas:
            student = train_student(
                make_model,
                x,
                labels,
                kept,
                replace(settings, seed=seed + 100),
                teacher=state["teacher"] if alpha > 0 else None,
                alpha=alpha,
                temperature=temperature,
            )
            accuracy = accuracy_of(student, test, settings.device)
            rows.append(
                {
                    "seed": seed,
                    "method": method,
                    "fraction": fraction,
                    "alpha": alpha,
                    "accuracy": accuracy,
                    "kept": len(kept),
                }
            )
    found = pd.DataFrame(rows)
    found.attrs["teacher"] = teachers
    return found


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


def _teacher(
    make: MakeModel, x: Any, labels: np.ndarray, test: tuple[Any, np.ndarray], settings: TrainSettings
) -> tuple[np.ndarray, float]:
    """Logits of a teacher on all rows, and its accuracy on the test rows."""
    model = make(settings.seed)
    classification.fit(model, x, labels, settings=settings)
    return classification.predict_logits(model, x, device=settings.device), accuracy_of(model, test, settings.device)
