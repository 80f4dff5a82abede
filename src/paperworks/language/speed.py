"""How fast language models are, measured: reading a prompt (prefill) and writing token by token (decode)."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from paperworks.errors import InputError
from paperworks.language.models import load_model
from paperworks.nn import evaluation_mode
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
    counts = {"batch_size": batch_size, "prompt": prompt, "new_tokens": new_tokens, "repetitions": repetitions}
    for name, value in counts.items():
        if value < 1:
            raise InputError(name, value, "1 or more")
    if warm_up < 0:
        raise InputError("warm_up", warm_up, "0 or more")
    device = next(model.parameters()).device
    generator = generator or torch.Generator().manual_seed(0)
    ids = torch.randint(model.config.vocab_size, (batch_size, prompt), generator=generator).to(device)
    prefills, decodes = [], []
    with evaluation_mode(model), torch.inference_mode():
        for number in progress(range(warm_up + repetitions), "measuring speed"):
            prefill, decode = _pass(model, ids, new_tokens, _waiter(device))
            if number >= warm_up:
                prefills.append(prefill)
                decodes.append(decode / new_tokens)
    prefill, decode = statistics.median(prefills), statistics.median(decodes)
    return Speed(batch_size * prompt / prefill, batch_size / decode, prefill, decode)


@dataclass(frozen=True)
class SpeedRounds:
    """Speeds of several models that were measured in turn: one ``Speed`` per round, by the model's name."""

    rounds: Mapping[str, list[Speed]]

    def median(self, name: str) -> Speed:
        """The median over the rounds of every figure of a model."""
        own = self.rounds[name]
        return Speed(
            statistics.median(s.prefill_tokens_per_second for s in own),
            statistics.median(s.decode_tokens_per_second for s in own),
            statistics.median(s.prefill_seconds for s in own),
            statistics.median(s.seconds_per_token for s in own),
        )

    def ratios(self, name: str, to: str) -> tuple[float, float]:
        """Prefill and decode speed of one model over another's: medians of the ratios within each round."""
        pairs = list(zip(self.rounds[name], self.rounds[to], strict=True))
        prefill = statistics.median(a.prefill_tokens_per_second / b.prefill_tokens_per_second for a, b in pairs)
        decode = statistics.median(a.decode_tokens_per_second / b.decode_tokens_per_second for a, b in pairs)
        return prefill, decode


def speeds_in_turn(
    models: Mapping[str, Any],
    *,
    batch_size: int = 8,
    prompt: int = 128,
    new_tokens: int = 16,
    rounds: int = 3,
    dtype: str = "float32",
    device: str = "auto",
    progress: Progress = no_progress,
) -> SpeedRounds:
    """Measure models in turn, so that what else the machine does falls on all of them.

    Parameters
    ----------
    models : by name, live models or checkpoint folders. A folder is loaded in every round, in ``dtype`` on ``device``,
        and freed, so that one model is in memory at a time.
    rounds : in each, every model is measured once, after a pass that does not count where it is new.
    """
    found: dict[str, list[Speed]] = {name: [] for name in models}
    turns = [(number, name) for number in range(rounds) for name in models]
    for number, name in progress(turns, "measuring speed in turn", len(turns)):
        given = models[name]
        stored = isinstance(given, Path)
        model = load_model(given, dtype, device)[0] if stored else given
        found[name].append(
            measure_speed(
                model,
                batch_size=batch_size,
                prompt=prompt,
                new_tokens=new_tokens,
                repetitions=1,
                warm_up=int(stored or number == 0),
            )
        )
        del model
    return SpeedRounds(found)


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
