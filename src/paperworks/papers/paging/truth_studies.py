"""Studies of true bits on the bundled traces, and of bits learned from the past."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from paperworks import runs
from paperworks.metrics import mean_interval
from paperworks.papers.paging import evaluate
from paperworks.papers.paging.cases import (
    USER_K,
    cases,
    users,
)
from paperworks.papers.paging.classical import LRU, Marker
from paperworks.papers.paging.flush import FlushWhenAll0s
from paperworks.papers.paging.mark0 import Mark0
from paperworks.papers.paging.mark_and_predict import MarkAndPredict
from paperworks.papers.paging.optimum import belady, phase_labels
from paperworks.papers.paging.planner import make_policy
from paperworks.papers.paging.samples import sample_trace
from paperworks.papers.paging.simulation import simulate


@runs.study(
    claims=["perfect-discard-bits", "perfect-phase-bits", "discard-labels", "room-for-prediction"],
    title="True bits on real traces",
    minutes=1,
)
def true_bits(run: runs.Run, fast: bool) -> Iterator[runs.Finding]:
    """The optimum exactly, the clean pages exactly, and what the classical policies cost."""
    worst: dict[str, float] = {"FlushWhenAll0s": 0, "Mark0": 0, "labels": 0, "Mark&Predict": 0}
    lru_over_opt, best_over_opt, cheapest = [], [], []
    seeds = 2 if fast else 5
    for trace, k in run.progress(list(cases(fast)), "traces and sizes"):
        optimum, phases = belady(trace, k), phase_labels(trace, k)
        opt = optimum.misses
        worst["labels"] = max(worst["labels"], abs(int(optimum.discard_labels.sum(dtype=np.int64)) - (opt - k)))
        flush = simulate(FlushWhenAll0s(k), trace, optimum.discard_labels).misses
        worst["FlushWhenAll0s"] = runs.largest((worst["FlushWhenAll0s"], abs(flush - opt)))
        clean = int(phases.clean_counts.sum())
        for seed in range(seeds):
            mark0 = simulate(Mark0(k, random_state=seed), trace, optimum.discard_labels).misses
            predict = simulate(MarkAndPredict(k, random_state=seed), trace, phases.bits).misses
            worst["Mark0"] = runs.largest((worst["Mark0"], abs(mark0 - opt)))
            worst["Mark&Predict"] = runs.largest((worst["Mark&Predict"], abs(predict - clean)))
        classical = {
            n: evaluate.replays(make_policy(n, k), trace, None, runs=2)[0] for n in ("lru", "fifo", "sieve", "marker")
        }
        lru_over_opt.append(classical["lru"] / opt)
        best_over_opt.append(min(classical.values()) / opt)
        cheapest.append(min(classical, key=lambda n: classical[n]))
    ratio = float(np.exp(np.mean(np.log(lru_over_opt))))
    for name in ("FlushWhenAll0s", "Mark0"):
        yield runs.Finding(
            "perfect-discard-bits",
            f"{name} with true discard bits misses exactly as often as the optimum on both traces at every size",
            "exact",
            worst[name],
            "==",
            0,
            baseline=ratio,
            baseline_name="LRU over OPT, geometric mean",
            unit="largest difference, misses",
        )
    totals = {"opt": 0, "flush": 0, "mark0": 0, "predict": 0, "clean": 0, "lru": 0, "marker": 0.0}
    for user in run.progress(users(fast), "users of 2,100 requests"):
        optimum, phases = belady(user, USER_K), phase_labels(user, USER_K)
        totals["opt"] += optimum.misses
        totals["flush"] += simulate(FlushWhenAll0s(USER_K), user, optimum.discard_labels).misses
        totals["mark0"] += simulate(Mark0(USER_K), user, optimum.discard_labels).misses
        totals["predict"] += simulate(MarkAndPredict(USER_K), user, phases.bits).misses
        totals["clean"] += int(phases.clean_counts.sum())
        totals["lru"] += simulate(LRU(USER_K), user).misses
        totals["marker"] += evaluate.replays(Marker(USER_K), user, None, runs=3)[0]
    for name, label in (("flush", "FlushWhenAll0s"), ("mark0", "Mark0")):
        yield runs.Finding(
            "perfect-discard-bits",
            f"{label}, {USER_K} slots, users of 2,100 words: all misses with true discard bits",
            "exact",
            totals[name],
            "==",
            totals["opt"],
            baseline=totals["lru"],
            baseline_name="LRU",
            unit="misses",
            detail=f"Marker {totals['marker']:,.0f}.",
        )
    yield runs.Finding(
        "perfect-phase-bits",
        "Mark&Predict with true phase bits misses exactly the clean pages, on both traces, at every size and seed",
        "exact",
        worst["Mark&Predict"],
        "==",
        0,
        unit="largest difference, misses",
    )
    yield runs.Finding(
        "perfect-phase-bits",
        f"Mark&Predict, {USER_K} slots, users of 2,100 words: all misses with true phase bits",
        "exact",
        totals["predict"],
        "==",
        totals["clean"],
        baseline=totals["opt"],
        baseline_name="OPT",
        unit="misses",
    )
    yield runs.Finding(
        "discard-labels",
        "The true discard bits have OPT - k ones on both traces at every size",
        "exact",
        worst["labels"],
        "==",
        0,
        unit="largest difference",
    )
    yield runs.Finding(
        "room-for-prediction",
        "The best of LRU, FIFO, SIEVE and Marker misses at least 1.2 times as often as the optimum, at every size",
        "empirical",
        runs.smallest(best_over_opt),
        ">=",
        1.2,
        baseline=ratio,
        baseline_name="LRU over OPT, geometric mean",
        deterministic="fixed traces; the best of them at each size, named below, choose nothing at random",
        unit="misses per miss of the optimum, smallest over the sizes",
        detail=f"The best were {', '.join(cheapest)}.",
    )


@runs.study(claims=["room-for-prediction"], title="Bits learned from the past", minutes=1)
def learned_bits(run: runs.Run, fast: bool) -> Iterator[runs.Finding]:
    """Trees trained on the first half of the words predict the discard bits of the second half."""
    trace = sample_trace("words")
    trace, k = (trace.part(0, 30_000), 100) if fast else (trace, 200)
    seeds = range(2 if fast else 3)
    each = [{r[0]: r for r in evaluate.learned(trace, k, 0.5, seed, None, run.progress)} for seed in seeds]
    trees = [rows["trees (discard), flush+lru"] for rows in each]
    lru, opt = trees[0][3:5]
    yield runs.Finding(
        "room-for-prediction",
        f"Discard bits learned from the first half of the words are better than chance on the second (k = {k})",
        "empirical",
        None if any(row[1] is None for row in trees) else mean_interval([row[1] for row in trees]),
        ">",
        0.6,
        baseline=each[0]["popu (discard), flush+lru"][1],
        baseline_name="POPU",
        unit="area under the ROC curve",
    )
    yield runs.Finding(
        "room-for-prediction",
        f"FlushWhenAll0s with these bits, combined with LRU, misses less often than LRU (k = {k})",
        "empirical",
        mean_interval([row[2] / lru for row in trees]),
        "<",
        1,
        baseline=lru,
        baseline_name="LRU, misses",
        unit="misses over LRU's",
        detail=f"The optimum {opt:,}: {np.mean([row[5] for row in trees]):.1%} of LRU's gap is closed.",
    )
