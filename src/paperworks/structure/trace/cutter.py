"""The edits of a cut, and the way back: tensors under all their names, sizes of modules, moments of an optimizer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from paperworks.structure.selection import select
from paperworks.structure.trace.positions import KeptPositions, tensor_at


@dataclass
class CutStep:
    """One cut as plain data: what ``load`` repeats on a model of the dense sizes."""

    tensors: dict[str, dict[int, list[int]]]
    attributes: list[tuple[str, str, Any]]


@dataclass
class _Undo:
    """What was replaced, so that a failed cut leaves everything as it was."""

    tensors: list[tuple[dict[str, Any], str, Any]] = field(default_factory=list)
    attributes: list[tuple[nn.Module, str, Any]] = field(default_factory=list)

    def back(self) -> None:
        for store, name, old in reversed(self.tensors):
            store[name] = old
        for module, name, value in reversed(self.attributes):
            setattr(module, name, value)


@dataclass
class Cutter:
    """Applies steps to a model, with the way back."""

    model: nn.Module
    undo: _Undo = field(default_factory=_Undo)
    replaced: dict[int, tuple[torch.Tensor, torch.Tensor, list[tuple[int, torch.Tensor]]]] = field(default_factory=dict)
    """id of the old tensor -> (the old one, which keeps its id alive, the new one, what was selected)."""
    attributes: list[tuple[str, str, Any]] = field(default_factory=list)

    def cut(self, kept: KeptPositions) -> None:
        """Replace tensors, under every name that they have."""
        for name, axes in kept.items():
            old = tensor_at(self.model, name)
            cuts = sorted(axes.items(), key=lambda cut: len(cut[1]) / old.shape[cut[0]])
            new: torch.Tensor = _selected(old.detach(), cuts)
            if isinstance(old, nn.Parameter):
                new = nn.Parameter(new, requires_grad=old.requires_grad)
                if old.grad is not None:
                    new.grad = _selected(old.grad, cuts)
            self.replaced[id(old)] = (old, new, cuts)
        for module in self.model.modules():
            for store in (module._parameters, module._buffers):
                for leaf, tensor in store.items():
                    if tensor is not None and id(tensor) in self.replaced:
                        self.undo.tensors.append((store, leaf, tensor))
                        store[leaf] = self.replaced[id(tensor)][1]  # type: ignore[assignment]

    def set(self, path: str, name: str, value: Any) -> None:
        """Set a size of a module, and note it."""
        module = self.model.get_submodule(path)
        old = getattr(module, name)
        if old != value:
            self.undo.attributes.append((module, name, old))
            setattr(module, name, value)
            self.attributes.append((path, name, value))

    def follow(self, optimizer: torch.optim.Optimizer) -> None:
        """New parameters take the places of the old, with their moments cut alike."""
        for group in optimizer.param_groups:
            for i, old in enumerate(group["params"]):
                if id(old) not in self.replaced:
                    continue
                _, new, cuts = self.replaced[id(old)]
                group["params"][i] = new
                if old in optimizer.state:
                    state = optimizer.state.pop(old)
                    optimizer.state[new] = {  # type: ignore[index]
                        k: _selected(v, cuts) if isinstance(v, torch.Tensor) and v.shape == old.shape else v
                        for k, v in state.items()
                    }


def _selected(tensor: torch.Tensor, cuts: list[tuple[int, torch.Tensor]]) -> torch.Tensor:
    last = tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last) and not tensor.is_contiguous()
    for axis, index in cuts:
        tensor = select(tensor, axis, index)
    return tensor.contiguous(memory_format=torch.channels_last) if last else tensor
