"""Fully sharded training (FSDP, version 2): a model whose parameters are cut over the processes, and whole again.

``fully_shard`` changes a model in place: parameters become DTensors, modules get hooks and other classes.
``UnshardedState`` remembers what was there, so that ``train`` can leave the very parameters that it was given, with
what they learned.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch.distributed.tensor import DTensor, distribute_tensor

from paperworks.errors import InputError


def whole(value: Any) -> Any:
    """A tensor with all its parts; what is not in parts as it is. All processes must call this together."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def shard_like(value: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor:
    """A whole tensor cut as ``parameter`` is. All processes must call this together."""
    if isinstance(parameter, DTensor) and value.shape == parameter.shape:
        return distribute_tensor(value.to(parameter.device), parameter.device_mesh, parameter.placements)
    return value


def optimizer_state(optimizer: Any) -> dict[str, Any]:
    """``optimizer.state_dict()`` with whole tensors."""
    found = optimizer.state_dict()
    state = {i: {name: whole(value) for name, value in of.items()} for i, of in found["state"].items()}
    return {**found, "state": state}


def load_optimizer(optimizer: Any, saved: dict[str, Any]) -> None:
    """Load a state of whole tensors, cut as the parameters are."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state = {
        i: {name: shard_like(v, parameters[i]) if isinstance(v, torch.Tensor) else v for name, v in of.items()}
        for i, of in saved["state"].items()
    }
    optimizer.load_state_dict({**saved, "state": state})


def allow_on_cpu(accelerator: Accelerator) -> None:
    """Shard over CPU processes as well, where ``ACCELERATE_USE_FSDP=true`` asks for it.

    accelerate turns FSDP on for processes with accelerators only (its launcher refuses ``--cpu --use_fsdp``), while
    PyTorch's ``fully_shard`` works on gloo.
    """
    asked = os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"
    if asked and accelerator.distributed_type == DistributedType.MULTI_CPU:
        from accelerate import FullyShardedDataParallelPlugin

        accelerator.state.distributed_type = DistributedType.FSDP
        accelerator.state.fsdp_plugin = FullyShardedDataParallelPlugin(
            fsdp_version=2, mixed_precision_policy=None, cpu_ram_efficient_loading=False
        )
    if accelerator.distributed_type == DistributedType.FSDP:
        plugin = accelerator.state.fsdp_plugin
        if plugin.fsdp_version != 2:
            raise InputError("FSDP", "version 1", "accelerate launch --use_fsdp --fsdp_version 2")
        plugin.cpu_ram_efficient_loading = False  # every process has the model; it is not read again


class UnshardedState:
    """A model and its optimisers as they were before they were sharded."""

    def __init__(self, model: torch.nn.Module, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        self.modules = [_Unsharded.of(module) for module in model.modules()]
        self.groups = [
            (optimizer, group, list(group["params"])) for optimizer in optimizers for group in optimizer.param_groups
        ]

    def empty(self) -> None:
        """Free the whole parameters, once the shards exist."""
        for of in self.modules:
            for parameter in of.parameters.values():
                if parameter is not None:
                    parameter.data = parameter.data.new_empty(0)

    def restore(self) -> None:
        """Put the parameters back, with the values of the shards. All processes must call this together."""
        from torch.distributed import _composable_state

        for of in self.modules:
            of.restore()
            _composable_state._module_state_mapping.pop(of.module, None)
        for optimizer, group, originals in self.groups:
            for part, parameter in zip(group["params"], originals, strict=True):
                if part in optimizer.state and part is not parameter:
                    state = optimizer.state.pop(part)
                    optimizer.state[parameter] = {name: whole(value) for name, value in state.items()}
            group["params"] = originals


@dataclass(frozen=True)
class _Unsharded:
    """One module as it was: its class, its parameters, its attributes, and the keys of its tables (hooks, ...)."""

    module: torch.nn.Module
    kind: type[torch.nn.Module]
    parameters: dict[str, torch.nn.Parameter | None]
    attributes: set[str]
    tables: dict[str, set[str]]

    @classmethod
    def of(cls, module: torch.nn.Module) -> _Unsharded:
        tables = {name: set(value) for name, value in vars(module).items() if isinstance(value, dict)}
        return cls(module, type(module), dict(module._parameters), set(vars(module)), tables)

    def restore(self) -> None:
        module = self.module
        for name, parameter in self.parameters.items():
            shard = module._parameters[name]
            if parameter is not None and shard is not None:
                parameter.data = whole(shard.detach())
        module.__class__ = self.kind
        for name in set(vars(module)) - self.attributes:
            delattr(module, name)
        for name, keys in self.tables.items():
            table = vars(module)[name]
            for key in [key for key in table if key not in keys]:
                del table[key]
        module._parameters.update(self.parameters)
