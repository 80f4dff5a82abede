"""Checkpoints of the training loop: what is needed to go on as if nothing had happened."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from paperworks.errors import InputError
from paperworks.runs.files import replace_file
from paperworks.training.sharding import shard_like, whole

State = dict[str, torch.Tensor]

VERSION = 2
"""Of the checkpoint's format. Version 1 had no buffers."""


def training_state(model: torch.nn.Module) -> State:
    """A copy on the CPU of what training changes: the parameters that are trained, and the persistent buffers.

    Frozen parameters do not change, and are not stored. Of a sharded model (FSDP) it has whole tensors: all processes
    must call this together.
    """
    return {name: whole(tensor.detach()).to("cpu", copy=True) for name, tensor in _changing(model)}


def load_training_state(model: torch.nn.Module, state: State, source: str) -> None:
    """Copy ``state`` into the trained parameters and the buffers, in place.

    Raises InputError, naming ``source``, where names or shapes are not the model's own.
    """
    tensors = dict(_changing(model))
    if tensors.keys() != state.keys():
        odd = sorted(tensors.keys() ^ state.keys())
        raise InputError(source, f"weights that differ from the model's in {odd[0]!r}", "a checkpoint of this model")
    with torch.no_grad():
        for name, tensor in tensors.items():
            if tensor.shape != state[name].shape:
                found, expected = tuple(state[name].shape), tuple(tensor.shape)
                raise InputError(source, f"{name} of shape {found}", f"shape {expected}, as in the model")
            tensor.copy_(shard_like(state[name], tensor))


def _changing(model: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            yield name, parameter
    for prefix, module in model.named_modules():
        for name, buffer in module.named_buffers(prefix, recurse=False):
            if name.removeprefix(f"{prefix}.") not in module._non_persistent_buffers_set:
                yield name, buffer


def write_checkpoint(path: Path, content: Mapping[str, Any]) -> None:
    """Write beside the final name and move into place: a reader sees the old checkpoint or the new, never a part."""
    with replace_file(path) as aside:
        torch.save({"version": VERSION, **content}, aside)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint; tensors and plain values only, no code.

    Raises InputError naming ``checkpoint_dir`` for what cannot be read, and for a checkpoint of another version.
    """
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            "checkpoint_dir", f"{path}, which cannot be read ({reason})", "a checkpoint of train()"
        ) from error
    version = found.pop("version", 1) if isinstance(found, dict) else 1
    if version != VERSION:
        raise InputError("checkpoint_dir", f"{path}, of version {version}", f"version {VERSION}, or an empty folder")
    return found


def check_identity(found: Mapping[str, Any], mine: Mapping[str, Any], folder: Path) -> None:
    """Raise InputError naming ``checkpoint_dir`` where a checkpoint is of a training with other options or data."""
    for name, value in mine.items():
        if found.get(name) != value:
            raise InputError(
                "checkpoint_dir",
                f"{folder}, a training with {name} {found.get(name)}",
                f"one with {name} {value}, or an empty folder",
            )
