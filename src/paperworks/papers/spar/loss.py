"""Direct preference optimisation (Rafailov et al. 2023) with a term that keeps the chosen response likely.

    h = beta ((log pi(y+|x) - log ref(y+|x)) - (log pi(y-|x) - log ref(y-|x)))
    L = -log sigmoid(h) - alpha log pi(y+|x) / |y+|

Log-probabilities are sums over the response's tokens, in float32.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch.nn import functional

from paperworks.errors import InputError
from paperworks.training import Batch, Loss


class PreferenceLoss(NamedTuple):
    """The loss of each pair and its parts, float32 ``[pairs]``; ``margin`` is h."""

    loss: torch.Tensor
    margin: torch.Tensor
    negative_log_likelihood: torch.Tensor


def preference_loss(
    policy_chosen: torch.Tensor,
    policy_rejected: torch.Tensor,
    reference_chosen: torch.Tensor,
    reference_rejected: torch.Tensor,
    chosen_tokens: torch.Tensor,
    *,
    beta: float = 0.1,
    sft_weight: float = 0.1,
) -> PreferenceLoss:
    """The loss from log-probabilities.

    Parameters
    ----------
    policy_chosen, policy_rejected, reference_chosen, reference_rejected : sums over the response's tokens, nats,
        ``[n]``.
    chosen_tokens : tokens of the chosen responses, ``[n]``.
    beta : how much a departure from the reference counts.
    sft_weight : alpha, the weight of the chosen response's mean negative log-likelihood.
    """
    margin = beta * ((policy_chosen - reference_chosen) - (policy_rejected - reference_rejected))
    nll = -policy_chosen / chosen_tokens
    return PreferenceLoss(-functional.logsigmoid(margin) + sft_weight * nll, margin, nll)


def response_log_probabilities(model: torch.nn.Module, batch: Batch) -> torch.Tensor:
    """Sums of the log-probabilities of the tokens that ``labels`` names, float32 ``[n]``.

    Parameters
    ----------
    model : a causal language model of transformers.
    batch : ``input_ids``, ``attention_mask`` and ``labels``, int64 ``[n, T]``; labels are -100 outside the response.
    """
    labels = batch["labels"][:, 1:]
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    logits = model(**inputs, use_cache=False).logits[:, :-1].float()
    picked = logits.gather(2, labels.clamp(min=0)[..., None])[..., 0] - logits.logsumexp(-1)
    return picked.masked_fill(labels == -100, 0.0).sum(1)


def pair_batch(batch: Batch) -> Batch:
    """A batch of pairs as one of rows: all chosen responses, then all rejected ones."""
    names = ("input_ids", "attention_mask", "labels")
    return {name: torch.cat([batch[f"chosen_{name}"], batch[f"rejected_{name}"]]) for name in names}


def preference_training_loss(*, beta: float = 0.1, sft_weight: float = 0.1) -> Loss:
    """The loss for ``paperworks.training.train``: a sum over pairs, and their number.

    A batch has ``chosen_`` and ``rejected_`` ``input_ids``, ``attention_mask`` and ``labels``, int64 ``[n, T]``, and
    the frozen reference's ``reference_chosen`` and ``reference_rejected``, float32 ``[n]``.

    Raises InputError for a beta that is not above 0, and a negative weight.
    """
    if not beta > 0:
        raise InputError("beta", beta, "a positive number")
    if not sft_weight >= 0:
        raise InputError("sft_weight", sft_weight, "0 or more")

    def loss(model: torch.nn.Module, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        both = response_log_probabilities(model, pair_batch(batch))
        count = len(batch["reference_chosen"])
        tokens = (batch["chosen_labels"][:, 1:] != -100).sum(1)
        found = preference_loss(
            both[:count],
            both[count:],
            batch["reference_chosen"],
            batch["reference_rejected"],
            tokens,
            beta=beta,
            sft_weight=sft_weight,
        )
        return found.loss.sum(), torch.tensor(count, device=both.device)

    return loss
