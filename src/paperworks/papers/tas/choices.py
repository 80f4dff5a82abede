"""Choices of widths and depths: their candidates, and how they are drawn (Gumbel-softmax, several at a time)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from paperworks.errors import InputError

RATIOS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""The paper's candidate widths, as shares of the full width."""

DepthRule = Literal["small", "large"]
SPREAD = 0.01
"""Standard deviation of the logits at the beginning."""


def width_candidates(width: int, ratios: Sequence[float] = RATIOS) -> tuple[int, ...]:
    """The candidate widths of a convolution: ``int(width x ratio)``, at least 1, each once, ascending.

    Raises InputError for ratios outside (0, 1].
    """
    if not ratios or not all(0 < ratio <= 1 for ratio in ratios):
        raise InputError("ratios", tuple(ratios), "shares above 0, up to 1")
    return tuple(sorted({max(1, int(width * ratio)) for ratio in ratios}))


def depth_candidates(blocks: Sequence[int], rule: DepthRule = "small") -> tuple[tuple[int, ...], ...]:
    """The candidate numbers of blocks, by stage.

    ``small`` (networks for CIFAR): every number up to 3 blocks; of more blocks 1, 3, 5, ... and all. ``large``
    (ImageNet): ``int(n j / J)`` for j = 1 ... J, where J is the least number of blocks of a stage.
    """
    if not blocks or min(blocks) < 1:
        raise InputError("blocks", tuple(blocks), "1 or more in every stage")
    if rule == "large":
        least = min(blocks)
        return tuple(tuple(sorted({int(n * j / least) for j in range(1, least + 1)})) for n in blocks)
    return tuple(tuple(range(1, n + 1)) if n <= 3 else tuple(sorted({*range(1, n + 1, 2), n})) for n in blocks)


@dataclass(frozen=True)
class Draw:
    """What was drawn for one width.

    Attributes
    ----------
    picks : positions of the drawn candidates.
    weights : their weights, float ``[len(picks)]``, which add up to 1 and have a gradient.
    """

    picks: tuple[int, ...]
    weights: torch.Tensor


class ChoiceLogits(torch.nn.Module):
    """Logits of several choices, each among candidates of its own.

    Parameters
    ----------
    sizes : number of candidates of each choice.
    generator : draws the first logits, N(0, 0.01^2).
    """

    def __init__(self, sizes: Sequence[int], generator: torch.Generator | None = None) -> None:
        super().__init__()
        if not sizes or min(sizes) < 1:
            raise InputError("sizes", tuple(sizes), "1 or more candidates for every choice")
        self.sizes = tuple(sizes)
        self.logits = torch.nn.Parameter(SPREAD * torch.randn(len(sizes), max(sizes), generator=generator))
        self.valid: torch.Tensor
        inside = torch.arange(max(sizes))[None, :] < torch.tensor(self.sizes)[:, None]
        self.register_buffer("valid", inside, persistent=False)

    def log_probabilities(self) -> torch.Tensor:
        """Log-softmax of each choice, float ``[choices, most candidates]``; -inf where there is no candidate."""
        return self.logits.masked_fill(~self.valid, -torch.inf).log_softmax(1)

    def probabilities(self) -> list[torch.Tensor]:
        """The softmax of each choice, without noise, float64 ``[candidates]``."""
        return [row[:n].softmax(0) for row, n in zip(self.logits.double(), self.sizes, strict=True)]

    def best(self) -> list[int]:
        """The position of the most probable candidate of each choice, the first of equal ones."""
        return [int(row[:n].detach().argmax()) for row, n in zip(self.logits, self.sizes, strict=True)]

    def noisy(self, temperature: float, generator: torch.Generator | None = None) -> torch.Tensor:
        """``(log-softmax + Gumbel noise) / temperature``, float ``[choices, most candidates]``."""
        shape = self.logits.shape
        while True:
            uniform = torch.rand(shape, generator=generator, device=None if generator else self.logits.device)
            gumbel = -(-uniform.log()).log()
            if bool(torch.isfinite(gumbel).all()):  # the noise of u = 0 and of u = 1 is infinite
                break
        return (self.log_probabilities() + gumbel.to(self.logits)) / temperature

    def draw(self, count: int, temperature: float, generator: torch.Generator | None = None) -> list[Draw]:
        """``count`` different candidates of every choice (all of them where it has fewer).

        They are drawn without replacement by ``softmax(z) + 1e-7``, z the noisy logits; their weights are the softmax
        of z over them. The gradient goes through the weights.
        """
        noisy = self.noisy(temperature, generator)
        chances = (noisy.detach().softmax(1) + 1e-7) * self.valid
        most = min(count, chances.shape[1])
        # rows with fewer candidates than are drawn must not be asked for more than they have
        short = self.valid.sum(1) < most
        chances[short] = (chances[short] > 0).float() + (~self.valid[short]).float() * 1e-30
        if generator is not None and chances.device.type != "cpu":
            rows = torch.multinomial(chances.cpu(), most, generator=generator)
        else:
            rows = torch.multinomial(chances, most, generator=generator)
        drawn = []
        for number, (row, size) in enumerate(zip(rows.tolist(), self.sizes, strict=True)):
            picks = tuple(range(size)) if size <= most else tuple(row)
            drawn.append(Draw(picks, noisy[number, list(picks)].softmax(0)))
        return drawn

    def certain(self, chosen: Sequence[int]) -> list[Draw]:
        """One candidate of each choice, with weight 1."""
        return [Draw((int(pick),), self.logits.new_ones(1)) for pick in chosen]
