"""What the recipe reports: policies beside each other, flipped bits, bits from a file, bits learned from the past."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from paperworks import runs
from paperworks.papers.paging.bounds import guarantee
from paperworks.papers.paging.learned import BitPredictor, HistoryPredictor, LearnedPredictor, Target
from paperworks.papers.paging.optimum import belady, phase_labels, prediction_error
from paperworks.papers.paging.planner import OPT, half_width, make_policy
from paperworks.papers.paging.policy import Policy
from paperworks.papers.paging.predictions import flip, oracle
from paperworks.papers.paging.simulation import simulate
from paperworks.papers.paging.trace import Trace

SWEPT = ("flush", "mark0", "mark0-lazy", "mark-and-predict", "mark-and-predict-lru", "flush+lru", "flush+lru-random")
BITS = {"discard": ("flush", "flush+lru", "mark0-lazy"), "phase": ("mark-and-predict",)}


def replays(
    policy: Policy, trace: Trace, predictions: np.ndarray | None, *, sets: int = 1, runs: int = 1, seed: int = 0
) -> tuple[float, float]:
    """Mean misses over seeds ``seed``, ``seed + 1``, ..., and half the 95% interval; one replay if deterministic."""
    seeds = range(seed, seed + (runs if policy.randomised else 1))
    misses = [simulate(policy.clone(random_state=s), trace, predictions, sets=sets).misses for s in seeds]
    return float(np.mean(misses)), half_width(misses)


def compare(
    trace: Trace,
    k: int,
    names: Sequence[str],
    *,
    sets: int = 1,
    runs: int = 10,
    seed: int = 0,
    progress: runs.Progress = runs.no_progress,
) -> list[list[Any]]:
    """Rows (policy, misses, half width, bound or None) with true predictions; the optimum comes first."""
    opt = belady(trace, k, sets=sets).misses
    rows: list[list[Any]] = [[OPT, opt, 0.0, opt]]
    truth: dict[str, np.ndarray] = {}
    for name in progress(names, "policies", len(names)):
        policy = make_policy(name, k)
        kind = policy.prediction
        if kind != "none" and kind not in truth:
            truth[kind] = oracle(trace, k, kind, sets=sets)
        misses, width = replays(policy, trace, truth.get(kind), sets=sets, runs=runs, seed=seed)
        promise = guarantee(policy, k)
        rows.append([name, misses, width, promise.alpha * opt if promise else None])
    return rows


def sweep(
    trace: Trace,
    k: int,
    noise: Sequence[float],
    names: Sequence[str] = SWEPT,
    *,
    sets: int = 1,
    runs: int = 10,
    rng: np.random.Generator,
    progress: runs.Progress = runs.no_progress,
) -> list[list[Any]]:
    """Rows (policy, share flipped, kind of bit, misses, half width, eta0, eta1, bound or None)."""
    opt = belady(trace, k, sets=sets).misses
    truth = {kind: oracle(trace, k, kind, sets=sets) for kind in ("discard", "phase")}  # type: ignore[arg-type]
    rows: list[list[Any]] = []
    for share in progress(sorted(set(noise)), "shares of flipped bits", len(set(noise))):
        bits = {kind: flip(true, share, rng) for kind, true in truth.items()}
        seed = int(rng.integers(2**32))
        for name in names:
            policy = make_policy(name, k)
            kind = policy.prediction
            misses, width = replays(policy, trace, bits[kind], sets=sets, runs=runs, seed=seed)
            eta0, eta1 = prediction_error(bits[kind], truth[kind])
            promise = guarantee(policy, k)
            limit = promise.alpha * opt + promise.beta * eta0 + promise.gamma * eta1 if promise else None
            rows.append([name, share, kind, misses, width, eta0, eta1, limit])
    return sorted(rows, key=lambda row: names.index(row[0]))


def own_bits(
    trace: Trace, k: int, bits: np.ndarray, kind: Literal["discard", "phase"], sets: int, count: int, seed: int
) -> runs.Table:
    """What the user's bits give: the policies that take them, with errors and bounds."""
    opt = belady(trace, k, sets=sets).misses
    eta0, eta1 = prediction_error(bits, oracle(trace, k, kind, sets=sets))
    names = [name for name in SWEPT if make_policy(name, k).prediction == kind]
    rows: list[list[Any]] = []
    for name in names:
        policy = make_policy(name, k)
        misses, width = replays(policy, trace, bits, sets=sets, runs=count, seed=seed)
        promise = guarantee(policy, k)
        limit = promise.alpha * opt + promise.beta * eta0 + promise.gamma * eta1 if promise else None
        rows.append([name, misses, width, misses / opt, limit])
    return runs.Table(
        f"Your {kind} bits",
        ["policy", "misses", "± (95%)", "ratio to OPT", "bound"],
        rows,
        f"{eta0:,} wrong keep bits (eta0) and {eta1:,} wrong discard bits (eta1) among {len(trace):,} requests.",
    )


def learned(
    trace: Trace,
    k: int,
    share: float,
    seed: int,
    folder: Path | None = None,
    progress: runs.Progress = runs.no_progress,
) -> list[list[Any]]:
    """Rows (predictor and policy, AUC, misses, LRU's, OPT's, share of the gap closed) on the part after ``share``.

    Predictors are fitted on the first part. The trained ones are saved into ``folder`` if it is given.
    """
    from sklearn.metrics import roc_auc_score

    cut = min(len(trace) - 1, max(4, int(share * len(trace))))
    first, rest = trace.part(0, cut), trace.part(cut, len(trace))
    opt = belady(rest, k).misses
    lru = simulate(make_policy("lru", k), rest).misses
    targets: tuple[Target, ...] = ("discard", "phase")
    predictors: list[tuple[str, BitPredictor]] = [
        (f"{rule} ({target})", make)
        for target in targets
        for rule, make in (
            ("trees", LearnedPredictor(target, random_state=seed)),
            ("pleco", HistoryPredictor("pleco", target)),
            ("popu", HistoryPredictor("popu", target)),
        )
    ]
    rows: list[list[Any]] = []
    for label, predictor in progress(predictors, "predictors of the bit", len(predictors)):
        predictor.fit(first, k)
        # The whole trace is scored, so that the rest is predicted with the pages' histories in the first part.
        scores = predictor.scores(trace)[cut:]
        bits = (scores >= predictor.threshold_).astype(np.uint8)
        truth = belady(rest, k).discard_labels if predictor.target == "discard" else phase_labels(rest, k).bits
        auc = float(roc_auc_score(truth, scores)) if 0 < truth.sum() < len(truth) else None
        for name in BITS[predictor.target]:
            misses, _ = replays(make_policy(name, k), rest, bits, runs=3, seed=seed)
            closed = (lru - misses) / (lru - opt) if lru > opt else None
            rows.append([f"{label}, {name}", auc, misses, lru, opt, closed])
        if folder is not None and isinstance(predictor, LearnedPredictor):
            path = folder / f"{predictor.target}_predictor.joblib"
            path.unlink(missing_ok=True)
            predictor.save(path)
    return rows
