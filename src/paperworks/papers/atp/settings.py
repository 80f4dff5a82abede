"""The options of ATP: pruning spaces, the search, the tuning."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from paperworks.errors import InputError
from paperworks.papers.atp.generator import Head, Smoothing
from paperworks.training import TrainSettings

Space = Literal["layer_uniform", "disp", "heads"]
SPACES: dict[str, tuple[str, ...]] = {
    "layer_uniform": ("qk_pair", "v_channel", "ffn"),
    "disp": ("attention_in", "attention_out", "feed_forward_in", "ffn", "feed_forward_out"),
    "heads": ("kv_group", "ffn"),
}
"""Kinds of units that get masks: the paper's space with query-key channels tied over rotary pairs; the dimension
independent one (s1 .. s5); whole heads."""


@dataclass(frozen=True)
class Search:
    """The pruning-decision generator and how its decisions are drawn. None takes the generation's published value.

    Attributes
    ----------
    generation : 1 (one transformer over fixed orthogonal inputs) or 2 (trained embeddings). None: 2 for ``disp``.
    head, smoothing : see ``DecisionGenerator``.
    temperature, offset : T (0.4; generation 2: 0.2) and b (3) of the relaxation.
    learning_rate, clip_norm : of the generator's AdamW (1e-3 and 3.0; generation 2: 5e-5 and 1.0).
    settle : the rate is multiplied by 0.2 for the last fifth of the search, so that masks come to rest.
    masks : the tuning sees masks that are ``sampled`` anew in every step (the paper), or ``decided`` without noise.
    final : ``exact`` keeps the units of the largest logits inside the exact budget; ``sampled`` keeps the last sampled
        masks (the paper's code), whose size is near the target only.
    round_to : with ``exact``, numbers of kept channels (of ``disp``, also dimensions) are multiples of this, or all.
    stop_ratio, stop_after : end the search after so many steps in a row with R below ``stop_ratio``; 0: never.
    """

    generation: int | None = None
    head: Head | None = None
    smoothing: Smoothing | None = None
    temperature: float | None = None
    offset: float = 3.0
    learning_rate: float | None = None
    clip_norm: float | None = None
    settle: bool = True
    masks: Literal["sampled", "decided"] = "sampled"
    final: Literal["exact", "sampled"] = "exact"
    round_to: int = 1
    stop_ratio: float = 0.005
    stop_after: int = 0

    def __post_init__(self) -> None:
        _choice("generation", self.generation, (None, 1, 2))
        _choice("head", self.head, (None, "separate", "mlp", "experts"))
        _choice("smoothing", self.smoothing, (None, "none", "momentum", "adaptive"))
        _choice("masks", self.masks, ("sampled", "decided"))
        _choice("final", self.final, ("exact", "sampled"))
        for name in ("temperature", "learning_rate", "clip_norm"):
            value = getattr(self, name)
            if value is not None:
                _positive(name, value)
        _positive("stop_ratio", self.stop_ratio)
        _least("stop_after", self.stop_after, 0)
        _least("round_to", self.round_to, 1)
        if self.round_to > 1 and self.final != "exact":
            raise InputError("round_to", self.round_to, "1, or final 'exact': sampled masks are kept as they are")

    def resolved(self, space: str) -> Search:
        """With the published values of its generation in place of None."""
        generation = self.generation or (2 if space == "disp" else 1)
        first = generation == 1
        values: dict[str, Any] = {
            **asdict(self),
            "generation": generation,
            "head": self.head or ("separate" if first else "mlp"),
            "smoothing": self.smoothing or ("none" if first else "momentum"),
            "temperature": self.temperature or (0.4 if first else 0.2),
            "learning_rate": self.learning_rate or (1e-3 if first else 5e-5),
            "clip_norm": self.clip_norm or (3.0 if first else 1.0),
        }
        return Search(**values)


@dataclass(frozen=True)
class TrainerArgs:
    """The tuning.

    Attributes
    ----------
    epochs : over the training set; ``steps`` (optimiser steps) take its place where they are given.
    control_start, control_steps : the search runs in steps [start, start + steps); None: the first half of all.
        ``ATP(control_epochs=)`` counts in epochs.
    batch_size, accumulation, precision : of the tuning, see ``training.TrainSettings``.
    calibration_batch_size : sequences in a step of the search (None: ``batch_size``).
    schedule : constant (as the paper's, in effect) or cosine.
    tune_while_searching : False is two-stage pruning with the same generator: the search sees the untuned model.
    record_every : steps between two records of group norms.
    checkpoint_every : steps between two checkpoints, where there is a folder for them.
    """

    epochs: float = 10.0
    steps: int | None = None
    control_start: int = 0
    control_steps: int | None = None
    batch_size: int = 4
    accumulation: int = 1
    calibration_batch_size: int | None = None
    learning_rate: float = 1e-4
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    schedule: Literal["constant", "cosine"] = "constant"
    tune_while_searching: bool = True
    precision: Literal["no", "bf16", "fp16"] = "no"
    gradient_checkpointing: bool = False
    record_every: int = 10
    checkpoint_every: int = 50

    def __post_init__(self) -> None:
        for name in ("epochs", "learning_rate", "clip_norm"):
            _positive(name, getattr(self, name))
        for name in ("batch_size", "accumulation", "record_every", "checkpoint_every"):
            _least(name, getattr(self, name), 1)
        for name in ("steps", "control_steps", "calibration_batch_size"):
            if getattr(self, name) is not None:
                _least(name, getattr(self, name), 1)
        _least("control_start", self.control_start, 0)
        _choice("schedule", self.schedule, ("constant", "cosine"))
        if self.control_start and not self.tune_while_searching:
            raise InputError("control_start", self.control_start, "0, where the search comes before the tuning")
        if not self.weight_decay >= 0:
            raise InputError("weight_decay", self.weight_decay, "0 or more")

    def total(self, examples: int) -> int:
        """Optimiser steps of the whole training."""
        return self.steps or max(1, math.ceil(self.epochs * examples / (self.batch_size * self.accumulation)))

    def control(self, total: int) -> range:
        """Steps in which the masks are searched. Raises InputError if they are not inside the training."""
        length = self.control_steps or max(1, total // 2)
        most = total if self.tune_while_searching else total - 1
        if self.control_start + length > most:
            raise InputError("control_steps", f"{self.control_start} + {length}", f"at most {most} of {total} steps")
        return range(self.control_start, self.control_start + length)

    def train_settings(self, steps: int, seed: int, device: str) -> TrainSettings:
        """The tuning's share of these options, for the training loop."""
        return TrainSettings(
            steps=steps,
            batch_size=self.batch_size,
            accumulation=self.accumulation,
            learning_rate=self.learning_rate,
            clip_norm=self.clip_norm,
            schedule=self.schedule,
            checkpoint_every=self.checkpoint_every,
            precision=self.precision,
            device=device,
            seed=seed,
        )


def _choice(name: str, found: object, options: tuple[object, ...]) -> None:
    if found not in options:
        raise InputError(name, found, " or ".join(map(str, options)))


def _positive(name: str, found: float) -> None:
    if not (isinstance(found, (int, float)) and math.isfinite(found) and found > 0):
        raise InputError(name, found, "a positive number")


def _least(name: str, found: int, least: int) -> None:
    if not isinstance(found, int) or isinstance(found, bool) or found < least:
        raise InputError(name, found, f"a whole number, {least} or more")


def search_rate(steps: int) -> float:
    """The generator's rate for so many steps: the paper's 1e-3, and more below 150, where masks could not close."""
    return max(1e-3, 0.15 / max(steps, 1))
