"""What the studies share: a model of their size, and prompts."""

from __future__ import annotations

from dataclasses import replace

from paperworks import runs
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
) -> InContextModel:
    """A model of the study's size (4 layers, width 64, 4 heads), trained by Adam at 1e-3 on fresh prompts."""
    if model is None:
        model = new_model(InContextConfig(architecture, task.n_dims, 64, 4, 4, max_points=100), seed=1)
    options = TrainOptions(4 if fast else steps, 16 if fast else batch, points, 1e-3, seed=2)
    run.step(f"{name}: {options.steps} steps")
    fit(model, task, options, checkpoint_dir=run.state / name, progress=run.progress)
    return model.eval()


def prompts_of(task: Task, fast: bool, points: int = 30, seed: int = 1000, count: int = 1000) -> Prompts:
    return task.sample(60 if fast else count, points, seed)


def flipped(prompts: Prompts) -> Prompts:
    return replace(prompts, ys=-prompts.ys)
