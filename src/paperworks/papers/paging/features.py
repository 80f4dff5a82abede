"""What a request's past says: gaps and decayed counters (LRB), PLECO probabilities, popularity."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from paperworks.papers.paging.state import compiled
from paperworks.papers.paging.trace import Trace

GAPS = 10
COUNTERS = 10
FEATURES = GAPS + COUNTERS
PLECO_WINDOW = 20_000
"""Requests that PLECO looks back: an older request weighs less than exp(-29) of the latest."""


def request_features(trace: Trace, block: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (number of the first request, float32 [<= block, 20]) over the trace, in order.

    Columns 0-9: the page's last ten gaps between requests, latest first, NaN where there are fewer. Columns 10-19: its
    counters ``E_i <- 1 + E_i 2^(-gap / 2^(9 + i))``, i = 1..10, this request included.
    """
    gaps = np.full((trace.distinct, GAPS), np.nan, np.float32)
    counters = np.zeros((trace.distinct, COUNTERS), np.float32)
    last = np.full(trace.distinct, -1, np.int64)
    for first in range(0, len(trace), block):
        pages = trace.pages[first : first + block]
        out = np.empty((len(pages), FEATURES), np.float32)
        _features(pages, first, gaps, counters, last, out)
        yield first, out


def pleco_probabilities(trace: Trace) -> np.ndarray:
    """The probability that PLECO gives to each request's page being requested next. float64 [T].

    A request of age ``d`` (1 for the current one) weighs ``(d + 10)^-1.8 exp(-d / 670)``.
    """
    age = np.arange(1, PLECO_WINDOW + 1, dtype=np.float64)
    weights = (age + 10) ** -1.8 * np.exp(-age / 670)
    return _pleco(trace.pages, trace.distinct, weights, np.cumsum(weights))


def popularity_gaps(trace: Trace) -> np.ndarray:
    """``t / count(page)`` at each request (POPU), both counting this request. float64 [T]."""
    return _popularity(trace.pages, trace.distinct)


@compiled
def _features(pages, first, gaps, counters, last, out):
    for i in range(len(pages)):
        page = pages[i]
        t = first + i
        if last[page] >= 0:
            gap = t - last[page]
            for j in range(GAPS - 1, 0, -1):
                gaps[page, j] = gaps[page, j - 1]
            gaps[page, 0] = gap
            for j in range(COUNTERS):
                counters[page, j] = 1.0 + counters[page, j] * 2.0 ** (-gap / 2.0 ** (10 + j))
        else:
            counters[page] = 1.0
        last[page] = t
        for j in range(GAPS):
            out[i, j] = gaps[page, j]
        for j in range(COUNTERS):
            out[i, GAPS + j] = counters[page, j]


@compiled
def _pleco(pages, distinct, weights, total):
    latest = np.full(distinct, -1, np.int64)
    before = np.empty(len(pages), np.int64)  # the page's request before this one
    out = np.empty(len(pages))
    for t in range(len(pages)):
        before[t] = latest[pages[t]]
        latest[pages[t]] = t
        weight = 0.0
        earlier = t
        while earlier >= 0 and t - earlier < len(weights):
            weight += weights[t - earlier]
            earlier = before[earlier]
        out[t] = weight / total[min(t, len(weights) - 1)]
    return out


@compiled
def _popularity(pages, distinct):
    counts = np.zeros(distinct, np.int64)
    out = np.empty(len(pages))
    for t in range(len(pages)):
        counts[pages[t]] += 1
        out[t] = (t + 1) / counts[pages[t]]
    return out
