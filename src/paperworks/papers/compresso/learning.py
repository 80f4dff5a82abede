"""The phases of training: adapters alone, adapters with masks and multipliers, and adapters behind fixed masks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from paperworks.errors import InputError
from paperworks.papers.compresso.constraint import Lagrangian
from paperworks.papers.compresso.data import Examples
from paperworks.papers.compresso.forward import response_loss, response_objective
from paperworks.papers.compresso.gates import Gates
from paperworks.papers.compresso.size import Size
from paperworks.runs import Progress, no_progress
from paperworks.structure import masked
from paperworks.structure.units import Key
from paperworks.training import TrainingCallback, TrainResult, TrainSettings, train
from paperworks.training.losses import Batch


@dataclass(frozen=True)
class Step:
    """One step of pruning, as it was before the update.

    Attributes
    ----------
    target, sparsity : s_t, and the expected sparsity.
    lambda_1, lambda_2 : the multipliers.
    loss : mean cross-entropy of the response tokens in nats, under sampled masks.
    """

    target: float
    sparsity: float
    lambda_1: float
    lambda_2: float
    loss: float


class MaskedLearner(nn.Module):
    """A language model with adapters, the gates and the multipliers, as one module for the training loop.

    ``forward`` samples the masks of the step, puts them where the hooks look, and gives the loss of the response and
    the Lagrangian. The masks of a step come from the seed and the step's number, so that they are the same on every
    process and after a resumption, and gradients of the gates are averaged over the processes as all others are.
    """

    def __init__(
        self, model: Any, gates: Gates, lagrangian: Lagrangian, size: Size, prefix: torch.Tensor, seed: int
    ) -> None:
        super().__init__()
        self.model, self.gates, self.lagrangian = model, gates, lagrangian
        self.size, self.prefix, self.seed = size, prefix, seed
        self.live: dict[Key, torch.Tensor] = {}
        self.step = 0
        self.latest = (0.0, 0.0)

    def sparsity(self) -> torch.Tensor:
        """1 - E / M, float64 scalar with a gradient to the gates."""
        expected: torch.Tensor = self.size(self.gates.expected())
        return 1 - expected / self.size.whole

    def forward(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Sum of the losses of the response, their number, and the Lagrangian."""
        state = np.random.SeedSequence([self.seed, self.step]).generate_state(1, np.uint64)[0]
        generator = torch.Generator().manual_seed(int(state) & (2**63 - 1))
        self.live.update(self.gates.sample(generator))
        total, count = response_loss(self.model, batch, self.prefix)
        sparsity = self.sparsity()
        term = self.lagrangian(sparsity, self.step)
        self.latest = (float(sparsity.detach()), float(total.detach()) / max(int(count), 1))
        return total, count, term


def tune(model: Any, examples: Examples, settings: TrainSettings, **options: Any) -> TrainResult:
    """Train the adapters alone: before pruning, or behind fixed masks."""
    return train(model, examples, settings, loss=response_objective(examples.prefix), **options)  # type: ignore[arg-type]


def learn_masks(
    model: Any,
    examples: Examples,
    gates: Gates,
    lagrangian: Lagrangian,
    size: Size,
    settings: TrainSettings,
    *,
    mask_rate: float,
    penalty_factor: float = 1.0,
    clip_norm: float = 0.0,
    checkpoint_dir: Path | None = None,
    progress: Progress = no_progress,
    on_step: Callable[[int, Step], None] | None = None,
) -> list[Step]:
    """Train adapters, gates and multipliers together; they are left as the last step left them.

    AdamW in groups: the adapters with the settings' schedule, the gates and the multipliers at the constant
    ``mask_rate`` without decay, the multipliers by ascent, lambda_2 at ``penalty_factor`` times that rate. Only the
    adapters' gradients are clipped, to ``clip_norm`` (0: not). ``settings.clip_norm`` must be 0.

    Returns
    -------
    the course, step by step, over all attempts.
    """
    if settings.clip_norm:
        raise InputError("settings.clip_norm", settings.clip_norm, "0: the gates' gradients are not to be clipped")
    learner = MaskedLearner(model, gates, lagrangian, size, examples.prefix, settings.seed)
    adapters = [p for p in model.parameters() if p.requires_grad]
    optimizer = _optimizer(adapters, gates, lagrangian, settings, mask_rate, penalty_factor, clip_norm)
    course = _Course(learner, on_step)

    def loss(wrapped: nn.Module, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        response, count, term = wrapped(batch)
        # the loop divides by the number of targets: the Lagrangian is to count once
        return response + term.to(response) * count, count

    with masked(model, gates.deterministic(), ffn_gate="gate_up") as live:
        learner.live = live
        train(
            learner,
            examples,  # type: ignore[arg-type]
            settings,
            loss=loss,
            checkpoint_dir=checkpoint_dir,
            progress=progress,
            optimizer=optimizer,
            callbacks=[course],
        )
    return course.steps


class _Course(TrainingCallback):
    """A record of the steps."""

    def __init__(self, learner: MaskedLearner, on_step: Callable[[int, Step], None] | None) -> None:
        self.learner, self.on_step = learner, on_step
        self.steps: list[Step] = []

    def before_step(self, step: int) -> None:
        self.learner.step = step
        lagrangian = self.learner.lagrangian
        self.multipliers = float(lagrangian.lambda_1.detach()), float(lagrangian.lambda_2.detach())

    def after_step(self, step: int, loss: float, learning_rate: float) -> None:
        sparsity, response = self.learner.latest
        before = Step(self.learner.lagrangian.target(step), sparsity, *self.multipliers, response)
        self.steps.append(before)
        if self.on_step is not None:
            self.on_step(step + 1, before)

    def state_dict(self) -> dict[str, Any]:
        return {"steps": [list(astuple(step)) for step in self.steps]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.steps = [Step(*row) for row in state["steps"]]


def _optimizer(
    adapters: list[nn.Parameter],
    gates: Gates,
    lagrangian: Lagrangian,
    settings: TrainSettings,
    mask_rate: float,
    penalty_factor: float,
    clip_norm: float,
) -> torch.optim.AdamW:
    groups: list[dict[str, Any]] = [
        {"params": adapters, "weight_decay": settings.weight_decay},
        {"params": list(gates.parameters()), "lr": mask_rate, "scheduled": False},
        {"params": [lagrangian.lambda_1], "lr": mask_rate, "scheduled": False, "maximize": True},
        {"params": [lagrangian.lambda_2], "lr": mask_rate * penalty_factor, "scheduled": False, "maximize": True},
    ]
    optimizer = torch.optim.AdamW(groups, lr=mask_rate, betas=settings.betas, eps=settings.eps, weight_decay=0.0)
    if clip_norm:
        optimizer.register_step_pre_hook(lambda *_: _clip(adapters, clip_norm))
    optimizer.register_step_post_hook(lambda *_: gates.clamp_())
    return optimizer


def _clip(parameters: list[nn.Parameter], norm: float) -> None:
    nn.utils.clip_grad_norm_(parameters, norm)
