"""Training in-context models: fresh functions and inputs in every step, resumable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from paperworks.errors import InputError
from paperworks.papers.icl_discrete.modeling import InContextModel
from paperworks.papers.icl_discrete.tasks import BooleanTask, MixedTask
from paperworks.parameters import check_seed
from paperworks.runs import Progress, no_progress
from paperworks.training import Batch, Generated, TrainResult, TrainSettings, train


@dataclass(frozen=True)
class TrainOptions:
    """How a model is trained. The paper's values: batch 64, Adam at 1e-4 constant, 15,000 steps, 40 points.

    ``noise`` multiplies every label by -1 with that probability. ``decay`` is the last share of the steps over which
    the rate falls to zero; the paper has none.
    """

    steps: int = 1000
    batch: int = 64
    n_points: int = 30
    learning_rate: float = 1e-3
    noise: float = 0.0
    decay: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        check_seed("seed", self.seed)
        for name in ("steps", "batch", "n_points"):
            if getattr(self, name) < 1:
                raise InputError(name, getattr(self, name), "1 or more")
        for name in ("noise", "decay"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(name, getattr(self, name), "a share from 0 to 1")


def fresh_prompts(task: BooleanTask | MixedTask, options: TrainOptions) -> Generated:
    """New functions and inputs in every step: ``xs`` int8 [n, m, d] and ``ys`` int8 [n, m]."""

    def prompts(step: int, n: int, rng: np.random.Generator) -> Batch:
        found = task.sample(n, options.n_points, rng)
        return {"xs": torch.from_numpy(found.xs), "ys": torch.from_numpy(flip(found.ys, options.noise, rng))}

    return Generated(prompts)


def flip(ys: np.ndarray, noise: float, rng: np.random.Generator) -> np.ndarray:
    """Labels, each multiplied by -1 with probability ``noise``."""
    return np.where(rng.random(ys.shape) < noise, -ys, ys).astype(np.int8) if noise else ys


def fit(
    model: InContextModel,
    task: BooleanTask | MixedTask,
    options: TrainOptions,
    *,
    checkpoint_dir: Path | None = None,
    checkpoint_every: int = 100,
    device: str = "cpu",
    progress: Progress = no_progress,
    on_step: Callable[[int, float, float], None] | None = None,
) -> TrainResult:
    """Train a model in place by binary cross-entropy over all scored positions.

    A training that was stopped goes on from ``checkpoint_dir`` and ends with the weights of one that was not.
    """
    if task.n_dims != model.config.n_dims:
        raise InputError("n_dims", f"a task of {task.n_dims} bits", f"{model.config.n_dims}, as the model was made for")
    if options.n_points > model.config.max_points:
        raise InputError("n_points", options.n_points, f"at most {model.config.max_points}, as the model allows")
    start = task.first_scored

    def loss(stepped: torch.nn.Module, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        xs, ys = batch["xs"], batch["ys"]
        logits, truth = stepped(xs, ys)[:, start:], (ys[:, start:] > 0).float()
        total = functional.binary_cross_entropy_with_logits(logits.float(), truth, reduction="sum")
        return total, torch.tensor(truth.numel(), device=logits.device)

    settings = TrainSettings(
        steps=options.steps,
        batch_size=options.batch,
        learning_rate=options.learning_rate,
        betas=(0.9, 0.999),
        weight_decay=0.0,
        clip_norm=0.0,
        schedule="wsd" if options.decay else "constant",
        decay_fraction=options.decay,
        checkpoint_every=checkpoint_every,
        device=device,
        seed=options.seed,
    )
    result = train(
        model,
        fresh_prompts(task, options),
        settings,
        loss=loss,
        checkpoint_dir=checkpoint_dir,
        progress=progress,
        on_step=on_step,
    )
    tasks = task.tasks if isinstance(task, MixedTask) else (task,)
    model.config.task = {
        "classes": [t.to_dict() for t in tasks],
        "n_points": options.n_points,
        "steps": result.steps,
        "batch": options.batch,
        "learning_rate": options.learning_rate,
        "noise": options.noise,
        "seed": options.seed,
    }
    return result
