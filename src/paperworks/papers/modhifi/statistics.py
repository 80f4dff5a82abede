"""Batch statistics of a network, estimated anew on unlabelled samples."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from paperworks.errors import InputError
from paperworks.nn import preserved_modes
from paperworks.papers.modhifi.moments import Batches, call, count_samples
from paperworks.runs import Progress, no_progress


def batch_norms(model: nn.Module, skip: Sequence[str] = ()) -> dict[str, _BatchNorm]:
    """The BatchNorm layers that keep running statistics, by path; ``skip`` are patterns of paths to leave out."""
    return {
        path: module
        for path, module in model.named_modules()
        if isinstance(module, _BatchNorm)
        and module.running_mean is not None
        and not any(fnmatch.fnmatch(path, pattern) for pattern in skip)
    }


@torch.no_grad()
def update_batch_statistics(
    model: nn.Module,
    batches: Batches,
    *,
    passes: int = 1,
    skip: Sequence[str] = (),
    progress: Progress = no_progress,
) -> int:
    """Replace running means and unbiased variances by their means over the batches; returns how many layers.

    Only those layers are in training mode (no dropout), and no weight changes. Batches should be prepared as the
    model's input is, and hold 2 samples or more.

    Parameters
    ----------
    passes : how often the batches are gone through; the running means are cumulative.
    skip : patterns of paths of layers that stay, such as frozen parts (``"head.*"``).
    """
    if passes < 1:
        raise InputError("passes", passes, "1 or more")
    layers = batch_norms(model, skip)
    if not layers:
        return 0
    usable = [batch for batch in batches if count_samples([batch]) > 1]
    if not usable:
        raise InputError("calibration", "batches of one sample", "batches of 2 samples or more")
    before = {path: module.momentum for path, module in layers.items()}
    with preserved_modes(model):
        model.eval()
        try:
            for module in layers.values():
                module.reset_running_stats()
                module.momentum = None
                module.train()
            for _ in progress(range(passes), "batch statistics", passes):
                for batch in usable:
                    call(model, batch)
        finally:
            for path, module in layers.items():
                module.momentum = before[path]
    for path, module in layers.items():
        mean, variance = module.running_mean, module.running_var
        finite = all(s is not None and bool(torch.isfinite(s).all()) for s in (mean, variance))
        if not finite:
            raise InputError("calibration", f"statistics of {path} that are not finite", "finite activations")
    return len(layers)


@contextmanager
def normalised_layers(model: nn.Module) -> Iterator[dict[str, str]]:
    """While the context lasts, forwards fill in: path of a layer -> path of the BatchNorm that reads its output as is."""
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

    norms = batch_norms(model)
    for path, module in model.named_modules():
        if path in norms:
            handles.append(module.register_forward_pre_hook(reads(path)))  # type: ignore[arg-type]
        elif not list(module.children()):
            handles.append(module.register_forward_hook(wrote(path)))  # type: ignore[arg-type]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
