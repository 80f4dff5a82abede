"""Accuracy by task and position, and how much worse an answerer is where slices meet."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from paperworks.errors import InputError
from paperworks.metrics import Interval, bootstrap_interval
from paperworks.papers.hires_llava.entitygrid.generation import TASKS, EntityDataset, EntityRecord
from paperworks.papers.hires_llava.entitygrid.parsing import parse_answer
from paperworks.papers.hires_llava.entitygrid.positions import (
    CENTER,
    EDGES,
    INSIDE,
    POSITIONS,
    cuts_by_position,
)
from paperworks.papers.hires_llava.grid import Box
from paperworks.parameters import check_seed
from paperworks.runs import Progress, no_progress
from paperworks.runs.files import new_file

AnswerFunction = Callable[[Any, str, Sequence[str]], str]
"""``answer(image as PIL, question, choices) -> text``."""

EDGE_TASKS = ("identification", "counting")
"""The tasks in which a cut hides what is asked for."""


@dataclass(frozen=True)
class EntityGridResult:
    """What ``evaluate`` found.

    Attributes
    ----------
    correct : bool ``[n]``, one per record.
    tasks, positions : of each record, ``[n]``.
    answers : what was answered, and what it was taken for (None: unparsed).
    disc1 : mean accuracy at 1, 3, 7, 9 less that at 2, 4, 6, 8, edge-related tasks, bootstrap over images; None where
        a group has no record.
    disc2 : the same less that at 5.
    warnings : positions that no cut runs through, among others.
    """

    correct: np.ndarray
    tasks: np.ndarray
    positions: np.ndarray
    answers: list[tuple[str, str | None]]
    disc1: Interval | None
    disc2: Interval | None
    warnings: list[str] = field(default_factory=list)

    @property
    def accuracy(self) -> float:
        """Over all records."""
        return float(self.correct.mean())

    @property
    def unparsed(self) -> float:
        """Share of answers that name no choice."""
        return float(np.mean([parsed is None for _, parsed in self.answers]))

    def accuracy_of(self, tasks: Sequence[str] = TASKS, positions: Sequence[int] = POSITIONS) -> float:
        """Accuracy of some tasks at some positions; NaN where there is no record."""
        chosen = np.isin(self.tasks, tasks) & np.isin(self.positions, positions)
        return float(self.correct[chosen].mean()) if chosen.any() else float("nan")

    def by_position(self, tasks: Sequence[str] = EDGE_TASKS) -> np.ndarray:
        """Accuracy at the nine positions, float ``[3, 3]``."""
        return np.array([self.accuracy_of(tasks, (p,)) for p in POSITIONS]).reshape(3, 3)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready content, without NaN."""

        def number(value: float) -> float | None:
            return None if np.isnan(value) else round(value, 6)

        def interval(value: Interval | None) -> dict[str, Any] | None:
            if value is None:
                return None
            return {"estimate": value.estimate, "low": value.low, "high": value.high, "level": value.level}

        return {
            "records": len(self.correct),
            "accuracy": number(self.accuracy),
            "unparsed": number(self.unparsed),
            "by_task": {task: number(self.accuracy_of((task,))) for task in TASKS},
            "by_task_and_position": {
                task: {str(p): number(self.accuracy_of((task,), (p,))) for p in POSITIONS} for task in TASKS
            },
            "disc1": interval(self.disc1),
            "disc2": interval(self.disc2),
            "warnings": self.warnings,
        }

    def to_markdown(self) -> str:
        """A table of tasks and positions, and the discrepancies."""
        lines = [
            "| task | all | " + " | ".join(str(p) for p in POSITIONS) + " |",
            "| --- | " + " | ".join(["---"] * 10) + " |",
        ]
        for task in TASKS:
            cells = [self.accuracy_of((task,)), *(self.accuracy_of((task,), (p,)) for p in POSITIONS)]
            lines.append(f"| {task} | " + " | ".join("" if np.isnan(c) else f"{c:.3f}" for c in cells) + " |")
        lines.append("")
        for name, found in (("Disc1 (corners less edges)", self.disc1), ("Disc2 (corners less center)", self.disc2)):
            lines.append(f"{name}: {found if found is not None else 'not defined'}")
        lines.append(f"Accuracy {self.accuracy:.3f}, unparsed answers {self.unparsed:.3f}")
        lines += [f"Note: {warning}" for warning in self.warnings]
        return "\n".join(lines) + "\n"

    def save(self, stem: str | Path) -> tuple[Path, Path]:
        """Write ``stem.json`` and ``stem.md``; both must be new."""
        base = Path(stem)
        for suffix, text in ((".json", json.dumps(self.to_dict(), indent=2) + "\n"), (".md", self.to_markdown())):
            with new_file(base.with_name(base.name + suffix), "stem") as aside:
                aside.write_text(text, encoding="utf-8")
        return base.with_name(base.name + ".json"), base.with_name(base.name + ".md")


def evaluate(
    answer: AnswerFunction,
    dataset: EntityDataset,
    *,
    slice_boxes: Sequence[Box] | None = None,
    n_resamples: int = 1000,
    seed: int = 0,
    progress: Progress = no_progress,
) -> EntityGridResult:
    """Ask every question and score the answers.

    Parameters
    ----------
    answer : any function of an image (PIL, RGB), a question and its choices to a text.
    slice_boxes : the model's own slices in pixels of the canvas; by default the four quarters. A model that resizes or
        pads cuts elsewhere: positions that its cuts miss are named in ``warnings``.
    n_resamples, seed : of the bootstrap over images; no intervals with 0.

    Raises
    ------
    InputError : naming ``dataset``, for one without records; naming ``answer``, for an answer that is no text.
    """
    check_seed("seed", seed)
    if not len(dataset):
        raise InputError("dataset", "no records", "at least one")
    answers = []
    for record in progress(dataset.records, "asking", len(dataset)):
        text = answer(dataset.image(record), record.question, record.choices)
        if not isinstance(text, str):
            raise InputError("answer", type(text).__name__, "a function that returns a text")
        answers.append((text, parse_answer(text, record.choices, record.task)))
    return scored(dataset, answers, slice_boxes=slice_boxes, n_resamples=n_resamples, seed=seed)


def scored(
    dataset: EntityDataset,
    answers: list[tuple[str, str | None]],
    *,
    slice_boxes: Sequence[Box] | None = None,
    n_resamples: int = 1000,
    seed: int = 0,
) -> EntityGridResult:
    """Score answers that are there already: (text, choice or None) for each record."""
    check_seed("seed", seed)
    records = dataset.records
    correct = np.array([parsed == r.answer for (_, parsed), r in zip(answers, records, strict=True)])
    tasks, positions = np.array([r.task for r in records]), np.array([r.position for r in records])
    names = {name: i for i, name in enumerate(dataset.images)}
    images = np.array([names[r.image] for r in records])
    edge = np.isin(tasks, EDGE_TASKS)

    def interval(others: tuple[int, ...]) -> Interval | None:
        return discrepancy(
            correct[edge], positions[edge], others, clusters=images[edge], n_resamples=n_resamples, seed=seed
        )

    return EntityGridResult(
        correct, tasks, positions, answers, interval(EDGES), interval(CENTER), _warnings(records, slice_boxes)
    )


def discrepancy(
    correct: np.ndarray,
    positions: np.ndarray,
    others: tuple[int, ...],
    *,
    clusters: np.ndarray | None = None,
    n_resamples: int = 1000,
    seed: int = 0,
) -> Interval | None:
    """Mean accuracy of the corners less that of ``others``, with a bootstrap interval; None where one has no rows.

    Positions count the same, however many rows they have; one without rows is left out of its mean.
    """
    check_seed("seed", seed)

    def statistic(right: np.ndarray, where: np.ndarray) -> float:
        inside, outside = (
            [right[where == p].mean() for p in group if (where == p).any()] for group in (INSIDE, others)
        )
        return float(np.mean(inside) - np.mean(outside)) if inside and outside else float("nan")

    value = statistic(correct, positions)
    rows = len(correct) if clusters is None else len(np.unique(clusters))
    if np.isnan(value) or rows < 2:
        return None
    if n_resamples == 0:
        return Interval(value, value, value, 0.95, "no interval", rows, "images")
    right = correct.astype(np.float64)
    return bootstrap_interval(statistic, right, positions, clusters=clusters, n_resamples=n_resamples, seed=seed)


def _warnings(records: Sequence[EntityRecord], slice_boxes: Sequence[Box] | None) -> list[str]:
    first = records[0]
    cuts = cuts_by_position(first.canvas // 2, first.entity_side, slice_boxes)
    whole = [p for p in (*EDGES, *CENTER) if cuts[p] < 2]
    broken = [p for p in INSIDE if cuts[p] > 1]
    said = []
    if whole:
        said.append(f"no cut of this model runs through position {', '.join(map(str, sorted(whole)))}")
    if broken:
        said.append(f"a cut of this model runs through position {', '.join(map(str, broken))}, which should be whole")
    return said
