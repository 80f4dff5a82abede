"""The options of the training, phase by phase."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from paperworks.errors import InputError
from paperworks.training import TrainSettings
from paperworks.training.schedules import ScheduleName

Phase = Literal["tuning", "pruning", "final"]
BETAS = (0.9, 0.999)


@dataclass(frozen=True)
class TrainerArgs:
    """Options of the training, with the values of the paper and its scripts.

    Attributes
    ----------
    tuning_epochs, pruning_epochs, final_epochs : passes over the data with adapters alone, with masks (five, and one to
        settle at the target), and behind fixed masks.
    tuning_steps, pruning_steps, final_steps : optimiser steps, in place of epochs.
    batch_size, accumulation, max_length : sequences in a step; tokens of a sequence, the prompt among them.
    learning_rate : of the adapters, falling linearly in each of the first two phases; ``final_learning_rate``, on a
        cosine, in the last.
    mask_learning_rate : of log_alpha and of the multipliers, constant.
    penalty_factor : the rate of lambda_2 is so many times that. Adam moves both multipliers by about the rate a step,
        so that at 1, the paper's, the sparsity swings about its target for hundreds of steps; 10 settles it sooner.
    clip_norm : of the adapters' gradient; 0 for none.
    checkpoint_every : steps between two checkpoints; None writes ten in each phase.
    """

    tuning_epochs: float = 1
    pruning_epochs: float = 6
    final_epochs: float = 0
    tuning_steps: int | None = None
    pruning_steps: int | None = None
    final_steps: int | None = None
    batch_size: int = 8
    accumulation: int = 1
    max_length: int = 1024
    learning_rate: float = 5e-5
    final_learning_rate: float = 4e-4
    mask_learning_rate: float = 0.1
    penalty_factor: float = 1.0
    clip_norm: float = 1.0
    weight_decay: float = 0.0
    precision: Literal["no", "bf16", "fp16"] = "no"
    checkpoint_every: int | None = None

    def settings(self, phase: Phase, examples: int, device: str, seed: int) -> TrainSettings | None:
        """The settings of one phase, or None where it has no steps."""
        steps, epochs = getattr(self, f"{phase}_steps"), getattr(self, f"{phase}_epochs")
        if steps is None:
            steps = round(epochs * max(1, -(-examples // (self.batch_size * self.accumulation))))
        if steps < 0:
            raise InputError(f"{phase}_steps", steps, "0 or more")
        if steps == 0:
            return None
        schedule: ScheduleName = "cosine" if phase == "final" else "linear"
        return TrainSettings(
            steps=steps,
            batch_size=max(1, min(self.batch_size, examples)),
            accumulation=self.accumulation,
            learning_rate=self.final_learning_rate if phase == "final" else self.learning_rate,
            betas=BETAS,
            weight_decay=self.weight_decay,
            clip_norm=0.0 if phase == "pruning" else self.clip_norm,
            schedule=schedule,
            checkpoint_every=self.checkpoint_every or max(1, steps // 10),
            precision=self.precision,
            device=device,
            seed=seed,
        )
