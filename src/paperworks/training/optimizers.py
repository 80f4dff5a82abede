"""Optimisers: AdamW and SGD from the settings, options by group of parameters, and turns of several optimisers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from paperworks.errors import InputError
from paperworks.training.losses import Loss
from paperworks.training.settings import TrainSettings

ParameterGroups = Callable[[nn.Module], Sequence[dict[str, Any]]]
"""A function from a model to groups of its parameters, as PyTorch's optimisers take them. See ``make_optimizer``."""


def decay_groups(model: nn.Module, settings: TrainSettings) -> list[dict[str, Any]]:
    """The groups that ``train`` makes: weight decay on matrices and kernels; none on gains and biases (1-d)."""
    trained = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]


def make_optimizer(
    model: nn.Module, settings: TrainSettings, param_groups: ParameterGroups | None = None, *, fused: bool = True
) -> torch.optim.Optimizer:
    """The optimiser that the settings name: AdamW (Loshchilov and Hutter 2019), or SGD with momentum.

    Parameters
    ----------
    model : its parameters with ``requires_grad`` are trained.
    param_groups : function from the model to groups of its parameters (default: ``decay_groups``). A group is a
        dictionary with ``params`` and options of its own: ``weight_decay``, ``lr_factor`` (multiplies the scheduled
        learning rate), or ``scheduled`` False with an ``lr`` that stays constant.
    fused : PyTorch's fused kernel of AdamW, which the CPU and CUDA have.

    Raises
    ------
    InputError : naming ``param_groups``, where they leave out a trained parameter or have one twice.

    Examples
    --------
    >>> from paperworks.training import TrainSettings
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2))
    >>> def head_first(model):
    ...     return [{"params": model[0].parameters(), "lr_factor": 0.1}, {"params": model[1].parameters()}]
    >>> [group["weight_decay"] for group in make_optimizer(model, TrainSettings(), head_first).param_groups]
    [0.01, 0.01]
    """
    if param_groups is None:
        groups = decay_groups(model, settings)
    else:
        groups = [{**group, "params": list(group["params"])} for group in param_groups(model)]
        _check_groups(model, groups)
    common: dict[str, Any] = {"lr": settings.learning_rate, "weight_decay": settings.weight_decay}
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=settings.momentum, nesterov=settings.nesterov, **common)
    return torch.optim.AdamW(groups, betas=settings.betas, eps=settings.eps, fused=fused, **common)


def _check_groups(model: nn.Module, groups: list[dict[str, Any]]) -> None:
    places: dict[int, int] = {}
    for group in groups:
        for parameter in group["params"]:
            places[id(parameter)] = places.get(id(parameter), 0) + 1
    for name, parameter in model.named_parameters():
        count = places.get(id(parameter), 0)
        if count > 1 or (parameter.requires_grad and count == 0):
            found = f"{name!r} in {count} groups" if count else f"no group with {name!r}"
            raise InputError("param_groups", found, "every trained parameter in one group")


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the rate of every group: ``rate`` times its ``lr_factor``; a group with ``scheduled`` False keeps its own."""
    for group in optimizer.param_groups:
        if group.get("scheduled", True):
            group["lr"] = rate * group.get("lr_factor", 1.0)


@dataclass(frozen=True)
class Turn:
    """Steps of one optimiser, among several that take turns: bilevel, adversarial and supernet training.

    In its turn an optimiser updates its own parameters only; gradients of the others are dropped, and their moments
    rest. ``train(..., turns=[Turn(a), Turn(b, steps=2)])`` does steps of a, b, b, a, b, b, ...

    Attributes
    ----------
    optimizer : of the parameters that this turn updates.
    loss : the turn's loss; None is that of ``train``.
    data : the turn's examples, such as the validation half of bilevel training; None is that of ``train``. Their order
        is a function of the seed and of the number of steps that this turn has had.
    steps : steps in a row.
    """

    optimizer: torch.optim.Optimizer
    loss: Loss | None = None
    data: Any = None
    steps: int = 1

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise InputError("steps", self.steps, "1 or more")


def turn_of(step: int, turns: Sequence[Turn]) -> tuple[int, int]:
    """Whose turn a step is, and how many steps that turn has had before it."""
    rounds, place = divmod(step, sum(turn.steps for turn in turns))
    for number, turn in enumerate(turns):
        if place < turn.steps:
            return number, rounds * turn.steps + place
        place -= turn.steps
    raise AssertionError("a place past the last turn")
