"""Fully sharded training (FSDP, version 2): a model whose parameters are cut over the processes, and whole again.

``fully_shard`` changes a model in place: parameters become DTensors, modules get hooks and other classes. ``Whole``
remembers what was there, so that ``train`` can leave the very parameters that it was given, with what they learned.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch.distributed.tensor import DTensor, distribute_tensor

from paperworks.errors import InputError


def whole(value: Any) -> Any:
    """A tensor with all its parts; what is not in parts as it is. All processes must call this together."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def like(value: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor:
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
        i: {name: like(v, parameters[i]) if isinstance(v, torch.Tensor) else v for name, v in of.items()}
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


class Whole:
    """A model and its optimiser as they were before they were sharded."""

    def __init__(self, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self.modules = [
            (m, type(m), {n: set(v) for n, v in vars(m).items() if isinstance(v, dict)}, dict(m._parameters),
             set(vars(m)))
            for m in model.modules()
        ]  # fmt: skip
        self.optimizer = optimizer
        self.groups = [list(group["params"]) for group in optimizer.param_groups]

    def empty(self) -> None:
        """Free the whole parameters, once the shards exist."""
        for _, _, _, parameters, _ in self.modules:
            for parameter in parameters.values():
                if parameter is not None:
                    parameter.data = parameter.data.new_empty(0)

    def restore(self) -> None:
        """Put the parameters back, with the values of the shards. All processes must call this together."""
        from torch.distributed import _composable_state

        for module, kind, tables, parameters, attributes in self.modules:
            for name, parameter in parameters.items():
                shard = module._parameters[name]
                if parameter is not None and shard is not None:
                    parameter.data = whole(shard.detach())
            module.__class__ = kind
            for name in set(vars(module)) - attributes:
                delattr(module, name)
            for name, keys in tables.items():
                table = vars(module)[name]
                for key in [key for key in table if key not in keys]:
                    del table[key]
            module._parameters.update(parameters)
            _composable_state._module_state_mapping.pop(module, None)
        for group, originals in zip(self.optimizer.param_groups, self.groups, strict=True):
            for part, parameter in zip(group["params"], originals, strict=True):
                if part in self.optimizer.state and part is not parameter:
                    state = self.optimizer.state.pop(part)
                    self.optimizer.state[parameter] = {name: whole(value) for name, value in state.items()}
            group["params"] = originals
