"""The size as a constraint: an augmented Lagrangian whose multipliers climb while the masks descend."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from paperworks.errors import InputError

Schedule = Literal["linear", "cubic"]


def sparsity_target(step: int, final: float, warmup: int, schedule: Schedule = "linear") -> float:
    """s_t at ``step`` steps after pruning began: from 0 to ``final`` over ``warmup`` steps.

    ``linear``: s* min(1, k / K). ``cubic``: s* (1 - (1 - min(1, k / K))^3), which prunes fast at first.
    """
    share = 1.0 if warmup <= 0 else min(1.0, step / warmup)
    return final * (share if schedule == "linear" else 1 - (1 - share) ** 3)


class Lagrangian(nn.Module):
    """lambda_1 (s - s_t) + lambda_2 (s - s_t)^2, both multipliers 0 at first.

    The multipliers are to be updated by gradient *ascent* (``maximize=True``): while s < s_t, lambda_1 falls below 0
    and lambda_2 rises, so that the derivative by s is negative and descent raises the sparsity.

    Parameters
    ----------
    final : s*, in (0, 1).
    warmup : steps until the target is s*.
    """

    def __init__(self, final: float, warmup: int, schedule: Schedule = "linear") -> None:
        super().__init__()
        if not 0 < final < 1:
            raise InputError("target_sparsity", final, "a share above 0 and below 1")
        if schedule not in ("linear", "cubic"):
            raise InputError("schedule", schedule, "linear or cubic")
        self.final, self.warmup, self.schedule = final, warmup, schedule
        self.lambda_1 = nn.Parameter(torch.zeros(()))
        self.lambda_2 = nn.Parameter(torch.zeros(()))

    def target(self, step: int) -> float:
        """s_t after ``step`` steps of pruning."""
        return sparsity_target(step, self.final, self.warmup, self.schedule)

    def forward(self, sparsity: torch.Tensor, step: int) -> torch.Tensor:
        """The term of the loss, a float64 scalar, for an expected sparsity (float64 scalar)."""
        gap = sparsity - self.target(step)
        return self.lambda_1.double() * gap + self.lambda_2.double() * gap**2
