"""Studies of the theorems: upper bounds over all small cases and on real traces, and the lower bounds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np

from paperworks import runs
from paperworks.papers.paging import evaluate
from paperworks.papers.paging.bounds import bound, guarantee, harmonic
from paperworks.papers.paging.cases import (
    cases,
    noise_stays_below,
    phases_cost_at_most_k,
    price_of_a_wrong_keep,
)
from paperworks.papers.paging.classical import Marker
from paperworks.papers.paging.exact import (
    MARK0,
    MARK_AND_PREDICT,
    adversarial_sequence,
    all_cruel_sequences,
    worst_case,
)
from paperworks.papers.paging.flush import FlushWhenAll0s
from paperworks.papers.paging.mark0 import Mark0
from paperworks.papers.paging.mark_and_predict import DeterministicMarkAndPredict, MarkAndPredict
from paperworks.papers.paging.optimum import belady, phase_labels, prediction_error
from paperworks.papers.paging.simulation import simulate
from paperworks.papers.paging.trace import Trace

ROUNDING = 1e-9


@runs.study(
    claims=["flush-bound", "mark-and-predict-deterministic"], title="Deterministic bounds, every small case", minutes=1
)
def deterministic_bounds(run: runs.Run, fast: bool) -> Iterator[runs.Finding]:
    """All sequences up to renaming, all bit vectors."""
    claims: tuple[tuple[str, type, Literal["discard", "phase"]], ...] = (
        ("flush-bound", FlushWhenAll0s, "discard"),
        ("mark-and-predict-deterministic", DeterministicMarkAndPredict, "phase"),
    )
    for claim, make, kind in claims:
        for k in (2, 3):
            length = 6 if fast else 9 if k == 2 else 8
            policy = make(k)
            promise = guarantee(policy, k)
            assert promise is not None
            run.step(f"{policy.name}, k = {k}, every sequence of {length} requests")
            found = worst_case(policy, promise, length=length, pages=k + 2, k=k, kind=kind)
            yield runs.Finding(
                claim,
                f"k = {k}: no sequence of {length} requests over {k + 2} pages with any bits costs more than "
                f"{promise.alpha:g} OPT + {promise.beta:g} eta0 + {promise.gamma:g} eta1",
                "exact",
                found.excess,
                "<=",
                0,
                unit="misses above the bound in the worst of all cases",
                detail=f"{found.cases:,} pairs of a sequence and a bit vector.",
            )
    yield from phases_cost_at_most_k(DeterministicMarkAndPredict, "mark-and-predict-deterministic", fast, run)
    for claim, make, kind in claims:
        yield noise_stays_below(claim, make, kind, fast, run, one=True)


@runs.study(claims=["mark0-bound", "mark-and-predict-bound"], title="Expected bounds, every small case", minutes=1.5)
def expected_bounds(run: runs.Run, fast: bool) -> Iterator[runs.Finding]:
    """All sequences, all bit vectors, all random choices; then real traces with flipped bits."""
    claims = (
        ("mark0-bound", MARK0, "Mark0", "discard"),
        ("mark-and-predict-bound", MARK_AND_PREDICT, "Mark&Predict", "phase"),
    )
    for claim, machine, name, kind in claims:
        for k in (2, 3):
            length = 5 if fast else 7 if k == 2 else 6
            promise = guarantee(name, k)
            assert promise is not None
            run.step(f"{name}, k = {k}, every sequence of {length} requests and every random choice")
            found = worst_case(machine, promise, length=length, pages=k + 2, k=k, kind=kind)
            yield runs.Finding(
                claim,
                f"k = {k}: no sequence of {length} requests over {k + 2} pages with any bits costs, in expectation, "
                f"more than {promise.alpha:g} OPT + {promise.beta:.4g} eta0 + {promise.gamma:g} eta1",
                "exact",
                found.excess,
                "<=",
                0,
                unit="expected misses above the bound in the worst of all cases",
                tolerance=ROUNDING,
                detail=f"{found.cases:,} pairs of a sequence and a bit vector, every random choice.",
            )
    yield noise_stays_below("mark0-bound", Mark0, "discard", fast, run)
    yield noise_stays_below("mark-and-predict-bound", MarkAndPredict, "phase", fast, run)
    yield from price_of_a_wrong_keep(fast, run)
    yield from phases_cost_at_most_k(MarkAndPredict, "mark-and-predict-bound", fast, run)
    trace, k = next(iter(cases(fast)))
    wrong = 1 - phase_labels(trace, k).bits
    got, width = evaluate.replays(MarkAndPredict(k), trace, wrong, runs=5)
    marker, _ = evaluate.replays(Marker(k), trace, None, runs=5)
    opt = belady(trace, k).misses
    yield runs.Finding(
        "mark-and-predict-bound",
        f"With every bit wrong it stays within Marker's bound of 2 H_k OPT ({trace.name}, k = {k})",
        "empirical",
        got / opt,
        "<=",
        2 * harmonic(k),
        interval=((got - width) / opt, (got + width) / opt),
        interval_method="95%, Student t",
        n=5,
        n_unit="runs",
        baseline=marker / opt,
        baseline_name="Marker",
        unit="misses per miss of the optimum",
        detail="2 H_k is reached on sequences made against Marker; on a trace it is loose. Tight is the finding that "
        "no phase costs more than k misses, whatever the bits.",
    )


@runs.study(claims=["lower-bounds"], title="The cruel sequence against every deterministic algorithm", minutes=0.3)
def lower_bounds(run: runs.Run, fast: bool) -> Iterator[runs.Finding]:
    """With k + 1 pages the next request is always a page that the algorithm lacks."""
    for k, length in ((2, 12 if fast else 16), (3, 9 if fast else 13)):
        run.step(f"every deterministic algorithm, k = {k}, {length} requests")
        sequences = list(all_cruel_sequences(k, length))
        most = max(belady(Trace.of(s), k).misses for s in sequences)
        yield runs.Finding(
            "lower-bounds",
            f"k = {k}: every deterministic algorithm misses all of {length} requests of its cruel sequence, of which "
            "the optimum misses at most k + (T - k)/k",
            "exact",
            most,
            "<=",
            k + -(-(length - k) // k),
            baseline=length,
            baseline_name="every deterministic algorithm",
            unit="misses of the optimum",
            detail=f"{len(sequences):,} series of eviction choices. As T grows cost / OPT tends to k, with eta1 = 0 "
            "and eta0 <= OPT for bits 0 (alpha + beta >= k), eta0 = 0 and eta1 = T - (OPT - k) for bits 1.",
        )
    k, length = 10, 400 if fast else 4000
    for bit, name in ((0, "alpha + beta"), (1, "alpha + (k - 1) gamma")):
        for policy in (FlushWhenAll0s(k), DeterministicMarkAndPredict(k)):
            trace = Trace.of(adversarial_sequence(policy, length, bit))
            bits = np.full(length, bit, np.uint8)
            misses = simulate(policy, trace, bits).misses
            opt = belady(trace, k).misses
            implied = (misses - k) / (opt - k)
            yield runs.Finding(
                "lower-bounds",
                f"{policy.name}, k = {k}, bits {bit}: its cruel sequence forces {name} >= k",
                "exact",
                implied,
                ">=",
                k,
                unit="misses per eviction of the optimum",
                detail=f"{misses:,} misses of {length:,} requests; the optimum {opt:,}.",
            )
            if policy.name == "FlushWhenAll0s":
                eta0, eta1 = prediction_error(bits, belady(trace, k).discard_labels)
                yield runs.Finding(
                    "lower-bounds",
                    f"FlushWhenAll0s attains its bound there up to k^2: no better bound is possible (bits {bit})",
                    "exact",
                    bound(policy, opt, eta0, eta1, k) - misses,
                    "<=",
                    k * k,
                    unit="misses between the bound and the cost",
                )
