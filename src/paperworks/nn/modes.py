"""Training and evaluation mode of modules, put back as they were."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def preserved_modes(*models: nn.Module) -> Iterator[None]:
    """Restore the mode of every submodule at the end of the context, whatever was set inside it.

    A module that a model did not have at the beginning gets the mode that the model as a whole had then.
    """
    before = [{module: module.training for module in model.modules()} for model in models]
    try:
        yield
    finally:
        for model, modes in zip(models, before, strict=True):
            for module in [*modes, *model.modules()]:
                module.training = modes.get(module, modes[model])


@contextmanager
def evaluation_mode(*models: nn.Module) -> Iterator[None]:
    """Put models into evaluation mode for the length of the context; then restore the mode of every submodule.

    Submodules may be in different modes beforehand, such as a frozen backbone in evaluation mode under a head in
    training mode. Gradients are not touched: combine it with ``torch.no_grad()`` or ``torch.inference_mode()``.

    Examples
    --------
    >>> import torch
    >>> from paperworks.nn import evaluation_mode
    >>> model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Dropout())
    >>> with evaluation_mode(model), torch.no_grad():
    ...     model.training
    False
    >>> model.training
    True
    """
    with preserved_modes(*models):
        for model in models:
            model.eval()
        yield
