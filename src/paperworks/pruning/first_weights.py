"""New first weights for a module of any sizes: those that a new module of its class would begin with."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import nn

from paperworks.errors import InputError
from paperworks.parameters import check_seed

Draw = Callable[[nn.Module], Any]


def new_weights(model: nn.Module, seed: int, *, bare: Literal["refuse", "keep"] = "refuse") -> nn.Module:
    """A copy of the same sizes with the first weights that a new network of its kind would draw.

    Children come before their parents, each module once. A module's ``reset_parameters`` draws first; then
    ``_init_weights`` of the network that it belongs to, the innermost that has one, as transformers and timm do. So a
    network that draws in another way than torch's layers says so in one of these two methods.

    Parameters
    ----------
    bare : what becomes of a parameter that neither method writes. ``keep`` leaves its value.

    Raises
    ------
    InputError : such a parameter, with ``bare="refuse"``.
    """
    check_seed("seed", seed)
    made = copy.deepcopy(model)
    values = {name: p.detach().clone() for name, p in made.named_parameters()}
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        for tensor in (*made.parameters(), *made.buffers()):
            tensor.__dict__.pop("_is_hf_initialized", None)  # with it, transformers leaves a loaded tensor as it is
        for parameter in made.parameters():
            parameter.fill_(torch.nan)  # shows what nothing has written
        _draw(made, None, set())
        for name, parameter in made.named_parameters():
            if not parameter.isnan().any():
                continue
            if bare == "refuse":
                kind = type(made.get_submodule(name.rpartition(".")[0])).__name__
                found = f"{name}, a parameter of {kind} that no reset_parameters and no _init_weights writes"
                raise InputError("model", found, "a network that can start anew: give its class one of these methods")
            parameter.copy_(values[name])
    return made


def _draw(module: nn.Module, network: Draw | None, seen: set[nn.Module]) -> None:
    if module in seen:
        return
    seen.add(module)
    own: Draw | None = getattr(module, "_init_weights", None)
    network = own if callable(own) else network
    for child in module.children():
        _draw(child, network, seen)
    reset = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
    if callable(reset):
        reset()
    if network is not None:
        network(module)
