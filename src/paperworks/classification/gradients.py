"""Norms of the gradient of each example's loss, over all parameters (GraNd, Paul et al. 2021)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn import functional

from paperworks.classification.data import Data, as_examples, batches, count_rows
from paperworks.errors import InputError
from paperworks.nn import evaluation_mode, resolve_device
from paperworks.runs import Progress, no_progress
from paperworks.training import model_logits


def gradient_norms(
    model: torch.nn.Module,
    data: Data,
    labels: Any = None,
    *,
    batch_size: int = 32,
    device: str | torch.device = "auto",
    progress: Progress = no_progress,
) -> np.ndarray:
    """``|| grad_theta CE(f_theta(x), y) ||_2`` of every example over all trained parameters, float64 ``[n]``.

    The model is in evaluation mode: with BatchNorm in training mode an example has no gradient of its own. The
    gradients of a batch are computed together (``torch.func``), which takes ``batch_size`` times the memory of the
    parameters.

    Raises InputError for a model without trained parameters, and for examples without labels.
    """
    from torch.func import functional_call, grad, vmap

    examples = as_examples(data, labels)
    place = resolve_device(device)
    before = next((p.device for p in model.parameters()), place)
    if not any(p.requires_grad for p in model.parameters()):
        raise InputError("model", "no parameter with requires_grad", "at least one")
    found = []
    try:
        model.to(place)
        trained = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}

        def loss(parameters: dict[str, torch.Tensor], row: dict[str, torch.Tensor]) -> torch.Tensor:
            batch = {name: value[None] for name, value in row.items()}
            caller = _Call(model, parameters, functional_call)
            return functional.cross_entropy(model_logits(caller, batch), batch["labels"])

        squared = vmap(lambda p, row: sum(g.square().sum() for g in grad(loss)(p, row).values()), in_dims=(None, 0))
        total = -(-count_rows(examples) // max(batch_size, 1))
        with evaluation_mode(model):
            for batch in progress(batches(examples, batch_size, place), "gradients of examples", total):
                if "labels" not in batch:
                    raise InputError("labels", "none", "a class per example")
                found.append(squared(trained, batch).double().sqrt().cpu().numpy())
    finally:
        model.to(before)
    return np.concatenate(found)


class _Call(torch.nn.Module):
    """A model called with other parameters."""

    def __init__(self, model: torch.nn.Module, parameters: dict[str, torch.Tensor], call: Any) -> None:
        super().__init__()
        self._arguments = (call, [model], parameters)  # in a list, so that it is no submodule

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        call, (model,), parameters = self._arguments
        return call(model, parameters, args, kwargs)
