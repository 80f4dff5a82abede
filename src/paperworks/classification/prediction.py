"""Predictions of a classifier and features of its layers, in batches."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch

from paperworks.classification.data import Data, as_examples, batches, count_rows
from paperworks.errors import InputError, nearest
from paperworks.nn import evaluation_mode, resolve_device
from paperworks.runs import Progress, no_progress
from paperworks.training import model_logits

Pool = Literal["flatten", "mean"] | None


def predict_logits(
    model: torch.nn.Module,
    data: Data,
    *,
    batch_size: int = 256,
    device: str | torch.device = "auto",
    progress: Progress = no_progress,
) -> np.ndarray:
    """Logits of all examples, float32 ``[n, C]``, in evaluation mode and without gradients.

    The model ends on the device and in the modes it came in. See ``paperworks.classification.data.Data`` for ``data``.
    """
    return _apply(model, data, lambda batch: model_logits(model, batch), batch_size, device, progress, "predicting")


def predict_proba(model: torch.nn.Module, data: Data, **options: Any) -> np.ndarray:
    """Softmax of the logits, float64 ``[n, C]``. Options as in ``predict_logits``."""
    from scipy.special import softmax

    return softmax(predict_logits(model, data, **options).astype(np.float64), axis=1)


def predict(model: torch.nn.Module, data: Data, **options: Any) -> np.ndarray:
    """Class codes, int64 ``[n]``: the largest logit, the first of equal ones. Options as in ``predict_logits``."""
    return predict_logits(model, data, **options).argmax(1)


def features(
    model: torch.nn.Module,
    data: Data,
    layer: str,
    *,
    of: Literal["output", "input"] = "output",
    pool: Pool = "flatten",
    batch_size: int = 256,
    device: str | torch.device = "auto",
    progress: Progress = no_progress,
) -> np.ndarray:
    """What a layer gives (or gets) for every example, through a forward hook.

    Parameters
    ----------
    layer : name of a submodule as in ``model.named_modules()``; of one that is called several times in a forward pass
        the last call counts. The input of ``last_linear_layer(model)`` is what is called penultimate features.
    of : its first output or its first input.
    pool : "flatten" gives ``[n, d]``; "mean" the mean over positions, of ``[n, c, h, w]`` over h and w, of
        ``[n, t, d]`` over t; None leaves the shape.

    Returns
    -------
    float32 ``[n, ...]``.

    Raises
    ------
    InputError : a layer that the model does not have or does not call, or one whose output is not one row per example.
    """
    modules = dict(model.named_modules())
    if layer not in modules or not layer:
        raise InputError("layer", repr(layer), f"the name of a submodule{nearest(layer, modules)}")
    if pool not in ("flatten", "mean", None):
        raise InputError("pool", repr(pool), "'flatten', 'mean' or None")
    if of not in ("output", "input"):
        raise InputError("of", repr(of), "'output' or 'input'")
    seen: dict[str, Any] = {}

    def keep(_module: torch.nn.Module, inputs: Any, kwargs: Any, output: Any) -> None:
        seen["value"] = output if of == "output" else (inputs[0] if inputs else next(iter(kwargs.values())))

    def apply(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        seen.clear()
        model_logits(model, batch)
        if "value" not in seen:
            raise InputError("layer", f"{layer!r}, which the forward pass does not call", "a layer that it calls")
        return _pooled(_first_tensor(seen["value"]), pool, len(next(iter(batch.values()))), layer)

    handle = modules[layer].register_forward_hook(keep, with_kwargs=True)
    try:
        return _apply(model, data, apply, batch_size, device, progress, "reading features")
    finally:
        handle.remove()


def last_linear_layer(model: torch.nn.Module) -> str:
    """Name of the last ``nn.Linear`` in the order of ``named_modules``: a classifier's head.

    Raises InputError for a model without one.
    """
    names = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear) and name]
    if not names:
        raise InputError("model", "no linear layer", "a model with one, or the name of the layer")
    return names[-1]


def _apply(
    model: torch.nn.Module,
    data: Data,
    function: Any,
    batch_size: int,
    device: str | torch.device,
    progress: Progress,
    what: str,
) -> np.ndarray:
    examples = as_examples(data)
    place = resolve_device(device)
    before = next((p.device for p in model.parameters()), place)
    total = -(-count_rows(examples) // max(batch_size, 1))
    found = []
    try:
        model.to(place)
        with evaluation_mode(model), torch.inference_mode():
            for batch in progress(batches(examples, batch_size, place), what, total):
                value = function(batch)
                found.append(value.float().cpu().numpy())
    finally:
        model.to(before)
    return np.concatenate(found)


def _first_tensor(value: Any) -> torch.Tensor:
    if isinstance(value, torch.Tensor):
        return value
    parts = value.values() if hasattr(value, "values") else value
    return next(part for part in parts if isinstance(part, torch.Tensor))


def _pooled(value: torch.Tensor, pool: Pool, rows: int, layer: str) -> torch.Tensor:
    if value.ndim == 0 or len(value) != rows:
        raise InputError("layer", f"{layer!r} of shape {tuple(value.shape)}", f"one row for each of {rows} examples")
    if pool == "mean" and value.ndim > 2:
        return value.mean(1) if value.ndim == 3 else value.flatten(2).mean(2)
    return value if pool is None else value.flatten(1)
