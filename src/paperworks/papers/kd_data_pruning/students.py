"""Training a student on the kept rows, with a teacher whose weight is tied to how few they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from paperworks import classification
from paperworks.classification.data import as_labels, count_rows, take_rows
from paperworks.errors import InputError
from paperworks.inputs.transforms import Transform
from paperworks.papers.kd_data_pruning.scoring import MakeModel
from paperworks.runs import Progress, no_progress
from paperworks.training import TrainSettings

Budget = Literal["iterations", "epochs"]
ALPHAS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""What ``choose_alpha`` tries."""


def distillation_weight(fraction: float, *, low: float = 0.5, high: float = 1.0) -> float:
    """``high - (high - low) fraction``: the weight of the teacher grows as fewer rows are kept.

    The paper shows that the best weight does so and gives no formula: this line is ours.
    """
    if not 0 < fraction <= 1:
        raise InputError("fraction", fraction, "a share above 0 and at most 1")
    if not 0 <= low <= high <= 1:
        raise InputError("low", low, "0 <= low <= high <= 1")
    return high - (high - low) * fraction


def student_settings(settings: TrainSettings, kept: int, of: int, budget: Budget = "iterations") -> TrainSettings:
    """Settings for so many kept rows: a batch of at most half of them, and the steps of the budget.

    "iterations" gives all steps whatever is kept; "epochs" the kept share of them, so that every row is read as often
    as in training on all.
    """
    if budget not in ("iterations", "epochs"):
        raise InputError("budget", repr(budget), "'iterations' or 'epochs'")
    if settings.steps is None:
        raise InputError("steps", None, "a number of steps")
    steps = settings.steps if budget == "iterations" else max(1, round(settings.steps * kept / of))
    return replace(settings, steps=steps, batch_size=max(1, min(settings.batch_size, kept // 2)))


def train_student(
    make_model: MakeModel,
    data: Any,
    labels: Any,
    rows: Sequence[int] | np.ndarray,
    settings: TrainSettings,
    *,
    teacher: torch.nn.Module | np.ndarray | None = None,
    alpha: float = 1.0,
    temperature: float = 4.0,
    label_smoothing: float = 0.0,
    budget: Budget = "iterations",
    augment: Transform | None = None,
    checkpoint_dir: Path | None = None,
    progress: Progress = no_progress,
) -> torch.nn.Module:
    """A fresh model trained on some rows, from labels with weight ``1 - alpha`` and from a teacher with ``alpha``.

    Parameters
    ----------
    make_model : makes the student from ``settings.seed``.
    data, labels : all rows; ``rows`` are the kept ones.
    settings : for all rows; see ``student_settings`` for what becomes of them.
    teacher : a module, or its logits on all rows ``[n, C]``.
    """
    examples = classification.as_examples(data)
    codes = as_labels(labels, count_rows(examples)).numpy()
    kept = np.asarray(rows, dtype=np.int64)
    if len(kept) == 0 or len(np.unique(kept)) < len(kept) or kept.min() < 0 or kept.max() >= len(codes):
        raise InputError("rows", f"{len(kept)} rows, or repeated or unknown ones", f"rows of 0 to {len(codes) - 1}")
    own = teacher if teacher is None or isinstance(teacher, torch.nn.Module) else np.asarray(teacher)[kept]
    student = make_model(settings.seed)
    classification.fit(
        student,
        take_rows(examples, kept),
        codes[kept],
        settings=student_settings(settings, len(kept), len(codes), budget),
        teacher=own,
        alpha=alpha,
        temperature=temperature,
        label_smoothing=label_smoothing,
        augment=augment,
        checkpoint_dir=checkpoint_dir,
        progress=progress,
    )
    return student


def choose_alpha(
    make_model: MakeModel,
    data: Any,
    labels: Any,
    rows: Sequence[int] | np.ndarray,
    settings: TrainSettings,
    *,
    teacher: torch.nn.Module | np.ndarray,
    alphas: Sequence[float] = ALPHAS,
    validation: float = 0.2,
    checkpoint_dir: Path | None = None,
    **options: Any,
) -> tuple[float, dict[float, float]]:
    """The weight with the best accuracy on a part of the kept rows that is held out, and the accuracy of each.

    Of equal ones the largest. With few kept rows the held-out part is small, and so is what it can tell apart.
    """
    kept = np.random.default_rng([settings.seed, 4]).permutation(np.asarray(rows, dtype=np.int64))
    held = max(1, round(validation * len(kept)))
    if len(kept) - held < 1:
        raise InputError("rows", f"{len(kept)} kept", "at least 2, to hold one out")
    codes, examples = np.asarray(labels), classification.as_examples(data)
    test = take_rows(examples, kept[:held])
    found = {}
    for alpha in alphas:
        folder = None if checkpoint_dir is None else checkpoint_dir / f"alpha-{alpha:g}"
        student = train_student(
            make_model,
            examples,
            codes,
            np.sort(kept[held:]),
            settings,
            teacher=teacher,
            alpha=alpha,
            checkpoint_dir=folder,
            **options,
        )
        predicted = classification.predict(student, test, device=settings.device)
        found[float(alpha)] = float((predicted == codes[kept[:held]]).mean())
    best = max(found.values())
    return max(alpha for alpha, value in found.items() if value == best), found
