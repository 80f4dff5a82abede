"""A budget in time: how many parameters a model may have so that writing a token takes no longer than asked."""

from __future__ import annotations

import copy
import statistics
from collections.abc import Callable
from typing import Any

import torch

from paperworks.errors import InputError
from paperworks.language import measure_speed
from paperworks.structure import KeepPlan, check_prunable, count, prune, random_scores, units_of
from paperworks.structure.budgets import uniform_plan

Clock = Callable[[Any], float]


def seconds_per_token(model: Any, *, batch_size: int = 1, prompt: int = 64, new_tokens: int = 8) -> float:
    """Seconds of one decoding step behind a prompt, with the key-value cache: one pass, measured."""
    speed = measure_speed(model, batch_size=batch_size, prompt=prompt, new_tokens=new_tokens, repetitions=1, warm_up=0)
    return speed.seconds_per_token


def parameters_for_latency(
    model: Any,
    most: float,
    *,
    relative: bool = False,
    clock: Clock = seconds_per_token,
    rounds: int = 5,
    steps: int = 6,
    field: str = "target",
) -> int:
    """The parameters of the largest uniformly pruned model whose measured time for a token is at most ``most``.

    The share of channels and heads is found by bisection. At each step the pruned model and the dense one are timed in
    turn, ``rounds`` times, and the median of the ratios counts, so that what else the machine does falls on both. Which
    units go does not change the time, so they are drawn at random; the model itself is left as it is. A method that is
    given these parameters may spread them in another way and then take a little more or less time: its report says how
    long it takes.

    Raises InputError where the dense model is fast enough already, or the smallest uniform model is too slow.

    Parameters
    ----------
    most : seconds, or, where ``relative``, a share of the dense model's time.
    clock : seconds for one token of a model.
    steps : of the bisection; the share is known to one part in ``2 ** steps``.
    """
    check_prunable(model)
    clock(model)  # the first pass warms up
    dense_seconds = statistics.median(clock(model) for _ in range(rounds))
    ratio = most if relative else most / dense_seconds
    if not 0 < ratio < 1:
        found = f"{most:g} of the dense time" if relative else f"{most * 1e3:g} ms"
        raise InputError(field, found, f"less than the dense model takes, {dense_seconds * 1e3:.3g} ms for a token")
    units = units_of(model, ["ffn", "kv_group"])
    scores = random_scores(units, torch.Generator().manual_seed(0))

    def time_of(plan: KeepPlan) -> float:
        small = prune(copy.deepcopy(model), plan)
        clock(small)
        return statistics.median(clock(small) / clock(model) for _ in range(rounds))

    low, high = 0.0, 1.0
    least = time_of(uniform_plan(units, scores, low))
    if least > ratio:
        raise InputError(
            field,
            f"{ratio:.3g} of the dense time",
            f"at least {least:.3g} ({least * dense_seconds * 1e3:.3g} ms for a token), the least that is reachable",
        )
    for _ in range(steps):
        middle = (low + high) / 2
        if time_of(uniform_plan(units, scores, middle)) <= ratio:
            low = middle
        else:
            high = middle
    return count(model, uniform_plan(units, scores, low)).parameters
