"""The forward behind a prompt that is the same for a whole batch: the prompt is computed once."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

from paperworks.nn import evaluation_mode, model_inputs, without_padding
from paperworks.papers.compresso.data import Examples
from paperworks.training import Loss
from paperworks.training.losses import IGNORED, Batch, labels_of


def prefixed_logits(
    model: Any, prefix: torch.Tensor, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None
) -> torch.Tensor:
    """Logits [n, T, V] of ``input_ids`` behind ``prefix`` [P], with gradients through both.

    The prefix is computed for one sequence and its keys and values are repeated, which costs P + n T tokens instead of
    n (P + T). Under gradient checkpointing, which keeps no cache, the whole sequences are computed.
    """
    n, length = len(prefix), input_ids.shape[1]
    if n == 0:
        mask = None if attention_mask is None or bool(attention_mask.all()) else attention_mask
        return model(**model_inputs(model, input_ids, mask), use_cache=False).logits
    front = prefix.to(input_ids.device)[None]
    mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
    mask = torch.cat([mask.new_ones(len(input_ids), n), mask], 1)
    if _recomputes(model):
        whole = torch.cat([front.expand(len(input_ids), -1), input_ids], 1)
        return model(**model_inputs(model, whole, mask), use_cache=False).logits[:, -length:]
    cache = model(input_ids=front, use_cache=True, logits_to_keep=1).past_key_values
    cache.batch_repeat_interleave(len(input_ids))
    return model(**model_inputs(model, input_ids, mask), past_key_values=cache, use_cache=True).logits


def response_loss(model: Any, batch: Batch, prefix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross-entropy summed over the tokens that have a label, in nats, and their number.

    Columns of padding at either end of a batch are not computed.
    """
    batch = without_padding(batch)
    logits = prefixed_logits(model, prefix, batch["input_ids"], batch.get("attention_mask"))
    targets = labels_of(batch)[:, 1:]
    wanted = targets != IGNORED
    total = functional.cross_entropy(logits[:, :-1][wanted].float(), targets[wanted], reduction="sum")
    return total, wanted.sum()


def response_objective(prefix: torch.Tensor) -> Loss:
    """``response_loss`` behind a prefix, as the training loop takes it."""
    return lambda model, batch: response_loss(model, batch, prefix)


def response_perplexity(model: Any, examples: Examples, batch_size: int = 16) -> float:
    """exp(total loss / number of labelled tokens) over the examples, behind their prefix. The mode is put back."""
    device = next(model.parameters()).device
    total, count = 0.0, 0
    with evaluation_mode(model), torch.inference_mode():
        for start in range(0, len(examples), batch_size):
            rows = slice(start, start + batch_size)
            batch = {
                "input_ids": examples.input_ids[rows].to(device),
                "labels": examples.labels[rows].to(device),
                "attention_mask": examples.attention_mask[rows].to(device),
            }
            loss, n = response_loss(model, batch, examples.prefix)
            total, count = total + float(loss), count + int(n)
    return float(torch.tensor(total / count, dtype=torch.float64).exp())


def _recomputes(model: Any) -> bool:
    return model.training and any(getattr(module, "gradient_checkpointing", False) for module in model.modules())
