"""What a step minimises: a sum over targets and their number, so that batches of any make-up add up rightly."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch.nn import functional

Batch = Mapping[str, torch.Tensor]
Loss = Callable[[torch.nn.Module, Batch], tuple[torch.Tensor, torch.Tensor]]
"""``loss(model, batch) -> (sum over the targets, number of targets)``, both scalars, the first with a gradient."""

IGNORED = -100
"""The label of a position that is not a target (PyTorch's ``ignore_index``)."""


def labels_of(batch: Batch) -> torch.Tensor:
    """The labels of a batch, int64 ``[n, T]``: its own, or its tokens with masked positions set to ``IGNORED``."""
    if "labels" in batch:
        return batch["labels"]
    labels = batch["input_ids"]
    if "attention_mask" in batch:
        labels = labels.masked_fill(batch["attention_mask"] == 0, IGNORED)
    return labels


def next_token_loss(model: torch.nn.Module, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross-entropy of every token given those before it, in nats.

    Parameters
    ----------
    model : a causal language model of transformers.
    batch : ``input_ids`` int64 ``[n, T]``; optional ``attention_mask`` (0 is padding) and ``labels`` (-100: no target).

    Returns
    -------
    sum of the negative log-likelihoods, and the number of predicted tokens.
    """
    logits = model(input_ids=batch["input_ids"], attention_mask=batch.get("attention_mask"), use_cache=False).logits
    targets = labels_of(batch)[:, 1:]
    total = functional.cross_entropy(
        logits[:, :-1].flatten(0, 1).float(), targets.flatten(), ignore_index=IGNORED, reduction="sum"
    )
    return total, (targets != IGNORED).sum()
