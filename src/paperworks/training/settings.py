"""The options of the training loop."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from paperworks.errors import InputError
from paperworks.parameters import check_seed
from paperworks.training.schedules import SCHEDULES, ScheduleName, learning_rate_factor


@dataclass(frozen=True)
class TrainSettings:
    """Options of ``train``.

    Attributes
    ----------
    steps : optimiser steps; None means as many as ``epochs`` asks for.
    epochs : passes over the data, where ``steps`` is None. A fraction is allowed.
    batch_size : examples in one forward pass, on each device.
    accumulation : forward passes in one optimiser step.
    optimizer : "adamw" (Loshchilov and Hutter 2019), or "sgd".
    learning_rate : the highest of the schedule.
    betas, eps : of AdamW.
    momentum, nesterov : of SGD.
    weight_decay : applies to matrices and kernels only, not to gains and biases.
    clip_norm : the gradient's norm is cut to this; 0 turns it off.
    schedule, warmup_steps, decay_fraction, final_factor, milestones, gamma : see ``learning_rate_factor``.
    schedule_start, schedule_steps : where this training stands in a schedule over several: steps done before it, and
        steps of all together (None: this training is the whole).
    eval_every : evaluate after every so many steps and after the last; 0 means after the last only.
    patience : stop when so many evaluations in a row brought no better loss; 0 means never.
    restore_best : leave the model with the weights of its best evaluation, not of its last step.
    checkpoint_every : write a checkpoint after every so many steps; 0 means at the end, and when stopped, only.
    precision : "no" computes in the weights' own dtype; "bf16" and "fp16" are autocast.
    compile : pass the model through ``torch.compile``.
    device : "auto", or a device of PyTorch.
    seed : the order of the examples and the dropout masks.
    """

    steps: int | None = None
    epochs: float = 1.0
    batch_size: int = 8
    accumulation: int = 1
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = 2e-4
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-8
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    schedule: ScheduleName = "linear"
    warmup_steps: int = 0
    decay_fraction: float = 0.2
    final_factor: float = 0.0
    milestones: tuple[float, ...] = (0.5, 0.75)
    gamma: float = 0.1
    schedule_start: int = 0
    schedule_steps: int | None = None
    eval_every: int = 0
    patience: int = 0
    restore_best: bool = True
    checkpoint_every: int = 0
    precision: Literal["no", "bf16", "fp16"] = "no"
    compile: bool = False
    device: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        check_seed("seed", self.seed)
        for name in ("batch_size", "accumulation"):
            _require(name, getattr(self, name), getattr(self, name) >= 1, "1 or more")
        for name in ("eval_every", "patience", "checkpoint_every", "warmup_steps", "schedule_start"):
            _require(name, getattr(self, name), getattr(self, name) >= 0, "0 or more")
        for name in ("learning_rate", "epochs", "eps"):
            value = getattr(self, name)
            _require(name, value, math.isfinite(value) and value > 0, "a positive number")
        for name in ("weight_decay", "clip_norm"):
            value = getattr(self, name)
            _require(name, value, math.isfinite(value) and value >= 0, "0 or a positive number")
        for name in ("decay_fraction", "final_factor"):
            _require(name, getattr(self, name), 0 <= getattr(self, name) <= 1, "a number from 0 to 1")
        _require("steps", self.steps, self.steps is None or self.steps >= 1, "1 or more, or None")
        whole = self.schedule_steps
        _require(
            "schedule_steps", whole, whole is None or whole > self.schedule_start, "more than schedule_start, or None"
        )
        _require(
            "betas", self.betas, len(self.betas) == 2 and all(0 <= b < 1 for b in self.betas), "two numbers in [0, 1)"
        )
        _require("schedule", self.schedule, self.schedule in SCHEDULES, f"one of {', '.join(SCHEDULES)}")
        _require("optimizer", self.optimizer, self.optimizer in ("adamw", "sgd"), "adamw or sgd")
        _require("momentum", self.momentum, 0 <= self.momentum < 1, "a number in [0, 1)")
        _require("nesterov", self.nesterov, not self.nesterov or self.momentum > 0, "False without momentum")
        _require("gamma", self.gamma, 0 < self.gamma <= 1, "a factor above 0, at most 1")
        ascending = list(self.milestones) == sorted(self.milestones) and all(
            0 < m < 1 or (m >= 1 and m == int(m)) for m in self.milestones
        )
        _require("milestones", self.milestones, ascending, "ascending numbers of steps, or shares of all steps below 1")
        _require("precision", self.precision, self.precision in ("no", "bf16", "fp16"), "no, bf16 or fp16")

    def examples_per_step(self, processes: int = 1) -> int:
        """Examples that one optimiser step uses."""
        return self.batch_size * self.accumulation * processes

    def total_steps(self, examples: int, processes: int = 1) -> int:
        """Optimiser steps of the whole training on a set of so many examples."""
        if self.steps is not None:
            return self.steps
        return max(1, math.ceil(self.epochs * examples / self.examples_per_step(processes)))

    def rate(self, step: int, total_steps: int) -> float:
        """The learning rate of a step, counted from 0."""
        return self.learning_rate * learning_rate_factor(
            self.schedule_start + step,
            schedule=self.schedule,
            total_steps=self.schedule_start + total_steps if self.schedule_steps is None else self.schedule_steps,
            warmup_steps=self.warmup_steps,
            decay_fraction=self.decay_fraction,
            final_factor=self.final_factor,
            milestones=self.milestones,
            gamma=self.gamma,
        )

    def what_decides_the_weights(self) -> dict[str, Any]:
        """The options that a resumed training must share with the one it goes on from."""
        free = {"checkpoint_every", "device", "compile"}
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items() if name not in free}


def _require(field: str, found: object, right: bool, expected: str) -> None:
    if not right:
        raise InputError(field, found, expected)
