"""Learning-rate schedules, as a factor of the peak rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

ScheduleName = Literal["constant", "linear", "cosine", "wsd", "multistep"]
SCHEDULES: tuple[str, ...] = get_args(ScheduleName)


def learning_rate_factor(
    step: int,
    *,
    schedule: ScheduleName,
    total_steps: int,
    warmup_steps: int = 0,
    decay_fraction: float = 0.2,
    final_factor: float = 0.0,
    milestones: Sequence[float] = (),
    gamma: float = 0.1,
) -> float:
    """The factor of the peak learning rate for one optimiser step.

    Every schedule starts with a linear warm-up, ``(step + 1) / warmup_steps``, so that no step has rate zero. Then

    - ``constant``: 1;
    - ``linear``: falls in a straight line from 1 to ``final_factor``;
    - ``cosine``: falls along half a cosine from 1 to ``final_factor``;
    - ``wsd`` (warm-up, stable, decay): 1, then a straight line to ``final_factor`` over the last ``decay_fraction`` of
      all steps;
    - ``multistep``: multiplied by ``gamma`` at each of the ``milestones``.

    Falling schedules reach ``final_factor`` one step after the last, so that the last step still learns.

    Parameters
    ----------
    step : number of the step, from 0.
    total_steps : number of steps in the whole training, at least 1.
    milestones : numbers of steps; below 1, shares of all steps.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    if schedule == "constant":
        return 1.0
    if schedule == "multistep":
        at = [round(m * total_steps) if m < 1 else m for m in milestones]
        return gamma ** sum(step >= milestone for milestone in at)
    start = warmup_steps
    if schedule == "wsd":
        start = max(warmup_steps, total_steps - round(decay_fraction * total_steps))
    done = min(max(step - start, 0) / max(total_steps - start, 1), 1.0)
    shape = 0.5 * (1 + math.cos(math.pi * done)) if schedule == "cosine" else 1.0 - done
    return final_factor + (1 - final_factor) * shape
