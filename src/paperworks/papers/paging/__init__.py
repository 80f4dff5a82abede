"""Paging with Succinct Predictions (arXiv 2210.02775): online paging with one predicted bit per request.

    from paperworks.papers.paging import FlushWhenAll0s, LRU, Combined, belady, read_trace, simulate

    trace = read_trace("requests.txt")
    optimum = belady(trace, k=100)
    simulate(FlushWhenAll0s(100), trace, optimum.discard_labels).misses == optimum.misses

Policies serve one request at a time too: ``hit = policy.access(page, bit)``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from paperworks.lazy import lazy_imports

if TYPE_CHECKING:
    from paperworks.papers.paging.adaptive import ARC, S3FIFO
    from paperworks.papers.paging.bounds import bound, guarantee
    from paperworks.papers.paging.classical import FIFO, LRU, Marker, RandomEviction, Sieve
    from paperworks.papers.paging.combine import Combined
    from paperworks.papers.paging.flush import FlushWhenAll0s
    from paperworks.papers.paging.layout import Columns
    from paperworks.papers.paging.learned import BitPredictor, HistoryPredictor, LearnedPredictor
    from paperworks.papers.paging.mark0 import Mark0
    from paperworks.papers.paging.mark_and_predict import DeterministicMarkAndPredict, MarkAndPredict
    from paperworks.papers.paging.next_time import (
        BlindOracle,
        FollowPredictionMarking,
        LMarker,
        LNonMarker,
        PredictiveMarker,
    )
    from paperworks.papers.paging.optimum import belady, labels_from_times, phase_labels, prediction_error
    from paperworks.papers.paging.planner import MissRatioCurves, lru_stack_distances, miss_ratio_curves
    from paperworks.papers.paging.plugin import libcachesim_cache
    from paperworks.papers.paging.policy import Policy
    from paperworks.papers.paging.predictions import flip, noisy_times, oracle
    from paperworks.papers.paging.readers import read_trace, write_oracle_general
    from paperworks.papers.paging.samples import sample_trace
    from paperworks.papers.paging.simulation import SimulationResult, simulate
    from paperworks.papers.paging.trace import Trace
    from paperworks.papers.paging.trust_and_doubt import TrustAndDoubt
else:
    __getattr__, __dir__ = lazy_imports(__name__)

__all__ = [
    "ARC",
    "FIFO",
    "LRU",
    "S3FIFO",
    "BitPredictor",
    "BlindOracle",
    "Columns",
    "Combined",
    "DeterministicMarkAndPredict",
    "FlushWhenAll0s",
    "FollowPredictionMarking",
    "HistoryPredictor",
    "LMarker",
    "LNonMarker",
    "LearnedPredictor",
    "Mark0",
    "MarkAndPredict",
    "Marker",
    "MissRatioCurves",
    "Policy",
    "PredictiveMarker",
    "RandomEviction",
    "Sieve",
    "SimulationResult",
    "Trace",
    "TrustAndDoubt",
    "belady",
    "bound",
    "flip",
    "guarantee",
    "labels_from_times",
    "libcachesim_cache",
    "lru_stack_distances",
    "miss_ratio_curves",
    "noisy_times",
    "oracle",
    "phase_labels",
    "prediction_error",
    "read_trace",
    "sample_trace",
    "simulate",
    "write_oracle_general",
]
