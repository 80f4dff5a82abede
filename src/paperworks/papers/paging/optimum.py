"""What is known with hindsight: the optimum, the true bits, and how wrong predicted bits are."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from paperworks.errors import InputError
from paperworks.papers.paging.policy import checked_size
from paperworks.papers.paging.state import (
    EVICTED,
    HEAP,
    compiled,
    empty_state,
    heap_add,
    heap_change,
    heap_remove,
    occupy,
    owner_free,
    release,
)
from paperworks.papers.paging.trace import Trace, as_trace, split_into_sets


class Optimum(NamedTuple):
    """The cost of LFD (Belady), which no paging algorithm undercuts, and its discard decisions."""

    misses: int
    per_request_miss: np.ndarray  # bool [T]
    discard_labels: np.ndarray  # uint8 [T]: 1 where LFD evicts the page before its next request


class PhaseLabels(NamedTuple):
    """The k-phases of a trace and the true phase bits."""

    bits: np.ndarray  # uint8 [T]: 1 where the page is not requested in the next phase; 1 in the last phase
    phase_ids: np.ndarray  # int32 [T], from 0
    clean_counts: np.ndarray  # int64 [phases]: distinct pages of each phase that the phase before did not request


def next_requests(trace: Trace) -> np.ndarray:
    """For each request the number of the page's next request, counted from 0; ``T`` if there is none. int64 [T]."""
    return _next_requests(trace.pages, trace.distinct)


def belady(trace: Trace | object, k: int, *, next_request: np.ndarray | None = None, sets: int = 1) -> Optimum:
    """Longest forward distance: on a miss with a full cache, evict the page whose next request is furthest.

    Of several pages that are never requested again the one requested longest ago goes. Time O(T log k), memory
    13 bytes per request; the labels obey ``sum(discard_labels) == misses - k`` when ``misses >= k``.

    Parameters
    ----------
    trace : a Trace, or a sequence of page ids.
    k : slots of the cache.
    next_request : int64 [T], what ``next_requests`` gives, where it is known already (oracleGeneral files hold it).
    sets : as of ``simulate``: the optima of all sets together, each with ``k`` slots.
    """
    trace, k = as_trace(trace), checked_size(k)
    if sets != 1:
        missed, decisions = np.empty(len(trace), np.bool_), np.empty(len(trace), np.uint8)
        for own in split_into_sets(trace, sets):
            _, missed[own], decisions[own] = belady(trace.chosen(own), k)
        return Optimum(int(missed.sum()), missed, decisions)
    if next_request is None:
        next_request = next_requests(trace)
    else:
        next_request = checked_times(next_request, len(trace), "next_request")
        wrong = next_request <= np.arange(len(trace))
        if wrong.any():
            at = int(wrong.argmax())
            raise InputError("next_request", f"{next_request[at]} at request {at}", "a later request")
    k = min(k, max(1, trace.distinct))  # slots that can never be used cost memory only
    miss = np.empty(len(trace), np.bool_)
    labels = np.zeros(len(trace), np.uint8)
    _furthest(empty_state(k, trace.distinct, 0), trace.pages, next_request, miss, labels)
    return Optimum(int(miss.sum()), miss, labels)


def labels_from_times(trace: Trace | object, k: int, predicted_next: np.ndarray) -> np.ndarray:
    """The discard bits of LFD run with predicted instead of true next requests. uint8 [T].

    Parameters
    ----------
    predicted_next : int64 [T], at each request the number of the request at which its page is expected again.
    """
    trace, k = as_trace(trace), checked_size(k)
    times = checked_times(predicted_next, len(trace), "predicted_next")
    labels = np.zeros(len(trace), np.uint8)
    k = min(k, max(1, trace.distinct))
    _furthest(empty_state(k, trace.distinct, 0), trace.pages, times, np.empty(len(trace), np.bool_), labels)
    return labels


def phase_labels(trace: Trace | object, k: int) -> PhaseLabels:
    """Cut the trace into phases of ``k`` distinct pages and say which pages return in the next phase. O(T)."""
    trace, k = as_trace(trace), checked_size(k)
    phases = np.empty(len(trace), np.int32)
    clean = _phases(trace.pages, trace.distinct, k, phases)
    return PhaseLabels(_phase_bits(trace.pages, trace.distinct, phases), phases, clean)


def prediction_error(predicted: np.ndarray, truth: np.ndarray) -> tuple[int, int]:
    """Wrong bits over all requests: ``(eta0, eta1)``.

    ``eta0`` counts bits 0 whose truth is 1 (wrong keep), ``eta1`` bits 1 whose truth is 0 (wrong discard).
    """
    truth = checked_bits(truth, len(truth), "truth")
    predicted = checked_bits(predicted, len(truth), "predicted")
    return int(((predicted == 0) & (truth == 1)).sum()), int(((predicted == 1) & (truth == 0)).sum())


def checked_bits(bits: object, length: int, field: str = "bits") -> np.ndarray:
    """``bits`` as uint8 [length]. Raises InputError with the position of anything that is not 0 or 1."""
    array = np.asarray(bits)
    if array.ndim != 1 or len(array) != length:
        raise InputError(field, f"an array of shape {array.shape}", f"one bit per request: shape ({length},)")
    if array.dtype == np.uint8 and (not length or array.max() <= 1):
        return np.require(array, requirements=["C", "W"])  # see Trace: one type for compiled code
    if array.dtype != np.bool_:
        wrong = ~np.isin(array, (0, 1))
        if wrong.any():
            at = int(wrong.argmax())
            raise InputError(field, f"{array[at : at + 1].tolist()[0]!r} at request {at}", "bits 0 or 1")
    return np.require(array, np.uint8, ["C", "W"])


def checked_times(times: object, length: int, field: str = "times") -> np.ndarray:
    """``times`` as int64 [length]. Raises InputError for another length, NaN, or a kind that is not a number."""
    array = np.asarray(times)
    if array.ndim != 1 or len(array) != length:
        raise InputError(field, f"an array of shape {array.shape}", f"one time per request: shape ({length},)")
    if array.dtype.kind not in "iuf":
        raise InputError(field, f"an array of {array.dtype}", "numbers of requests")
    if array.dtype.kind == "f":
        if np.isnan(array).any():
            raise InputError(field, f"nan at request {int(np.isnan(array).argmax())}", "numbers of requests")
        array = np.clip(array, -(2.0**62), 2.0**62)
    return np.require(array, np.int64, ["C", "W"])


@compiled
def _next_requests(pages, distinct):
    upcoming = np.full(distinct, len(pages), np.int64)
    times = np.empty(len(pages), np.int64)
    for t in range(len(pages) - 1, -1, -1):
        times[t] = upcoming[pages[t]]
        upcoming[pages[t]] = t
    return times


@compiled
def _furthest(state, pages, times, miss, labels):
    """LFD; ``time`` holds the number of the page's latest request, which gets the label when the page goes."""
    st = owner_free(state)
    for t in range(len(pages)):
        st.n[EVICTED] = 0
        slot = st.where[pages[t]]
        miss[t] = slot < 0
        if slot >= 0:
            st.key[slot] = times[t]
            st.time[slot] = t
            heap_change(st, slot)
        else:
            slot = st.n[HEAP]
            if slot == len(st.page):
                slot = np.int64(st.order[0])
                labels[st.time[slot]] = 1
                heap_remove(st, slot)
                release(st, slot)
            occupy(st, slot, pages[t])
            st.key[slot] = times[t]
            st.time[slot] = t
            heap_add(st, slot)


@compiled
def _phases(pages, distinct, k, phases):
    """Write each request's phase into ``phases``; returns the number of clean pages per phase."""
    seen = np.full(distinct, -2, np.int32)  # the latest phase that requested the page
    clean = np.zeros(len(pages) // k + 1, np.int64)
    phase, count = 0, 0
    for t in range(len(pages)):
        page = pages[t]
        if seen[page] != phase:
            if count == k:
                phase += 1
                count = 0
            count += 1
            clean[phase] += seen[page] != phase - 1
            seen[page] = phase
        phases[t] = phase
    return clean[: phase + 1] if len(pages) else clean[:0]


@compiled
def _phase_bits(pages, distinct, phases):
    bits = np.ones(len(pages), np.uint8)
    current = np.full(distinct, -1, np.int32)  # the earliest phase seen so far that requests the page
    later = np.full(distinct, -1, np.int32)  # and the one after it
    for t in range(len(pages) - 1, -1, -1):
        page = pages[t]
        if current[page] != phases[t]:
            later[page] = current[page]
            current[page] = phases[t]
        bits[t] = later[page] != phases[t] + 1
    return bits
