"""Predictions made from the truth, and how they are spoiled: flipped bits, and noisy times of the next request."""

from __future__ import annotations

from typing import Literal

import numpy as np

from paperworks.errors import InputError
from paperworks.papers.paging.optimum import belady, checked_bits, checked_times, next_requests, phase_labels
from paperworks.papers.paging.policy import Prediction
from paperworks.papers.paging.trace import Trace, as_trace, split_into_sets


def oracle(trace: Trace | object, k: int, kind: Prediction, *, sets: int = 1) -> np.ndarray:
    """The true predictions: uint8 [T] bits of LFD or of the k-phases, or int64 [T] next request numbers.

    With several sets (see ``simulate``) the bits are those of each set's own requests and ``k`` slots.
    """
    trace = as_trace(trace)
    if sets != 1 and kind in ("discard", "phase"):
        bits = np.empty(len(trace), np.uint8)
        for own in split_into_sets(trace, sets):
            bits[own] = oracle(trace.chosen(own), k, kind)
        return bits
    if kind == "discard":
        return belady(trace, k).discard_labels
    if kind == "phase":
        return phase_labels(trace, k).bits
    if kind == "next_time":
        return next_requests(trace)
    raise InputError("kind", repr(kind), "discard, phase or next_time")


def flip(
    bits: np.ndarray, probability: float, rng: np.random.Generator, *, only: Literal[0, 1] | None = None
) -> np.ndarray:
    """Flip each bit independently. uint8 [T].

    ``only=0`` flips bits 0 alone (wrong discards, ``eta1``), ``only=1`` bits 1 alone (wrong keeps, ``eta0``).
    """
    if not 0 <= probability <= 1:
        raise InputError("probability", probability, "from 0 to 1")
    bits = checked_bits(bits, len(bits))
    flipped = rng.random(len(bits)) < probability
    if only is not None:
        flipped &= bits == only
    return bits ^ flipped.astype(np.uint8)


def noisy_times(next_request: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Add lognormal(0, sigma) noise to next request numbers (as in mts-with-predictions); none for ``sigma=0``.

    int64 [T]; numbers beyond 2**62 are cut there. Give them to policies that take times, or to ``labels_from_times``.
    """
    if not sigma >= 0:
        raise InputError("sigma", sigma, "0 or more")
    times = checked_times(next_request, len(next_request), "next_request")
    if sigma == 0:
        return times.copy()
    noise = np.exp(np.minimum(rng.normal(0.0, sigma, len(times)), 42.0))
    return np.minimum(times + noise, 2.0**62).astype(np.int64)
