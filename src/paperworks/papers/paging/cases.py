"""Material of the studies: the bundled traces as cases, and measurements that several claims share."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from paperworks import runs
from paperworks.papers.paging import evaluate
from paperworks.papers.paging.bounds import bound, harmonic
from paperworks.papers.paging.flush import FlushWhenAll0s
from paperworks.papers.paging.mark0 import Mark0
from paperworks.papers.paging.optimum import belady, phase_labels, prediction_error
from paperworks.papers.paging.policy import Prediction
from paperworks.papers.paging.predictions import flip, oracle
from paperworks.papers.paging.samples import sample_trace
from paperworks.papers.paging.simulation import simulate
from paperworks.papers.paging.trace import Trace

USER_REQUESTS, USER_K = 2100, 10
NOISE = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5)
RUNS, RUNS_OF_MARK0 = 3, 10
"""Runs of a randomised policy behind a mean and its interval."""


def users(fast: bool) -> list[Trace]:
    """The words as users of 2,100 requests each (a few of them when fast)."""
    words = sample_trace("words")
    count = 8 if fast else len(words) // USER_REQUESTS
    return [words.part(i * USER_REQUESTS, (i + 1) * USER_REQUESTS) for i in range(count)]


def cases(fast: bool) -> Iterator[tuple[Trace, int]]:
    """Bundled traces and cache sizes."""
    database, words = sample_trace("database"), sample_trace("words")
    if fast:
        yield database.part(0, 20_000), 30
        yield words.part(0, 20_000), 100
        return
    yield from ((database, k) for k in (10, 50, 200))
    yield from ((words, k) for k in (50, 200, 1000))


def noise_stays_below(
    claim: str, make: type, kind: Prediction, fast: bool, run: runs.Run, one: bool = False
) -> runs.Finding:
    """Real traces with flipped bits: the largest cost over its bound; of a randomised policy the mean of three runs.

    Without a flipped bit some algorithms cost their bound exactly: that share is left out, or it would hide the others.
    """
    rng = run.rng(f"flips {claim}")
    count = 1 if one else RUNS
    worst = (-np.inf, 0.0, 0.0)
    shares = [share for share in NOISE if share]
    for trace, k in cases(fast):
        truth = oracle(trace, k, kind)
        opt = belady(trace, k).misses
        for share in shares:
            bits = flip(truth, share, rng)
            misses, width = evaluate.replays(make(k), trace, bits, runs=count, seed=int(rng.integers(2**32)))
            limit = bound(make(k), opt, *prediction_error(bits, truth), k)
            worst = max(worst, ((misses + width) / limit, misses / limit, width / limit))
    return runs.Finding(
        claim,
        f"{make(2).name} on both traces with {shares[0]:.0%} to {shares[-1]:.0%} of the bits flipped: below its bound",
        "exact" if one else "empirical",
        worst[1],
        "<=",
        1,
        unit="misses over the bound, largest",
        interval=None if one else (worst[1] - worst[2], worst[1] + worst[2]),
        interval_method="" if one else "95%, Student t; the bound is on the expectation",
        n=None if one else RUNS,
        n_unit="" if one else "runs",
    )


def phases_cost_at_most_k(make: type, claim: str, fast: bool, run: runs.Run) -> Iterator[runs.Finding]:
    """Random and all-wrong bits: the most misses in any phase, over k."""
    rng = run.rng(f"phases {claim}")
    most = 0.0
    for trace, k in cases(fast):
        phases = phase_labels(trace, k)
        for bits in (1 - phases.bits, rng.integers(0, 2, len(trace)).astype(np.uint8), np.ones(len(trace), np.uint8)):
            miss = simulate(make(k), trace, bits).per_request_miss
            most = runs.largest((most, float(np.bincount(phases.phase_ids, weights=miss).max() / k)))
    yield runs.Finding(
        claim,
        "Whatever the bits (all wrong, random, all 1), no phase costs more than k misses",
        "exact",
        most,
        "<=",
        1,
        unit="misses of a phase over k, largest",
    )


def price_of_a_wrong_keep(fast: bool, run: runs.Run) -> Iterator[runs.Finding]:
    """Only bits 1 are flipped, to 0: what each costs more than the optimum."""
    rng = run.rng("wrong keeps")
    trace, k = list(cases(fast))[-1]
    optimum = belady(trace, k)
    bits = flip(optimum.discard_labels, 0.05, rng, only=1)
    eta0, _ = prediction_error(bits, optimum.discard_labels)
    flush = (simulate(FlushWhenAll0s(k), trace, bits).misses - optimum.misses) / eta0
    misses, width = evaluate.replays(Mark0(k), trace, bits, runs=RUNS_OF_MARK0)
    mark0 = (misses - optimum.misses) / eta0
    yield runs.Finding(
        "mark0-bound",
        f"A wrong keep bit costs Mark0 at most 2 H_k misses ({trace.name}, k = {k}, 5% of the ones flipped)",
        "empirical",
        mark0,
        "<=",
        2 * harmonic(k),
        interval=(mark0 - width / eta0, mark0 + width / eta0),
        interval_method="95%, Student t",
        n=RUNS_OF_MARK0,
        n_unit="runs",
        baseline=flush,
        baseline_name=f"FlushWhenAll0s, with k - 1 = {k - 1} in its bound",
        unit="misses above the optimum per wrong keep bit",
        detail="The bound is reached on sequences made against the algorithm, as the exact findings above show; on a "
        "trace it is loose, and a tight one would have to know the trace.",
    )
