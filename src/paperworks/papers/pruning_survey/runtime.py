"""Run-time pruning: channels are chosen for each input (feature boosting and suppression, Gao 2019).

For a convolution with output ``y``:  ``s = ReLU(Linear(mean |x_c|))``, the ``d C`` largest of ``s`` stay (k winners
take all), and the normalised output is multiplied by them. A convolution's multiply-accumulates for an input are those
of the channels that it makes times those that came in.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from paperworks.errors import InputError
from paperworks.papers.pruning_survey.masks import check_density

PENALTY = 1e-8
"""On the mean saliency, added to the loss by ``saliency_penalty``."""


class GatedConvolution(nn.Module):
    """A convolution (with its norm, if any) behind a gate that keeps ``round(density C)`` channels for each input."""

    def __init__(self, convolution: nn.Conv2d, norm: nn.Module | None, density: float) -> None:
        super().__init__()
        self.convolution, self.norm = convolution, norm
        self.saliency = nn.Linear(convolution.in_channels, convolution.out_channels)
        nn.init.kaiming_normal_(self.saliency.weight)
        nn.init.ones_(self.saliency.bias)
        self.kept = max(1, round(check_density(density) * convolution.out_channels))
        self.last: torch.Tensor | None = None
        self.active: torch.Tensor | None = None
        self.macs: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The gated output; ``active`` [n, C] bool and ``macs`` [n] are those of the last call."""
        s = self.saliency(x.abs().mean((2, 3))).relu()
        order = s.argsort(dim=1, descending=True, stable=True)[:, : self.kept]
        gate = torch.zeros_like(s).scatter(1, order, s.gather(1, order))
        y = self.convolution(x)
        y = y if self.norm is None else self.norm(y)
        self.last, self.active = s, gate > 0
        inputs = (x.flatten(2) != 0).any(2).sum(1)
        kernel = self.convolution.weight[0, 0].numel()
        self.macs = self.active.sum(1) * inputs * kernel * y.shape[2] * y.shape[3]
        return y * gate[:, :, None, None]


def with_gates(model: nn.Sequential, density: float, *, skip_first: bool = False) -> nn.Sequential:
    """A copy of a sequence of convolutions, norms and activations whose convolutions are gated.

    Raises InputError for a model that is no ``nn.Sequential`` with convolutions.
    """
    import copy

    if not isinstance(model, nn.Sequential) or not any(isinstance(m, nn.Conv2d) for m in model):
        raise InputError("model", type(model).__name__, "an nn.Sequential with convolutions, for gates at run time")
    layers: list[nn.Module] = []
    parts = list(copy.deepcopy(model))
    for number, part in enumerate(parts):
        follows: Any = parts[number + 1] if number + 1 < len(parts) else None
        if isinstance(part, nn.BatchNorm2d) and number and isinstance(parts[number - 1], nn.Conv2d):
            continue
        if not isinstance(part, nn.Conv2d) or (skip_first and not number):
            layers.append(part)
        else:
            layers.append(GatedConvolution(part, follows if isinstance(follows, nn.BatchNorm2d) else None, density))
    return nn.Sequential(*layers)


def gates_of(model: nn.Module) -> list[GatedConvolution]:
    """The gated convolutions, in their order."""
    return [m for m in model.modules() if isinstance(m, GatedConvolution)]


def saliency_penalty(model: nn.Module) -> torch.Tensor:
    """The sum over gates of the mean saliency of the last call, for ``regularisers.penalised`` at 1e-8."""
    parts = [gate.last.abs().sum(1).mean() for gate in gates_of(model) if gate.last is not None]
    return torch.stack(parts).sum()


@torch.no_grad()
def macs_by_input(model: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    """int64 [n]: multiply-accumulates of the gated convolutions for each input, without those of the gates."""
    model.eval()
    model(inputs)
    found = [gate.macs for gate in gates_of(model) if gate.macs is not None]
    return torch.stack(found).sum(0).cpu()
