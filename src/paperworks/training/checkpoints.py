"""Checkpoints of the training loop: what is needed to go on as if nothing had happened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from paperworks.errors import InputError
from paperworks.runs.files import replace_file
from paperworks.training.sharding import like, whole

State = dict[str, torch.Tensor]


def trainable_state(model: torch.nn.Module) -> State:
    """A copy on the CPU of the parameters that are trained. Frozen ones do not change, and are not stored.

    Of a sharded model (FSDP) it has whole tensors: all processes must call this together.
    """
    return {
        name: whole(parameter.detach()).to("cpu", copy=True)
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }


def load_trainable(model: torch.nn.Module, state: State, source: str) -> None:
    """Copy ``state`` into the trained parameters. Raises InputError where names or shapes are not the model's own."""
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if parameters.keys() != state.keys():
        odd = sorted(parameters.keys() ^ state.keys())
        raise InputError(
            source, f"weights that differ from the model's in {odd[0]!r}", "a checkpoint of this very model"
        )
    with torch.no_grad():
        for name, parameter in parameters.items():
            if parameter.shape != state[name].shape:
                raise InputError(
                    source,
                    f"{name} of shape {tuple(state[name].shape)}",
                    f"shape {tuple(parameter.shape)}, as in the model",
                )
            parameter.copy_(like(state[name], parameter))


def write_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write beside the final name and move into place: a reader sees the old checkpoint or the new, never a part."""
    with replace_file(path) as aside:
        torch.save(content, aside)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint; tensors and plain values only, no code."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            "checkpoint_dir", f"{path}, which cannot be read ({reason})", "a checkpoint of train()"
        ) from error
