"""Random masks that learn: hard-concrete gates and straight-through Gumbel-sigmoid gates."""

from __future__ import annotations

import math

import torch
from torch import nn

from paperworks.errors import InputError

LOW, HIGH, TEMPERATURE = -0.1, 1.1, 2 / 3
SHARPNESS = 0.8
EULER_GAMMA = 0.5772156649015329
SMALL = 1e-6


class HardConcrete(nn.Module):
    """Gates z in [0, 1] with a chance of being exactly 0 or 1 (Louizos et al. 2018, as Compresso uses them).

    s = sigmoid((log u - log(1 - u) + log_alpha) / b), z = clip(s (r - l) + l, 0, 1), with b = 2/3, l = -0.1, r = 1.1.
    The last dimension holds the units of one set: ``deterministic`` rounds the number of zeros along it.

    Parameters
    ----------
    shape : of the gates, such as (layers, channels).
    mean, std : log_alpha is drawn from N(mean, std).
    generator : draws it; None leaves log_alpha at ``mean``.
    """

    def __init__(
        self,
        shape: int | tuple[int, ...],
        *,
        mean: float = 10.0,
        std: float = 0.01,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        start = torch.full(shape, float(mean))
        if generator is not None:
            start += std * torch.randn(shape, generator=generator)
        self.log_alpha = nn.Parameter(start)

    @staticmethod
    def mean_for(drop_rate: float) -> float:
        """log((1 - q) / q): the mean of log_alpha at which about a share q of the gates is closed (q = 0.01: 4.595)."""
        if not 0 < drop_rate < 1:
            raise InputError("drop_rate", drop_rate, "a share above 0 and below 1")
        return math.log((1 - drop_rate) / drop_rate)

    def sample(self, generator: torch.Generator | None = None) -> torch.Tensor:
        """Gates for one training step, with a gradient to ``log_alpha``."""
        noise = torch.rand(self.log_alpha.shape, generator=generator).to(self.log_alpha)
        noise = noise * (1 - 2 * SMALL) + SMALL
        s = torch.sigmoid((noise.log() - (1 - noise).log() + self.log_alpha) / TEMPERATURE)
        return (s * (HIGH - LOW) + LOW).clamp(0, 1)

    def p_nonzero(self) -> torch.Tensor:
        """P(z > 0) = sigmoid(log_alpha - b log(-l / r)), kept within [1e-6, 1 - 1e-6]."""
        return torch.sigmoid(self.log_alpha - TEMPERATURE * math.log(-LOW / HIGH)).clamp(SMALL, 1 - SMALL)

    @torch.no_grad()
    def deterministic(self) -> torch.Tensor:
        """Gates for evaluation: along the last dimension the round(n - sum P(z > 0)) smallest are 0.

        The others keep their soft value sigmoid(0.8 log_alpha / b), which is close to and below 1.
        """
        soft = torch.sigmoid(SHARPNESS * self.log_alpha / TEMPERATURE)
        rows, chances = soft.reshape(-1, soft.shape[-1]).clone(), self.p_nonzero().double()
        zeros = (soft.shape[-1] - chances.reshape(rows.shape).sum(-1)).round().long()
        for row, n, alpha in zip(rows, zeros.tolist(), self.log_alpha.reshape(rows.shape), strict=True):
            row[alpha.argsort(stable=True)[:n]] = 0
        return rows.reshape(soft.shape)

    @torch.no_grad()
    def clamp_(self) -> None:
        """log_alpha into [log 0.01, log 100]: after every optimiser step."""
        self.log_alpha.clamp_(math.log(0.01), math.log(100))


class StraightThroughGumbel(nn.Module):
    """Hard gates of logits with the gradient of soft ones (ATP): soft = sigmoid((z + g + b) / T), hard = soft >= 1/2.

    g = -log(-log u) is one Gumbel variable for each entry, so that P(hard = 1) = 1 - exp(-exp(z + b)).

    Parameters
    ----------
    temperature, offset : T and b; with b = 3 nearly every gate of logits near 0 is open.
    """

    def __init__(self, temperature: float = 0.4, offset: float = 3.0) -> None:
        super().__init__()
        if temperature <= 0:
            raise InputError("temperature", temperature, "a positive number")
        self.temperature, self.offset = temperature, offset

    def soft(self, logits: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        """sigmoid((z + g + b) / T)."""
        noise = torch.rand(logits.shape, generator=generator).to(logits)
        noise = noise * (1 - 2 * SMALL) + SMALL
        return torch.sigmoid((logits - (-noise.log()).log() + self.offset) / self.temperature)

    def forward(self, logits: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        """0 or 1, with the gradient of ``soft``."""
        return self.straight_through(self.soft(logits, generator))

    @staticmethod
    def straight_through(soft: torch.Tensor) -> torch.Tensor:
        """1 where soft >= 1/2, 0 elsewhere; the gradient passes unchanged."""
        hard = (soft >= 0.5).to(soft.dtype)
        return hard + (soft - soft.detach())  # in this order the value is hard to the last bit

    def p_keep(self, logits: torch.Tensor) -> torch.Tensor:
        """1 - exp(-exp(z + b))."""
        return -torch.expm1(-torch.exp(logits + self.offset))

    def deterministic(self, logits: torch.Tensor) -> torch.Tensor:
        """The gates without noise: open where z + b + Euler's gamma (the noise's mean) is not negative."""
        return (logits + self.offset + EULER_GAMMA >= 0).to(logits.dtype)
