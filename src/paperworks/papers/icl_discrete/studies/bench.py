"""What the studies share: a model of their size, and prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from paperworks import runs
from paperworks.metrics import Interval, mean_interval
from paperworks.papers.icl_discrete.curves import after_teaching
from paperworks.papers.icl_discrete.fitting import TrainOptions, fit
from paperworks.papers.icl_discrete.modeling import (
    InContextConfig,
    InContextModel,
    new_model,
)
from paperworks.papers.icl_discrete.tasks import BooleanTask, MixedTask, Prompts

Task = BooleanTask | MixedTask


def trained(
    run: runs.Run,
    name: str,
    task: Task,
    fast: bool,
    *,
    architecture: str = "transformer",
    steps: int,
    batch: int = 64,
    points: int = 30,
    model: InContextModel | None = None,
    seed: int = 0,
) -> InContextModel:
    """A model of the study's size (4 layers, width 64, 4 heads), trained by Adam at 1e-3 on fresh prompts."""
    if model is None:
        model = new_model(InContextConfig(architecture, task.n_dims, 64, 4, 4, max_points=100), seed=1 + 100 * seed)
    options = TrainOptions(4 if fast else steps, 16 if fast else batch, points, 1e-3, seed=2 + 100 * seed)
    run.step(f"{name}: {options.steps} steps")
    fit(model, task, options, checkpoint_dir=run.state / name, progress=run.progress)
    return model.eval()


def prompts_of(task: Task, fast: bool, points: int = 30, seed: int = 1000, count: int = 1000) -> Prompts:
    return task.sample(60 if fast else count, points, seed)


def seeds_of(fast: bool) -> range:
    """Trainings behind a comparison of two trained models."""
    return range(2 if fast else 3)


def per_prompt(hits: np.ndarray, positions: int = 5) -> np.ndarray:
    """Accuracy at the last positions of each prompt, ``[B]``."""
    return hits[:, -positions:].mean(1)


def above(hits: np.ndarray, other: np.ndarray) -> Interval:
    """How far one predictor's accuracy at the last 5 positions is above another's on the same prompts."""
    return mean_interval(per_prompt(hits) - per_prompt(other), unit="prompts")


def each_after(hits: np.ndarray, taught: Sequence[int] | np.ndarray, window: int) -> np.ndarray:
    """Accuracy of each prompt over at most ``window`` positions that follow its teaching sequence, ``[B]``."""
    pairs = zip(hits, np.asarray(taught), strict=True)
    return np.array([after_teaching(own[None], [start], window=window) for own, start in pairs])


def flipped(prompts: Prompts) -> Prompts:
    return replace(prompts, ys=-prompts.ys)
