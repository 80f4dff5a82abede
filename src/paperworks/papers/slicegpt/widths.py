"""How wide the stream stays at each of its points: fractions, lists, variance, schedules over depth, a target size."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from paperworks.errors import InputError
from paperworks.structure.cost import StreamCost, cost_of

SMALLEST = 8
"""A stream narrower than this is an error."""

Schedule = str | Callable[[float], float]


def width_at(slicing: float, width: int, round_to: int) -> int:
    """d = (1 - slicing) D, rounded down to a multiple of ``round_to``; D itself for a slicing of 0.

    Raises InputError if ``slicing`` is not in [0, 1) or less than 8 dimensions are left.
    """
    if isinstance(slicing, bool) or not isinstance(slicing, (int, float)) or not 0 <= slicing < 1:
        raise InputError("slicing", slicing, "a fraction of the hidden size, at least 0 and below 1")
    if slicing == 0:
        return width
    # the nudge keeps a product such as (1 - 0.3) * 2560, a hair under 1792, on its multiple
    kept = math.floor((1 - slicing) * width + 1e-6) // round_to * round_to
    if kept < SMALLEST:
        raise InputError(
            "slicing", f"{slicing}, which leaves {kept} of {width} dimensions", f"at least {SMALLEST} left"
        )
    return kept


def check_rounding(round_to: int, width: int) -> None:
    """Raise InputError unless ``round_to`` is a whole number from 1 to the hidden size."""
    if isinstance(round_to, bool) or not isinstance(round_to, int) or not 1 <= round_to <= width:
        raise InputError("round_to", round_to, f"a whole number from 1 to the hidden size, {width}")


def constant_cuts(cost: StreamCost, d: int, slice_head: bool) -> list[int]:
    """One width everywhere; the last point keeps all D unless ``slice_head``."""
    return [d] * (cost.cuts - 1) + [d if slice_head else cost.width]


def given_cuts(cost: StreamCost, dims: Sequence[int], round_to: int, slice_head: bool) -> list[int]:
    """Widths from a list: one per layer (its input and its inner sum), or one per point of the stream.

    Raises InputError for a wrong length, a width below 8, above D, or (unless it is D) not a multiple of ``round_to``.
    """
    dims = list(dims)
    layers, each = len(cost.layers), len(cost.layers[0])
    free = cost.cuts if slice_head else cost.cuts - 1
    for index, d in enumerate(dims):
        wrong = isinstance(d, bool) or not isinstance(d, int) or not SMALLEST <= d <= cost.width
        if wrong or (d % round_to and d != cost.width):
            rule = f"a multiple of {round_to} from {SMALLEST} to {cost.width}, or {cost.width}"
            raise InputError(f"dims[{index}]", d, rule)
    if len(dims) == layers:
        cuts = [d for d in dims for _ in range(each)]
        return [*cuts, dims[-1] if slice_head else cost.width]
    if len(dims) == free:
        return dims + ([] if slice_head else [cost.width])
    raise InputError("dims", f"{len(dims)} widths", f"{layers}, one per layer, or {free}, one per point of the stream")


def scheduled_cuts(cost: StreamCost, schedule: Callable[[float], float], round_to: int, slice_head: bool) -> list[int]:
    """Widths from a function of depth in [0, 1] (0: the embeddings, 1: the last sum) to a slicing fraction."""
    last = cost.cuts - 1
    cuts = [width_at(float(schedule(c / last)), cost.width, round_to) for c in range(cost.cuts)]
    return cuts if slice_head else [*cuts[:-1], cost.width]


def target_cuts(cost: StreamCost, target: int, round_to: int, slice_head: bool) -> list[int]:
    """The largest single width, a multiple of ``round_to``, with at most ``target`` parameters.

    Raises InputError with the reachable range if there is none, or if the dense model meets the target already.
    """
    if isinstance(target, bool) or not isinstance(target, (int, float)) or target != target or target <= 0:
        raise InputError("target", target, "a positive number of parameters")
    smallest = math.ceil(SMALLEST / round_to) * round_to
    widths = range(smallest, cost.width + 1, round_to)
    if not widths:
        raise InputError("round_to", round_to, f"at most the hidden size, {cost.width}")
    counts = [cost.parameters(constant_cuts(cost, d, slice_head), slice_head) for d in widths]
    fitting = [d for d, count in zip(widths, counts, strict=True) if count <= target]
    if not fitting or target >= cost.dense_parameters:
        largest = max((c for c in counts if c < cost.dense_parameters), default=counts[0])
        found = f"{target:,.0f}" + (f", no less than the model's {cost.dense_parameters:,}" if fitting else "")
        raise InputError("target", found, f"{counts[0]:,} to {largest:,} parameters for this model")
    return constant_cuts(cost, fitting[-1], slice_head)


def width_by_variance(spectrum: torch.Tensor, discarded: float, round_to: int) -> int:
    """The smallest d with sum_{j > d} lambda_j <= discarded * sum lambda, rounded up to a multiple of ``round_to``.

    ``spectrum``: float64 [D], not increasing.
    """
    width = len(spectrum)
    tail = spectrum.sum() - spectrum.cumsum(0)
    enough = (tail <= discarded * spectrum.sum()).nonzero()
    smallest = int(enough[0]) + 1 if len(enough) else width
    return min(width, max(-(-smallest // round_to) * round_to, -(-SMALLEST // round_to) * round_to))


def predicted_parameters(
    model: Any | str | Path,
    slicing: float = 0.25,
    *,
    dims: Sequence[int] | None = None,
    round_to: int = 8,
    slice_head: bool = False,
) -> int:
    """How many parameters a model will have when it is sliced, by the closed form. Nothing is loaded or changed.

    ``model``: a transformers model, its configuration, or a checkpoint folder. ``dims`` as for ``SliceGPT``.
    """
    cost = cost_of(model)
    check_rounding(round_to, cost.width)
    if dims is not None:
        return cost.parameters(given_cuts(cost, dims, round_to, slice_head), slice_head)
    cuts = constant_cuts(cost, width_at(slicing, cost.width, round_to), slice_head)
    return cost.parameters(cuts, slice_head)
