"""Sparse from the first step to the last: masks that move while the network learns (SET, RigL).

Every ``every`` steps a share of the smallest weights of each tensor leaves, and as many grow among all that are not
kept: at random (SET, Mocanu 2018), or where the gradient is largest (RigL, Evci 2020). The share falls as
``alpha / 2 (1 + cos(pi t / T_end))``. New weights start at zero and without momentum.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import nn

from paperworks.errors import InputError
from paperworks.papers.pruning_survey.masks import MaskCallback, apply_masks, mask_moments, masked_weights, top
from paperworks.parameters import check_seed, check_whole

Grow = Literal["random", "gradient"]


class DynamicSparseTraining(MaskCallback):
    """A mask callback whose masks move. Use it as a context, among the callbacks of a training.

    Parameters
    ----------
    masks : to begin with, such as random ones at ERK densities.
    grow : ``random`` (SET) or ``gradient`` (RigL).
    alpha : the first share that moves. every : steps between moves. until : the step after which nothing moves.
    """

    def __init__(
        self,
        model: nn.Module,
        masks: Mapping[str, torch.Tensor],
        *,
        until: int,
        grow: Grow = "gradient",
        alpha: float = 0.3,
        every: int = 100,
        optimizer: torch.optim.Optimizer | None = None,
        seed: int = 0,
    ) -> None:
        check_seed("seed", seed)
        super().__init__(model, masks, optimizer)
        check_whole("every", every, 1)
        check_whole("until", until)
        if grow not in ("random", "gradient"):
            raise InputError("grow", grow, "random or gradient")
        if not 0 < alpha < 1:
            raise InputError("alpha", alpha, "a share between 0 and 1")
        self.grow, self.alpha, self.every, self.until, self.seed = grow, alpha, every, until, seed
        self._dense: dict[str, torch.Tensor] = {}

    def _hook(self, name: str) -> Any:
        masked = super()._hook(name)

        def note(gradient: torch.Tensor) -> Any:
            self._dense[name] = gradient.detach()
            return masked(gradient)

        return note

    def share(self, step: int) -> float:
        """Of each tensor's kept weights, how much moves after a step."""
        return self.alpha / 2 * (1 + math.cos(math.pi * step / max(1, self.until)))

    def after_step(self, step: int, loss: float, learning_rate: float) -> None:
        """Move the masks where a move is due, then mask."""
        if step and step % self.every == 0 and step < self.until:
            for name, weight in masked_weights(self.model, self.masks):
                self.masks[name] = self._moved(name, weight.detach(), step)
        super().after_step(step, loss, learning_rate)

    def _moved(self, name: str, weight: torch.Tensor, step: int) -> torch.Tensor:
        mask = self.masks[name]
        count = int(self.share(step) * int(mask.sum()))
        if not count:
            return mask
        kept = top(torch.where(mask, weight.abs(), -torch.ones_like(weight)), int(mask.sum()) - count)
        if self.grow == "gradient":
            wanted = self._dense[name].abs()
        else:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
            wanted = torch.rand(weight.shape, generator=generator).to(weight.device)
        # what has just left may grow again, as in RigL: candidates are all but the kept
        grown = top(torch.where(kept, -torch.ones_like(wanted), wanted), count)
        return kept | grown


class SoftFilters(MaskCallback):
    """Soft filter pruning (He 2018): the lowest filters are zeroed after every epoch and go on learning.

    ``ratio`` of the filters of each tensor by L2 norm; asymptotically (ASFP) the ratio grows with the cubic curve over
    ``epochs``. ``masks`` has those of the last epoch: apply them at the end.
    """

    def __init__(
        self,
        model: nn.Module,
        names: list[str],
        ratio: float,
        *,
        steps_per_epoch: int,
        epochs: int,
        growing: bool = False,
    ) -> None:
        check_whole("steps_per_epoch", steps_per_epoch, 1)
        check_whole("epochs", epochs, 1)
        if not 0 <= ratio < 1:
            raise InputError("ratio", ratio, "a share of the filters that leaves, from 0 and below 1")
        named = dict(model.named_parameters())
        super().__init__(model, {name: torch.ones_like(named[name], dtype=torch.bool) for name in names})
        self.ratio, self.every, self.epochs, self.growing = ratio, steps_per_epoch, epochs, growing

    def __enter__(self) -> SoftFilters:
        return self  # no hooks: zeroed filters go on learning

    def after_step(self, step: int, loss: float, learning_rate: float) -> None:
        """Zero the lowest filters at the end of an epoch."""
        if (step + 1) % self.every:
            return
        epoch = (step + 1) // self.every
        share = self.ratio * (1 - (1 - min(1.0, epoch / self.epochs)) ** 3) if self.growing else self.ratio
        for name, weight in masked_weights(self.model, self.masks):
            norms = weight.detach().flatten(1).norm(dim=1)
            kept = top(norms, len(norms) - int(share * len(norms)))
            self.masks[name] = kept.view(-1, *[1] * (weight.ndim - 1)).expand(weight.shape).clone()
        apply_masks(self.model, self.masks)
        if self.optimizer is not None:
            mask_moments(self.optimizer, dict(masked_weights(self.model, self.masks)), self.masks)
