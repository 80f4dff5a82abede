"""Replay a trace through a policy: misses, evictions, the cost over time; also set by set, as CPU caches do."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from paperworks.errors import InputError
from paperworks.papers.paging.optimum import checked_bits, checked_times
from paperworks.papers.paging.policy import Policy
from paperworks.papers.paging.trace import Trace, as_trace, number_pages, split_into_sets


@dataclass(frozen=True, eq=False)
class SimulationResult:
    """What replaying a trace cost.

    Attributes
    ----------
    misses, hits, evictions : counts; ``misses + hits`` is the number of requests.
    per_request_miss : bool [T].
    """

    policy: str
    k: int
    misses: int
    hits: int
    evictions: int
    per_request_miss: np.ndarray

    @property
    def miss_ratio(self) -> float:
        """Misses per request."""
        return self.misses / (self.misses + self.hits)

    @property
    def cost_curve(self) -> np.ndarray:
        """Misses up to and including each request, int64 [T]."""
        return np.cumsum(self.per_request_miss, dtype=np.int64)


def simulate(policy: Policy, trace: Trace | object, predictions: object = None, *, sets: int = 1) -> SimulationResult:
    """Replay ``trace`` through ``policy``, from an empty cache; the policy object itself is left as it is.

    Parameters
    ----------
    predictions : one per request, of the kind that ``policy.prediction`` names: bits 0 or 1, or int64 request numbers.
        Needed by policies that take predictions, ignored by others.
    sets : split the pages into this many sets by their id (integers: ``id % sets``; others: their number), each with
        a cache of ``policy.k`` slots of its own. The whole is then a ``k``-way set-associative cache of ``sets * k``
        slots, which is another problem than paging: its optimum is the sum of the sets' optima.

    Raises InputError for missing predictions, a wrong length, or values out of range, with the position.
    """
    trace = as_trace(trace)
    predictions = checked_predictions(policy, predictions, len(trace))
    if sets == 1:
        miss, evictions, _ = policy.replay(trace.pages, predictions, distinct=trace.distinct)
        misses = int(miss.sum())
        return SimulationResult(policy.name, policy.k, misses, len(trace) - misses, evictions, miss)
    miss = np.empty(len(trace), np.bool_)
    evictions = 0
    for chosen in split_into_sets(trace, sets):
        pages, kept = number_pages(trace.pages[chosen])
        part = predictions[chosen] if len(predictions) else predictions
        if policy.prediction == "next_time":
            # Times count a set's own requests: the number of them before the predicted moment.
            part = np.searchsorted(chosen, part)
        miss[chosen], gone, _ = policy.replay(pages, part, distinct=len(kept))
        evictions += gone
    misses = int(miss.sum())
    return SimulationResult(policy.name, policy.k * sets, misses, len(trace) - misses, evictions, miss)


def checked_predictions(policy: Policy, predictions: object, length: int) -> np.ndarray:
    """The predictions as the policy's compiled code takes them. Raises InputError as ``simulate`` does."""
    if policy.prediction == "none":
        return np.empty(0, np.uint8)
    if predictions is None:
        kind = "next-request times" if policy.prediction == "next_time" else f"{policy.prediction} bits"
        raise InputError("predictions", f"none for {policy.name}", f"{kind}, one per request")
    if policy.prediction == "next_time":
        return checked_times(predictions, length, "predictions")
    return checked_bits(predictions, length, "predictions")
