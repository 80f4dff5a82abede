"""How fast a language model is, measured: reading a prompt (prefill) and writing token by token (decode)."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from paperworks.errors import InputError
from paperworks.language.perplexity import evaluating
from paperworks.runs import Progress, no_progress


@dataclass(frozen=True)
class Speed:
    """Medians over the repetitions.

    Attributes
    ----------
    prefill_tokens_per_second : prompt tokens, over all sequences of the batch.
    decode_tokens_per_second : written tokens, over all sequences of the batch.
    prefill_seconds : for the whole prompt.
    seconds_per_token : for one decoding step.
    """

    prefill_tokens_per_second: float
    decode_tokens_per_second: float
    prefill_seconds: float
    seconds_per_token: float


def measure_speed(
    model: Any,
    *,
    batch_size: int = 1,
    prompt: int = 128,
    new_tokens: int = 32,
    repetitions: int = 5,
    warm_up: int = 1,
    generator: torch.Generator | None = None,
    progress: Progress = no_progress,
) -> Speed:
    """Time a causal language model with its key-value cache, greedily decoding, on random tokens.

    Parameters
    ----------
    prompt, new_tokens : tokens of the prompt, and decoding steps after it.
    repetitions, warm_up : timed passes, of which the median counts, after passes that do not count.
    generator : draws the tokens (seed 0 where it is None); which they are hardly matters for the time.
    """
    for name, value, least in (("batch_size", batch_size, 1), ("prompt", prompt, 1), ("new_tokens", new_tokens, 1),
                               ("repetitions", repetitions, 1), ("warm_up", warm_up, 0)):  # fmt: skip
        if value < least:
            raise InputError(name, value, f"{least} or more")
    device = next(model.parameters()).device
    generator = generator or torch.Generator().manual_seed(0)
    ids = torch.randint(model.config.vocab_size, (batch_size, prompt), generator=generator).to(device)
    prefills, decodes = [], []
    with evaluating(model):
        for number in progress(range(warm_up + repetitions), "measuring speed"):
            prefill, decode = _pass(model, ids, new_tokens, _waiter(device))
            if number >= warm_up:
                prefills.append(prefill)
                decodes.append(decode / new_tokens)
    prefill, decode = statistics.median(prefills), statistics.median(decodes)
    return Speed(batch_size * prompt / prefill, batch_size / decode, prefill, decode)


def _pass(model: Any, ids: torch.Tensor, new_tokens: int, wait: Callable[[], None]) -> tuple[float, float]:
    wait()
    start = time.perf_counter()
    out = model(input_ids=ids, use_cache=True)
    token = out.logits[:, -1].argmax(-1, keepdim=True)
    wait()
    middle = time.perf_counter()
    cache = out.past_key_values
    for _ in range(new_tokens):
        out = model(input_ids=token, past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        token = out.logits[:, -1].argmax(-1, keepdim=True)
    wait()
    return middle - start, time.perf_counter() - middle


def _waiter(device: torch.device) -> Callable[[], None]:
    """Accelerators work on while Python goes on: wait for them before looking at the clock."""
    if device.type == "cuda":
        return lambda: torch.cuda.synchronize(device)
    return torch.mps.synchronize if device.type == "mps" else lambda: None
