"""Which layers a BatchNorm follows: their outputs are centred by it, so their moments are, too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def normalised_layers(model: nn.Module) -> Iterator[dict[str, str]]:
    """While the context lasts, forwards fill in: path of a layer -> path of the BatchNorm that reads its output."""
    made: dict[int, str] = {}
    keep_alive: list[torch.Tensor] = []
    found: dict[str, str] = {}
    handles = []

    def wrote(path: str) -> object:
        def note(_module: nn.Module, _args: object, out: object) -> None:
            if isinstance(out, torch.Tensor):
                made[id(out)] = path
                keep_alive.append(out)

        return note

    def reads(path: str) -> object:
        def note(_module: nn.Module, args: tuple[object, ...]) -> None:
            if args and id(args[0]) in made:
                found[made[id(args[0])]] = path

        return note

    for path, module in model.named_modules():
        if isinstance(module, _BatchNorm):
            handles.append(module.register_forward_pre_hook(reads(path)))  # type: ignore[arg-type]
        elif not list(module.children()):
            handles.append(module.register_forward_hook(wrote(path)))  # type: ignore[arg-type]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
