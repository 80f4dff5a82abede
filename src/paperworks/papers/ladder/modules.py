"""The rectified last layer as an ``nn.Module``."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from paperworks.errors import InputError
from paperworks.papers.ladder.harvest import linear_layer
from paperworks.runs.files import new_file


class RectifiedHead(torch.nn.Module):
    """H linear heads, and a linear selector that chooses one of them for each row.

    ::

        features [..., p] -> selector -> argmax over H
                          -> heads [H, o, p]  -> logits [..., o] of the chosen head, or the mean of all

    Parameters
    ----------
    inputs, outputs, heads : p, o and H.
    combine : "select" or "mean".
    """

    def __init__(self, inputs: int, outputs: int, heads: int, combine: Literal["select", "mean"] = "select") -> None:
        super().__init__()
        self.in_features, self.out_features, self.combine = inputs, outputs, combine
        self.weight = torch.nn.Parameter(torch.zeros(heads, outputs, inputs))
        self.bias = torch.nn.Parameter(torch.zeros(heads, outputs))
        # the choice is made in double precision: similarities of hypotheses may be close
        self.register_buffer("selector", torch.zeros(heads, inputs, dtype=torch.float64))
        self.register_buffer("offset", torch.zeros(heads, dtype=torch.float64))
        self.selector: torch.Tensor
        self.offset: torch.Tensor

    @classmethod
    def from_arrays(
        cls,
        selector: np.ndarray,
        offset: np.ndarray,
        weight: np.ndarray,
        bias: np.ndarray,
        combine: Literal["select", "mean"] = "select",
    ) -> RectifiedHead:
        """From a selector ``[H, p]``, ``[H]`` and heads ``[H, o, p]``, ``[H, o]``. An empty selector: one head."""
        heads, outputs, inputs = weight.shape
        made = cls(inputs, outputs, heads, combine)
        with torch.no_grad():
            made.weight.copy_(torch.from_numpy(weight))
            made.bias.copy_(torch.from_numpy(bias))
            if len(selector):
                made.selector.copy_(torch.from_numpy(selector))
                made.offset.copy_(torch.from_numpy(offset))
        return made

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Logits ``[..., o]`` of features ``[..., p]``."""
        logits = torch.einsum("...p,hop->...ho", features, self.weight.to(features.dtype)) + self.bias.to(
            features.dtype
        )
        if self.combine == "mean":
            return logits.mean(dim=-2)
        chosen = self.chosen(features)
        index = chosen[..., None, None].expand(*chosen.shape, 1, self.out_features)
        return logits.gather(-2, index).squeeze(-2)

    def chosen(self, features: torch.Tensor) -> torch.Tensor:
        """Number of the head of each row ``[...]``."""
        return (features.to(self.selector.dtype) @ self.selector.T + self.offset).argmax(dim=-1)

    def save(self, path: str | Path) -> None:
        """Write one safetensors file. Nothing is overwritten."""
        from safetensors.torch import save_file

        with new_file(Path(path)) as aside:
            save_file({k: v.contiguous() for k, v in self.state_dict().items()}, aside, {"combine": self.combine})

    @classmethod
    def load(cls, path: str | Path) -> RectifiedHead:
        """Read what ``save`` wrote."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(str(path), "pt") as stored:
                tensors = {k: stored.get_tensor(k) for k in ("weight", "bias", "selector", "offset")}
                combine = (stored.metadata() or {}).get("combine", "select")
        except (OSError, SafetensorError) as error:
            raise InputError(
                "path", f"{path} ({type(error).__name__})", "a file that RectifiedHead.save wrote"
            ) from None
        heads, outputs, inputs = tensors["weight"].shape
        made = cls(inputs, outputs, heads, "mean" if combine == "mean" else "select")
        made.load_state_dict(tensors)
        return made


def with_head(module: torch.nn.Module, head: RectifiedHead, layer: str | None = None) -> torch.nn.Module:
    """A copy of a classifier whose last linear layer is ``head``. Everything else is the same, and frozen.

    Raises InputError for a layer that there is not, is not linear, or has other sizes.
    """
    name, linear = linear_layer(module, layer)
    if (linear.in_features, linear.out_features) != (head.in_features, head.out_features):
        found = f"{name!r} from {linear.in_features} to {linear.out_features}"
        raise InputError("layer", found, f"from {head.in_features} to {head.out_features}, as the head")
    made = copy.deepcopy(module).requires_grad_(False)
    parent, _, own = name.rpartition(".")
    place = copy.deepcopy(head).to(linear.weight.device)
    place.weight.data = place.weight.data.to(linear.weight.dtype)
    place.bias.data = place.bias.data.to(linear.weight.dtype)
    setattr(made.get_submodule(parent), own, place)
    return made
