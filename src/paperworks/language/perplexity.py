"""Perplexity, in the three ways that papers mean it. They differ: each is named, and never mixed with another."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch.nn import functional

from paperworks.errors import InputError
from paperworks.language.windows import Calibration
from paperworks.nn import check_ids, evaluation_mode, model_inputs
from paperworks.runs import Progress, no_progress

Kind = Literal["token", "seq_mean", "word"]


def perplexity(
    model: torch.nn.Module,
    windows: torch.Tensor | Calibration,
    kind: Kind = "token",
    batch_size: int = 8,
    *,
    words: int | None = None,
    progress: Progress = no_progress,
) -> float:
    """Perplexity of a causal language model on windows of tokens.

    A window's first token is not predicted; a masked position is neither predicted nor counted. No token id is left out
    for being the padding id.

    - ``token``: exp(total NLL / total predicted tokens);
    - ``seq_mean``: exp(mean over windows of each window's mean NLL), which is SliceGPT's code; equal to ``token`` where
      all windows are full;
    - ``word``: exp(total NLL / number of words), as lm-eval's WikiText task; ``words`` is that number.

    Parameters
    ----------
    model : gives ``logits [n, T, V]``; evaluated in its own dtype, likelihoods in float32. Its mode is put back.
    windows : int64 ``[n, T]``, T of at least 2; or a ``Calibration`` with a mask.
    words : white-space separated words in the windows' text; needed for, and only for, ``word``.

    Returns
    -------
    the perplexity; ``inf`` where the likelihood is zero or not a number.
    """
    if kind not in ("token", "seq_mean", "word"):
        raise InputError("kind", kind, "token, seq_mean or word")
    if (kind == "word") != (words is not None) or (words is not None and words < 1):
        raise InputError("words", words, "the number of words, 1 or more, for kind 'word', and for no other")
    losses, counts = window_losses(model, windows, batch_size, progress=progress)
    if kind == "seq_mean":
        predicted = counts > 0
        mean = (losses[predicted] / counts[predicted]).mean().item()
    else:
        mean = losses.sum().item() / (words if words is not None else counts.sum().item())
    try:
        return math.exp(mean) if math.isfinite(mean) else math.inf
    except OverflowError:
        return math.inf


def window_losses(
    model: torch.nn.Module,
    windows: torch.Tensor | Calibration,
    batch_size: int = 8,
    *,
    progress: Progress = no_progress,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Each window's negative log-likelihood, float64 ``[n]`` in nats, and its number of predicted tokens, int64."""
    data = windows if isinstance(windows, Calibration) else Calibration.from_tokens(windows)
    if data.input_ids.shape[1] < 2:
        raise InputError("windows", f"windows of {data.input_ids.shape[1]} token", "windows of at least 2 tokens")
    check_ids(model, data.input_ids, "windows")
    device = next(model.parameters()).device
    losses, counts = [], []
    with evaluation_mode(model), torch.inference_mode():
        batches = list(data.batches(batch_size))
        for batch in progress(batches, "perplexity", len(batches)):
            ids, mask = batch["input_ids"].to(device), batch["attention_mask"].to(device)
            full = bool(mask.all())
            logits = model(**model_inputs(model, ids, None if full else mask), use_cache=False).logits
            nll = functional.cross_entropy(logits[:, :-1].float().transpose(1, 2), ids[:, 1:], reduction="none")
            # A token after padding has nothing before it to be predicted from.
            predicted = (mask[:, 1:] * mask[:, :-1]).bool()
            losses.append(nll.to(torch.float64).masked_fill(~predicted, 0.0).sum(1).cpu())
            counts.append(predicted.sum(1).cpu())
    loss, count = torch.cat(losses), torch.cat(counts)
    if int(count.sum()) == 0:
        raise InputError("attention_mask", "no two neighbouring tokens", "at least one token to predict")
    return loss, count
