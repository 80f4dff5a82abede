"""Padded batches of tokens: a model computes the same for them whichever side the padding is on."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch

from paperworks.errors import InputError


def model_inputs(model: Any, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> dict[str, Any]:
    """Keyword arguments of a model of transformers for token ids ``[n, T]`` and their mask ``[n, P + T]`` or None.

    With a mask, positions count tokens rather than columns, where the model takes ``position_ids`` (others, such as
    OPT and BLOOM, count the mask themselves). A mask longer than the ids is that of a cache of P tokens in front.
    """
    found: dict[str, Any] = {"input_ids": input_ids, "attention_mask": attention_mask}
    if attention_mask is not None and not unpadded(attention_mask) and takes_positions(model):
        positions = (attention_mask.long().cumsum(1) - 1).clamp(min=0)
        found["position_ids"] = positions[:, -input_ids.shape[1] :]
    return found


def unpadded(attention_mask: torch.Tensor) -> bool:
    """Whether a mask hides nothing, as far as that is known without waiting for a device.

    Positions by row are then left out: a model turns one row of angles for all, and masks need not select rows.
    """
    return attention_mask.device.type == "cpu" and bool(attention_mask.all())


def check_ids(model: Any, input_ids: torch.Tensor, field: str) -> None:
    """Raise InputError naming ``field`` for token ids that the model has no embedding for."""
    config = getattr(model, "config", None)
    vocabulary = getattr(config, "vocab_size", None)
    if vocabulary is None or not input_ids.numel():
        return
    low, high = int(input_ids.min()), int(input_ids.max())
    if low < 0 or high >= vocabulary:
        raise InputError(
            field, f"token id {low if low < 0 else high}", f"ids from 0 to {vocabulary - 1}, as the model has"
        )


def takes_positions(model: Any) -> bool:
    """Whether the forward of a model, inside wrappers of peft or of several processes, has ``position_ids``."""
    model = getattr(model, "module", model)
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    return "position_ids" in inspect.signature(type(inner).forward).parameters


def without_padding(batch: Mapping[str, torch.Tensor], least: int = 2) -> dict[str, torch.Tensor]:
    """The columns ``[n, T]`` of a batch without those in which every row has padding, at either end.

    At least ``least`` columns are left. A batch without ``attention_mask`` is returned as it is.
    """
    mask = batch.get("attention_mask")
    if mask is None:
        return dict(batch)
    used = mask.any(0).nonzero().flatten()
    first, end = (int(used[0]), int(used[-1]) + 1) if len(used) else (0, 0)
    end = max(end, min(mask.shape[1], first + least))
    first = max(0, min(first, end - least))
    return {name: tensor[:, first:end] for name, tensor in batch.items()}


def tokens_first(attention_mask: torch.Tensor) -> torch.Tensor:
    """Columns int64 ``[n, T]`` that move every row's leading padding behind its tokens: for ``torch.gather``."""
    n, length = attention_mask.shape
    leading = (attention_mask.long().cumsum(1) == 0).sum(1, keepdim=True)
    return (torch.arange(length, device=attention_mask.device).expand(n, -1) + leading) % length
