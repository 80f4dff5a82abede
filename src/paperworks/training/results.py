"""What a training did."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Self


@dataclass
class TrainResult:
    """What a training did.

    Attributes
    ----------
    losses : mean loss per target of every optimiser step, before the step was taken.
    evals : (steps done, evaluation loss) of every evaluation.
    steps : optimiser steps done.
    best_step : steps done at the best evaluation; without evaluations, ``steps``.
    seconds : time spent in the loop, over all attempts.
    stopped_early : whether patience ran out.
    """

    losses: list[float] = field(default_factory=list)
    evals: list[tuple[int, float]] = field(default_factory=list)
    steps: int = 0
    best_step: int = 0
    seconds: float = 0.0
    stopped_early: bool = False

    def note_evaluation(self, value: float, patience: int) -> bool:
        """Add an evaluation, and stop early where patience runs out. Returns whether it is the best so far."""
        best = value < min((v for _, v in self.evals), default=math.inf)
        self.evals.append((self.steps, value))
        if best:
            self.best_step = self.steps
        without_gain = sum(1 for steps, _ in self.evals if steps > self.best_step)
        self.stopped_early = bool(patience) and without_gain >= patience
        return best

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a checkpoint."""
        return asdict(self)

    @classmethod
    def from_dict(cls, saved: dict[str, Any]) -> Self:
        """The result that ``to_dict`` gave."""
        return cls(**{**saved, "evals": [(int(steps), float(value)) for steps, value in saved["evals"]]})
