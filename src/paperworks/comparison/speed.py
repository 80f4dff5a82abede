"""Speed of a model beside the dense one, in turn, so that what else the machine does falls on both."""

from __future__ import annotations

import statistics
from typing import Any

from paperworks.language import measure_speed


def speed_beside(
    model: Any, dense: Any, *, batch_size: int = 8, prompt: int = 128, new_tokens: int = 16, rounds: int = 5
) -> dict[str, float]:
    """Speed of a model and of the dense one, measured in turn; each ratio is the median over rounds.

    Returns ``prefill`` and ``decode`` in tokens per second, ``latency`` in seconds for one decoding step, and
    ``prefill ratio`` and ``decode ratio`` to the dense model in the same round.
    """
    own, ratios = [], []
    for number in range(rounds + 1):
        one, other = (
            measure_speed(m, batch_size=batch_size, prompt=prompt, new_tokens=new_tokens, repetitions=1, warm_up=0)
            for m in (model, dense)
        )
        if number == 0:
            continue  # the first round warms both up
        own.append(one)
        ratios.append(
            (
                one.prefill_tokens_per_second / other.prefill_tokens_per_second,
                one.decode_tokens_per_second / other.decode_tokens_per_second,
            )
        )
    return {
        "prefill": statistics.median(s.prefill_tokens_per_second for s in own),
        "decode": statistics.median(s.decode_tokens_per_second for s in own),
        "latency": statistics.median(s.seconds_per_token for s in own),
        "prefill ratio": statistics.median(r[0] for r in ratios),
        "decode ratio": statistics.median(r[1] for r in ratios),
    }
