"""libCacheSim beside ours: the same misses, and our policies inside it."""

from __future__ import annotations

import numpy as np
import pytest

from paperworks.errors import InputError
from paperworks.papers.paging import (
    ARC,
    FIFO,
    LRU,
    S3FIFO,
    Combined,
    FlushWhenAll0s,
    Mark0,
    MarkAndPredict,
    PredictiveMarker,
    Sieve,
    Trace,
    belady,
    flip,
    libcachesim_cache,
    oracle,
    simulate,
    write_oracle_general,
)

lcs = pytest.importorskip("libcachesim")


@pytest.fixture(scope="module")
def replayed(tmp_path_factory):
    """A trace, and a reader of it for libcachesim."""
    trace = Trace.of(np.random.default_rng(0).zipf(1.2, 6000) % 400 + 1)
    path = tmp_path_factory.mktemp("trace") / "t.oracleGeneral"
    write_oracle_general(trace, path)
    parameters = lcs.ReaderInitParam()
    parameters.ignore_obj_size = True
    return trace, lcs.TraceReader(str(path), lcs.TraceType.ORACLE_GENERAL_TRACE, parameters)


def misses_of(cache, reader, requests):
    reader.reset()
    ratio, _ = cache.process_trace(reader)
    return round(ratio * requests)


@pytest.mark.parametrize("k", [20, 60])
def test_same_misses_as_libcachesim(replayed, k):
    trace, reader = replayed
    for theirs, ours in (
        (lcs.LRU(k), simulate(LRU(k), trace).misses),
        (lcs.FIFO(k), simulate(FIFO(k), trace).misses),
        (lcs.Sieve(k), simulate(Sieve(k), trace).misses),
        (lcs.S3FIFO(k), simulate(S3FIFO(k), trace).misses),
        (lcs.ARC(k), simulate(ARC(k), trace).misses),
        (lcs.Belady(k), belady(trace, k).misses),
    ):
        assert misses_of(theirs, reader, len(trace)) == ours


def test_scans_and_shifts_as_in_libcachesim(tmp_path):
    """Loops larger than the cache, a scan and a shift of popularity: what the ghosts of ARC and S3-FIFO are for."""
    rng = np.random.default_rng(3)
    loop = np.tile(np.arange(1, 60), 8)
    trace = Trace.of(np.concatenate([loop, rng.integers(1, 200, 2000), 500 + loop, rng.zipf(1.4, 2000) % 150 + 1]))
    path = tmp_path / "t.oracleGeneral"
    write_oracle_general(trace, path)
    parameters = lcs.ReaderInitParam()
    parameters.ignore_obj_size = True
    reader = lcs.TraceReader(str(path), lcs.TraceType.ORACLE_GENERAL_TRACE, parameters)
    for k in (20, 33, 117):
        assert misses_of(lcs.S3FIFO(k), reader, len(trace)) == simulate(S3FIFO(k), trace).misses
        assert misses_of(lcs.ARC(k), reader, len(trace)) == simulate(ARC(k), trace).misses


def test_our_policies_inside_libcachesim(replayed):
    trace, reader = replayed
    k = 25
    bits = flip(belady(trace, k).discard_labels, 0.1, np.random.default_rng(1))
    times = oracle(trace, k, "next_time")
    for policy, predictions in (
        (FlushWhenAll0s(k, lazy=True), bits),
        (Mark0(k, random_state=5, lazy=True), bits),
        (MarkAndPredict(k, random_state=5), bits),
        (PredictiveMarker(k, random_state=5), times),
        (Combined([FlushWhenAll0s(k), LRU(k)]), bits),
        (LRU(k), None),
        (S3FIFO(k), None),
        (ARC(k), None),
    ):
        expected = simulate(policy, trace, predictions).misses
        assert misses_of(libcachesim_cache(policy, predictions), reader, len(trace)) == expected
    # True bits make libCacheSim's cache optimal.
    optimum = belady(trace, k)
    cache = libcachesim_cache(FlushWhenAll0s(k), optimum.discard_labels)
    assert misses_of(cache, reader, len(trace)) == optimum.misses


def test_missing_predictions():
    with pytest.raises(InputError, match="predictions"):
        libcachesim_cache(FlushWhenAll0s(3))
