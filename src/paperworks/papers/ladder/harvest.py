"""What a classifier's last linear layer gets: features, predictions and the head, from any ``nn.Module``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from paperworks.classification import last_linear_layer
from paperworks.classification.data import Data, as_examples, batches, count_rows
from paperworks.errors import InputError, nearest
from paperworks.nn import evaluation_mode, resolve_device
from paperworks.runs import Progress, no_progress
from paperworks.training import model_logits


@dataclass(frozen=True)
class Harvest:
    """What one pass over the data gives.

    Attributes
    ----------
    features : input of the layer, float32 ``[n, p]``.
    logits : output of the model, float32 ``[n, c]``.
    weight, bias : of the layer ``[o, p]`` and ``[o]``; o is 1 for a classifier with one logit.
    layer : the layer's name.
    """

    features: np.ndarray
    logits: np.ndarray
    weight: np.ndarray
    bias: np.ndarray
    layer: str

    @property
    def head(self) -> tuple[np.ndarray, np.ndarray]:
        """Weight and bias."""
        return self.weight, self.bias

    @property
    def predictions(self) -> np.ndarray:
        """Class codes ``[n]``: the largest logit; with one logit, whether it is above 0."""
        if self.logits.shape[1] == 1:
            return (self.logits[:, 0] > 0).astype(np.int64)
        return self.logits.argmax(1)


def linear_layer(module: torch.nn.Module, layer: str | None = None) -> tuple[str, torch.nn.Linear]:
    """The name and the linear layer of that name, by default the last. Raises InputError that names the layer."""
    name = layer or last_linear_layer(module)
    modules = dict(module.named_modules())
    if name not in modules:
        raise InputError("layer", repr(name), f"the name of a submodule{nearest(name, modules)}")
    found = modules[name]
    if not isinstance(found, torch.nn.Linear):
        raise InputError("layer", f"{name!r}, a {type(found).__name__}", "the last linear layer, an nn.Linear")
    return name, found


def harvest_features(
    module: torch.nn.Module,
    data: Data,
    layer: str | None = None,
    *,
    batch_size: int = 128,
    device: str | torch.device = "auto",
    progress: Progress = no_progress,
) -> Harvest:
    """One pass over the data in evaluation mode, with a forward pre-hook on the last linear layer.

    Parameters
    ----------
    module : a classifier that returns logits ``[n, c]``, or an output of transformers that has them.
    data : examples, see ``paperworks.classification.data.Data``.
    layer : name of the last linear layer; by default the last ``nn.Linear`` of ``named_modules``.

    A layer that is applied to every position ``[n, t, p]`` is read at the position whose output is the model's logits.

    Raises
    ------
    InputError : a layer that there is not, is not linear, is not called, or is not the last: the model's logits are not
        its output.
    """
    name, linear = linear_layer(module, layer)
    examples, place = as_examples(data), resolve_device(device)
    seen: dict[str, torch.Tensor] = {}

    def keep(_module: torch.nn.Module, inputs: Any) -> None:
        seen["input"] = inputs[0]

    before = next((p.device for p in module.parameters()), place)
    handle = linear.register_forward_pre_hook(keep)
    features, logits = [], []
    try:
        module.to(place)
        with evaluation_mode(module), torch.inference_mode():
            total = -(-count_rows(examples) // batch_size)
            for batch in progress(batches(examples, batch_size, place), "reading features", total):
                seen.clear()
                out = model_logits(module, batch)
                if "input" not in seen:
                    raise InputError(
                        "layer", f"{name!r}, which the forward pass does not call", "a layer that it calls"
                    )
                out = out if out.ndim > 1 else out[:, None]
                features.append(_rows(seen["input"], out, linear, name).float().cpu().numpy())
                logits.append(out.float().cpu().numpy())
    finally:
        handle.remove()
        module.to(before)
    weight = linear.weight.detach().double().cpu().numpy()
    bias = np.zeros(len(weight)) if linear.bias is None else linear.bias.detach().double().cpu().numpy()
    return Harvest(np.concatenate(features), np.concatenate(logits), weight, bias, name)


def _rows(given: torch.Tensor, logits: torch.Tensor, linear: torch.nn.Linear, name: str) -> torch.Tensor:
    """One row of features per example, whose output is the example's logits."""
    made = torch.nn.functional.linear(given, linear.weight, linear.bias)
    if given.ndim == 3 and len(given) == len(logits):
        off = (made - logits[:, None]).abs().amax(dim=2)
        at = off.argmin(dim=1)
        rows = torch.arange(len(given), device=given.device)
        given, made = given[rows, at], made[rows, at]
    if given.ndim != 2 or made.shape != logits.shape:
        found = f"{name!r}, with input {tuple(given.shape)} for logits {tuple(logits.shape)}"
        raise InputError("layer", found, "the last linear layer, with one row per example")
    if not torch.allclose(made.float(), logits.float(), rtol=1e-3, atol=1e-3):
        raise InputError("layer", f"{name!r}, whose output is not the model's logits", "the last linear layer")
    return given
